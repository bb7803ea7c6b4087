//! The bench of the program: every scenario by every door, every message accounted for, and a report of the shape that `--help` promises.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{DEADLINE, TestServer, authority::Authority, process::switchboard};
use tempfile::TempDir;

const DOORS: [&str; 3] = ["json", "msgpack", "webtransport"];

fn bench(arguments: &[&str]) -> (bool, String) {
    let (status, stdout, stderr) = run(arguments);
    (status == Some(0), if status == Some(0) { stdout } else { stderr })
}

/// The exit status, and what it printed and logged.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let files = ["stdout", "stderr"].map(|name| directory.path().join(name));
    let [stdout, stderr] = files.each_ref().map(|file| Stdio::from(fs::File::create(file).unwrap()));
    let mut child = switchboard(&directory).arg("bench").args(arguments).stdout(stdout).stderr(stderr).spawn().unwrap();
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > 2 * DEADLINE {
            child.kill().unwrap();
            panic!("{arguments:?}: it does not end");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let [stdout, stderr] = files.map(|file| fs::read_to_string(file).unwrap());
    (status.code(), stdout, stderr)
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
        let arguments = ["--tls", "--seconds", "0.3", "--pairs", "2", "--rate", "200", "--door", door];
        let report = report(&arguments);
        assert!(report["delivered"].as_u64() > Some(0) && report["plan"].as_str().unwrap().contains(", TLS,"), "{report}");
    }
}

#[test]
fn a_fault_is_an_exit_status_of_1_and_told() {
    let server = TestServer::without_rates();
    let url = doubling(server.base().trim_start_matches("http://").to_owned());
    let (status, told, log) = run(&[&url, "--scenario", "candidates", "--seconds", "0.5", "--pairs", "1", "--rate", "50", "--json"]);
    assert_eq!(status, Some(1), "{told}{log}");
    let report: Value = serde_json::from_str(&told).unwrap();
    assert!(report["duplicated"] == 1 && report["lost"] == 0 && log.contains("1 duplicated"), "{report}{log}");
}

/// The URL of a network that brings one message twice, on the way to its receiver. It works until the tests are over.
fn doubling(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let doubled = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server, doubled) = (client.unwrap(), TcpStream::connect(&server).unwrap(), doubled.clone());
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(std::net::Shutdown::Write);
            });
            thread::spawn(move || carry_down(server, client, &doubled));
        }
    });
    url
}

fn carry_down(mut from: TcpStream, mut to: TcpStream, doubled: &std::sync::atomic::AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..length];
        // A text frame of 126 to 65,535 bytes, with a marker, and nothing else.
        let is_message = bytes.starts_with(&[0x81, 126]) && length == 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let is_doubled =
            is_message && memchr::memmem::find(bytes, b"@@").is_some() && !doubled.swap(true, std::sync::atomic::Ordering::Relaxed);
        for _ in 0..1 + usize::from(is_doubled) {
            if to.write_all(bytes).is_err() {
                return;
            }
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
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
        (&["--in-flight", "10000", "--bytes", "60000"], "--in-flight 10000 of --bytes 60000"),
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
