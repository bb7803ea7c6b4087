//! The files of `deploy`: they agree with the server's defaults, and the programs that they are for take them. Those have to be installed, as
//! `tests/run` does, which then runs the tests that need them; `cargo test` alone leaves these out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use switchboard::Config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(file: &str) -> String {
    fs::read_to_string(root().join("deploy").join(file)).unwrap()
}

/// Runs a program, which has to be content: what it said.
fn content(program: &str, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(status.success(), "{program}: {said}");
    said
}

/// What a unit of systemd says of a setting.
fn unit_says<'a>(unit: &'a str, setting: &str) -> &'a str {
    let line = unit.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit says nothing of {setting}"))
}

#[test]
fn the_unit_leaves_time_for_a_shutdown_and_files_for_every_client() {
    let (unit, config) = (shipped("switchboard.service"), Config::default());
    let patience_ms = 1000 * unit_says(&unit, "TimeoutStopSec").parse::<u64>().unwrap();
    assert!(patience_ms > config.timeouts.shutdown_grace_ms + 500);
    let files: usize = unit_says(&unit, "LimitNOFILE").parse().unwrap();
    assert!(files > config.limits.clients_max + 2000);
    // What the unit calls the directory of the certificate is where the program looks for it.
    assert_eq!(unit_says(&unit, "WorkingDirectory"), format!("%S/{}", unit_says(&unit, "StateDirectory")));
    assert!(config.cert_dir.is_relative());
}

#[test]
#[ignore = "needs systemd's programs: tests/run"]
fn systemd_takes_the_unit_and_finds_it_little_exposed() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("switchboard.service");
    // It asks whether the program is there.
    fs::write(&unit, shipped("switchboard.service").replace("/usr/local/bin/switchboard", env!("CARGO_BIN_EXE_switchboard"))).unwrap();
    let said = content("systemd-analyze", Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    assert_eq!(said, "", "it warns of what it does not know, and goes on");
    // Of 100: what is left is that the program speaks to the network.
    content(
        "systemd-analyze",
        Command::new("systemd-analyze").args(["security", "--no-pager", "--offline=true", "--threshold=15"]).arg(&unit),
    );
}

/// The files that an image is built from, relative to the root, as `.dockerignore` leaves them. It says names, `NAME/*` and `**/NAME`.
fn build_context() -> Vec<PathBuf> {
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let is_ignored = |path: &Path| {
        ignored.iter().any(|pattern| match (pattern.strip_prefix("**/"), pattern.strip_suffix("/*")) {
            (Some(name), _) => path.file_name().is_some_and(|found| found == name),
            (None, Some(folder)) => path.parent() == Some(Path::new(folder)),
            (None, None) => path == Path::new(pattern),
        })
    };
    let (mut folders, mut files) = (vec![PathBuf::new()], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if is_ignored(&path) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// Cargo looks for every file that the manifest names, benches too.
#[test]
fn the_image_is_built_from_all_that_cargo_asks_for_and_from_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let files = build_context();
    for file in &files {
        let copy = directory.path().join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(root().join(file), copy).unwrap();
    }
    let mut cargo = Command::new(env!("CARGO"));
    content(
        "cargo",
        cargo.current_dir(&directory).args(["metadata", "--quiet", "--no-deps", "--offline", "--locked", "--format-version=1"]),
    );
    for part in ["src", "web"] {
        assert!(files.iter().any(|file| file.starts_with(part)), "{part}");
    }
    let secret = files.iter().find(|file| file.extension().is_some_and(|extension| extension == "pem" || extension == "key"));
    assert_eq!(secret, None);
    assert!(files.len() < 500, "{} files", files.len());
}

#[test]
fn the_image_serves_the_default_port_on_tcp_and_udp_as_nobody() {
    let dockerfile = shipped("Dockerfile");
    let says = |line: &str| assert!(dockerfile.lines().any(|found| found == line), "{line}");
    let port = Config::default().listen.addresses()[0].port();
    says(&format!("ENV SWITCHBOARD_LISTEN=:{port}"));
    says(&format!("EXPOSE {port}/tcp {port}/udp"));
    says("FROM scratch");
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id != 0)), "{user}");
    let number = |version: &str| version.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    let rust = dockerfile.lines().find_map(|line| line.strip_prefix("FROM rust:")?.strip_suffix("-alpine AS build")).unwrap();
    assert!(number(rust) >= number(env!("CARGO_PKG_RUST_VERSION")), "{rust}");
}

#[test]
#[ignore = "needs promtool: tests/run"]
fn prometheus_takes_its_settings_and_the_alerts_go_off_when_they_should() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["prometheus.yml", "alerts.yml", "alerts.test.yml"] {
        fs::write(directory.path().join(file), shipped(file)).unwrap();
    }
    fs::write(directory.path().join("admin-token"), "secret").unwrap();
    for arguments in [&["check", "config", "prometheus.yml"][..], &["test", "rules", "alerts.test.yml"]] {
        content("promtool", Command::new("promtool").current_dir(&directory).args(arguments));
    }
    // Each alert is in the tests.
    let tests = shipped("alerts.test.yml");
    let alerts = shipped("alerts.yml");
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 5);
    for name in names {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name}");
    }
}
