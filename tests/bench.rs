//! The bench of the program: every scenario by every door, every message accounted for, and a report of the shape that `--help` promises.

mod support;

use std::{fs, path::PathBuf};

use serde_json::Value;
use support::{TestServer, authority::Authority, process::switchboard};
use tempfile::TempDir;

const DOORS: [&str; 3] = ["json", "msgpack", "webtransport"];

fn bench(arguments: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = switchboard(&directory).arg("bench").args(arguments).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.success(), if output.status.success() { stdout } else { stderr })
}

/// What a run tells that has passed.
fn report(arguments: &[&str]) -> Value {
    let (passed, told) = bench(&[arguments, &["--json"]].concat());
    assert!(passed, "{arguments:?}: {told}");
    let report: Value = serde_json::from_str(&told).unwrap();
    for fault in ["lost", "duplicated", "misordered", "astray"] {
        assert_eq!(report[fault], 0, "{arguments:?}: {report}");
    }
    assert!(report["connections"].as_u64() > Some(0) && report["plan"].is_string(), "{report}");
    if cfg!(target_os = "linux") {
        assert!(report["server"]["cpuPercent"].is_number() && report["engineLoad"].is_number(), "{report}");
    }
    report
}

/// What a run tells in which something was to arrive.
fn delivered(arguments: &[&str]) -> u64 {
    let report = report(arguments);
    let delivered = report["delivered"].as_u64().unwrap();
    assert!(delivered > 0 && report["latencyMicros"]["p50"].is_u64(), "{report}");
    if cfg!(target_os = "linux") {
        assert!(report["server"]["cpuMicrosPerMessage"].as_f64() > Some(0.0), "{report}");
    }
    let moments = report["overTime"].as_array().unwrap();
    assert!(moments[0]["second"] == 0.0 && moments[0]["deliveredPerSecond"].is_number() && moments[0]["p99"].is_u64(), "{report}");
    delivered
}

#[test]
fn signals_arrive_by_every_door_at_a_rate_and_as_fast_as_it_goes() {
    for door in DOORS {
        for (scenario, pace) in [("offers", ["--rate", "500"]), ("candidates", ["--in-flight", "2"])] {
            delivered(&[&["--scenario", scenario, "--seconds", "0.3", "--pairs", "4", "--door", door], &pace[..]].concat());
        }
    }
}

#[test]
fn doors_meet() {
    delivered(&["--scenario", "mixed", "--seconds", "0.3", "--pairs", "2", "--rate", "200"]);
}

#[test]
fn tls_is_one_flag() {
    for door in DOORS {
        delivered(&["--tls", "--seconds", "0.3", "--pairs", "2", "--rate", "200", "--door", door]);
    }
}

#[test]
fn each_delivery_of_a_broadcast_counts() {
    for door in DOORS {
        for pace in [["--rate", "100"], ["--in-flight", "2"]] {
            let arguments = ["--scenario", "broadcast", "--seconds", "0.3", "--rooms", "2", "--members", "5", "--door", door];
            delivered(&[&arguments, &pace[..]].concat());
        }
    }
}

#[test]
fn each_notice_of_who_comes_and_goes_counts() {
    for door in DOORS {
        for pace in [["--rate", "100"], ["--in-flight", "2"]] {
            let arguments = ["--scenario", "churn", "--seconds", "0.3", "--rooms", "2", "--members", "4", "--door", door];
            delivered(&[&arguments, &pace[..]].concat());
        }
    }
}

#[test]
fn clients_come_in_and_come_back() {
    for door in DOORS {
        assert_eq!(delivered(&["--scenario", "connect", "--clients", "20", "--door", door]), 20);
        assert_eq!(delivered(&["--scenario", "resume", "--clients", "20", "--door", door]), 20);
    }
    assert_eq!(delivered(&["--scenario", "connect", "--clients", "20", "--rate", "200"]), 20);
}

