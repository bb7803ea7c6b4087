//! The bench of the program: every message arrives, and what it tells has the shape that it promises.

mod support;

use serde_json::Value;
use support::process::switchboard;

fn bench(arguments: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = switchboard(&directory).arg("bench").args(arguments).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.success(), if output.status.success() { stdout } else { stderr })
}

#[test]
fn every_message_arrives_by_every_door_at_a_rate_and_as_fast_as_it_goes() {
    for door in ["json", "msgpack", "webtransport"] {
        for pace in [["--rate", "500"], ["--in-flight", "2"]] {
            let (passed, told) = bench(&[&["--seconds", "0.5", "--pairs", "4", "--door", door, "--json"], &pace[..]].concat());
            assert!(passed, "{told}");
            let report: Value = serde_json::from_str(&told).unwrap();
            assert!(report["delivered"].as_u64() > Some(0) && report["latencyMicros"]["p50"].is_u64(), "{report}");
            assert_eq!((&report["lost"], &report["outOfOrder"]), (&0.into(), &0.into()), "{report}");
            assert!(report["server"]["cpuMicrosPerMessage"].as_f64() > Some(0.0), "{report}");
        }
    }
}

#[test]
fn where_no_server_is_it_says_so() {
    let (passed, told) = bench(&["http://127.0.0.1:1", "--seconds", "0.5"]);
    assert!(!passed && told.contains("127.0.0.1:1"), "{told}");
}