#[test]
fn idle_clients_tell_their_memory() {
    for door in DOORS {
        let report = report(&["--scenario", "idle", "--clients", "20", "--seconds", "0.2", "--door", door]);
        assert_eq!((&report["delivered"], &report["connections"]), (&0.into(), &20.into()));
        if cfg!(target_os = "linux") {
            assert!(report["server"]["bytesPerConnection"].as_f64() > Some(0.0), "{report}");
        }
    }
}

#[test]
fn a_server_that_runs_already_is_measured_under_tls_too() {
    let authority = Authority::new();
    let server = TestServer::with(|config| {
        config.rates = switchboard::config::Rates::Off;
    });
    delivered(&[server.base(), "--seconds", "0.2", "--pairs", "2", "--rate", "100", "--pid", &std::process::id().to_string()]);

    let files = tempfile::tempdir().unwrap();
    authority.sign(files.path());
    let server = TestServer::with(|config| {
        config.rates = switchboard::config::Rates::Off;
        config.tls_cert = Some(files.path().join("chain.pem"));
        config.tls_key = Some(files.path().join("key.pem"));
    });
    let root = pem(&files, &authority);
    let arguments = [server.base(), "--seconds", "0.2", "--pairs", "2", "--rate", "100", "--json"];
    let (passed, told) = bench(&[&arguments[..], &["--ca", root.to_str().unwrap()]].concat());
    assert!(passed, "{told}");
    let report: Value = serde_json::from_str(&told).unwrap();
    assert!(report["server"].is_null() && report["plan"].as_str().unwrap().contains("TLS"), "{report}");
    let (passed, _) = bench(&arguments);
    assert!(!passed, "nobody vouches for that certificate");
}

fn pem(directory: &TempDir, authority: &Authority) -> PathBuf {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let file = directory.path().join("root.pem");
    let text = BASE64_STANDARD.encode(&authority.root);
    fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")).unwrap();
    file
}

#[test]
fn a_report_is_one_file_that_needs_no_other() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["report.html", "report.svg"] {
        let file = directory.path().join(name);
        let (passed, told) = bench(&["--seconds", "0.3", "--pairs", "2", "--rate", "500", "--report", file.to_str().unwrap()]);
        assert!(passed && told.contains("0 lost"), "{told}");
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("2 pairs") && text.matches("<polyline").count() >= 3, "{text}");
        assert!(text.contains("percentile") && text.contains("delivered a second") && text.contains("seconds"), "{text}");
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http") && !elsewhere.contains("src="), "{text}");
    }
}

#[test]
fn what_does_not_fit_is_named_with_its_value() {
    for (arguments, named) in [
        (&["http://127.0.0.1:1"][..], "127.0.0.1:1"),
        (&["--scenario", "broadcast", "--pairs", "5"], "--pairs 5"),
        (&["--scenario", "connect", "--seconds", "5"], "--seconds 5"),
        (&["--scenario", "resume", "--rate", "5"], "--rate 5"),
        (&["--scenario", "mixed", "--door", "msgpack"], "--door msgpack"),
        (&["--scenario", "idle", "--clients", "21"], "--clients 21"),
        (&["--scenario", "broadcast", "--rooms", "1000", "--members", "500"], "--rooms 1000"),
        (&["--members", "1", "--scenario", "churn"], "1 is not in 2..=1000"),
        (&["--report", "plot.png"], "plot.png"),
        (&["--seconds", "0.2", "--pairs", "1", "--report", "no/such/directory/r.svg"], "no/such/directory/r.svg"),
        (&["http://127.0.0.1:1", "--ca", "no.pem"], "--ca no.pem"),
        (&["http://127.0.0.1:1", "--tls"], "--tls"),
        (&["--rate", "0"], "--rate"),
    ] {
        let (passed, told) = bench(arguments);
        assert!(!passed && told.contains(named), "{arguments:?}: {told}");
    }
}
