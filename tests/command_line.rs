//! The program as a person meets it: help, the printed URL, the configuration file, what is said when something is wrong, and its end.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{
    authority::Authority,
    process::{ServerProcess, switchboard},
};
use tempfile::TempDir;

fn run(directory: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = ended(switchboard(directory).args(arguments));
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// What a command that is to end by itself has said; one that serves instead is ended.
fn ended(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > support::DEADLINE {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Whoever runs it has firewalls to open, and clients to be told the right address.
#[test]
fn with_turn_it_prints_by_what_addresses_clients_are_told_of_it_and_warns_of_inner_ones() {
    for (external, is_warned) in [("10.1.2.3", true), ("203.0.113.9", true), ("9.9.9.9", false)] {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut child = switchboard(&directory)
            .args(["--listen", "0.0.0.0:0", "--turn", "--turn-listen", "127.0.0.1:0", "--turn-external-ip", external])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || drop(sender.send(BufReader::new(stdout).lines().nth(2))));
        let line = receiver.recv_timeout(support::DEADLINE).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let line = line.expect("a third line").unwrap();
        assert!(line.starts_with(&format!("Its STUN and TURN server: turn:{external}:")), "{line}");
        assert!(line.ends_with("; relays have the UDP ports 49152-65535"), "{line}");
        // It is said before anything is printed.
        let said = fs::read_to_string(&log).unwrap();
        assert_eq!(said.contains("set turn.external_ip"), is_warned, "{external}: {said}");
    }
}

#[test]
fn without_arguments_it_serves_localhost_and_prints_the_url_to_open() {
    let directory = tempfile::tempdir().unwrap();
    // Port 8080 may be in use where the tests run; everything else is as it is by default.
    let server = ServerProcess::start(switchboard(&directory).env("SWITCHBOARD_LISTEN", "localhost:0"), &directory);
    assert!(server.url().starts_with("http://localhost:"), "{}", server.url());
    TcpStream::connect(server.authority()).unwrap();
    let certs: Vec<_> = fs::read_dir(directory.path().join("certs")).unwrap().collect();
    assert_eq!(certs.len(), 2);
    server.signal("-TERM");
    let (status, log) = server.end();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("shut down"), "{log}");
}

#[test]
fn it_ends_on_an_interrupt_as_well_and_logs_json_on_demand() {
    let directory = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(switchboard(&directory).args(["--listen", "127.0.0.1:0", "--log-format", "json"]), &directory);
    server.signal("-INT");
    let (status, log) = server.end();
    assert_eq!(status, Some(0), "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_clients() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("SWITCHBOARD_TIMEOUTS_SHUTDOWN_GRACE_MS", "3600000"), ("SWITCHBOARD_TIMEOUTS_CLOSE_MS", "60000")];
    let mut command = switchboard(&directory);
    let server = ServerProcess::start(command.args(["--listen", "127.0.0.1:0"]).envs(settings), &directory);
    // A client that does not read its goodbye.
    let mut client = TcpStream::connect(server.authority()).unwrap();
    let handshake = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(handshake.as_bytes()).unwrap();
    client.read_exact(&mut [0; 12]).unwrap();
    server.signal("-TERM");
    server.logs("shutting down");
    server.signal("-TERM");
    let (_, log) = server.end();
    assert!(log.contains("a second signal"), "{log}");
}

/// The program, where the shell allows so few open files.
fn with_open_files(limit: &str, settings: &[(&str, &str)], directory: &TempDir) -> ServerProcess {
    let start = format!("ulimit {limit} && exec \"$0\" --listen 127.0.0.1:0");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &start, env!("CARGO_BIN_EXE_switchboard")]).current_dir(directory.path()).env_clear().stdin(Stdio::null());
    shell.envs(settings.iter().copied());
    ServerProcess::start(&mut shell, directory)
}

#[test]
fn it_opens_as_many_files_as_it_may_and_says_when_clients_may_be_more() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_open_files("-S -n 64", &[], &directory);
    let connections: Vec<_> = (0..100).map(|_| TcpStream::connect(server.authority()).unwrap()).collect();
    for mut connection in &connections {
        connection.set_read_timeout(Some(support::DEADLINE)).unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        connection.read_exact(&mut [0; 12]).unwrap();
    }
    let server = with_open_files("-n 64", &[], &directory);
    server.logs("limits.clients_max is more than the files");
    let with_turn = [
        ("SWITCHBOARD_LIMITS_CLIENTS_MAX", "10"),
        ("SWITCHBOARD_TURN_ENABLED", "true"),
        ("SWITCHBOARD_TURN_LISTEN", "127.0.0.1:0"),
        ("SWITCHBOARD_TURN_ALLOCATIONS_MAX", "1000"),
    ];
    let server = with_open_files("-n 200", &with_turn, &directory);
    server.logs("limits.clients_max and turn.allocations_max are more than the files");
}

#[test]
fn the_printed_configuration_is_taken_back_and_a_flag_beats_environment_beats_file() {
    let directory = tempfile::tempdir().unwrap();
    let (status, manual, _) = run(&directory, &["config"]);
    assert_eq!(status, Some(0));
    fs::write(directory.path().join("a.toml"), manual).unwrap();
    assert_eq!(run(&directory, &["config", "--check", "a.toml"]), (Some(0), "a.toml: fine\n".into(), String::new()));
    fs::write(directory.path().join("b.toml"), "listen = \"localhost:0\"\ncert_dir = \"from-file\"\nlog = \"off\"\n").unwrap();
    let mut command = switchboard(&directory);
    command.args(["--config", "b.toml", "--listen", "127.0.0.1:0"]).env("SWITCHBOARD_CERT_DIR", "from-environment");
    let server = ServerProcess::start(&mut command, &directory);
    assert!(server.url().starts_with("http://127.0.0.1:"), "{}", server.url());
    assert!(directory.path().join("from-environment").exists() && !directory.path().join("from-file").exists());
    server.signal("-TERM");
    assert_eq!(server.end(), (Some(0), String::new()), "the file's `log` holds");
}

/// Whoever passes on a variable that nobody has set, or misspells one, believes that the server is closed.
#[test]
fn it_says_who_may_come_in_and_does_not_start_open_by_a_slip() {
    let directory = tempfile::tempdir().unwrap();
    let of = |settings: &[(&str, &str)]| {
        let mut command = switchboard(&directory);
        let server = ServerProcess::start(command.args(["--listen", "127.0.0.1:0"]).envs(settings.iter().copied()), &directory);
        server.logs("clients are taken");
        assert!(server.log().contains(&format!("admits=\"{}\"", server.admits().trim_end_matches('.'))), "{}", server.log());
        server.admits().to_owned()
    };
    assert_eq!(of(&[("SWITCHBOARD_PORT", "tcp://10.0.0.7:8080"), ("SWITCHBOARD_SERVICE_HOST", "10.0.0.7")]), "Anybody may come in.");
    let (status, said, _) = run(&directory, &["keys", "--out", "mine"]);
    assert_eq!(status, Some(0));
    let keys = said.split("SWITCHBOARD_AUTH_KEYS=").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(of(&[("SWITCHBOARD_AUTH_KEYS", keys)]), "Clients need a token (auth.keys).");
    let url = "http://127.0.0.1:1/";
    let mut command = switchboard(&directory);
    command.args(["--listen", "127.0.0.1:0"]).env("SWITCHBOARD_AUTH_JWKS_URL", url);
    let server = ServerProcess::start(&mut command, &directory);
    assert_eq!(server.admits(), "Clients need a token (auth.jwks_url).");
    server.logs("auth.jwks_url: keys cannot be fetched, and there are none from there yet");
    server.logs("Connection refused");
    assert_eq!(of(&[("SWITCHBOARD_AUTH_CALLBACK_URL", url)]), "The application decides who may come in (auth.callback_url).");

    for (name, value, said) in [
        ("SWITCHBOARD_KEYS", keys, "SWITCHBOARD_KEYS: unknown setting, did you mean SWITCHBOARD_AUTH_KEYS?\n"),
        ("SWITCHBOARD_AUTH_KEYS", "", "SWITCHBOARD_AUTH_KEYS: auth.keys: is empty, which does not count as not set, "),
        ("SWITCHBOARD_PORT", "8080", "SWITCHBOARD_PORT: unknown setting, "),
    ] {
        let Output { status, stdout, stderr } =
            switchboard(&directory).args(["--listen", "127.0.0.1:0"]).env(name, value).output().unwrap();
        assert_eq!((status.code(), &*stdout), (Some(1), &b""[..]), "{name}");
        let error = String::from_utf8(stderr).unwrap();
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_line() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bad.toml"), "listen = \"here\"\n\n[limits]\nrooms_max = 0\nroom_max = 5\n").unwrap();
    let (status, _, error) = run(&directory, &["config", "--check", "bad.toml"]);
    assert_eq!(status, Some(1));
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("bad.toml:1: listen: \"here\" is not HOST:PORT"), "{error}");
    assert!(lines[1].starts_with("bad.toml:4: limits.rooms_max: 0 is out of range"), "{error}");
    assert_eq!(lines[2], "bad.toml:5: limits.room_max: unknown setting, did you mean limits.rooms_max?");
    assert_eq!(run(&directory, &["--config", "bad.toml"]), (Some(1), String::new(), error), "it does not start with it either");
}

#[test]
fn a_start_that_fails_names_the_setting_and_its_value() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fs::write(directory.path().join("file"), "").unwrap();
    for (arguments, said) in [
        (&["--listen", &address][..], format!("listen: TCP {address} cannot be listened on: ")),
        (&["--listen", "127.0.0.1:0", "--tls-cert", "no.pem", "--tls-key", "no.key"], "tls_cert: no.pem cannot be read: ".into()),
        (&["--listen", "127.0.0.1:0", "--cert-dir", "file"], "cert_dir: file cannot keep certificates: ".into()),
        (&["--tls-cert", "no.pem"], "--tls-cert: is \"no.pem\", and tls_key is not set; the two go together".into()),
        (&["--admin-listen", "here"], "--admin-listen: \"here\" is not HOST:PORT".into()),
        (&["--listen", "127.0.0.1:0", "--admin-listen", &address], format!("admin_listen: TCP {address} cannot be listened on: ")),
        (&["--admin-listen", ":8080"], "--admin-listen: is :8080, and listen is localhost:8080: ".into()),
        (&["--workers", "0"], "--workers: 0 is out of range, expected an integer from 1 to 512".into()),
        (&["--log", "=loud="], "--log: \"=loud=\" is not a log filter, which is a level or a list".into()),
        (&["--log", "verbose"], "--log: \"verbose\" is not a log filter: \"verbose\" is no level".into()),
        (&["--log-format", "xml"], "--log-format: ".into()),
        (&["--config", "no.toml"], "no.toml: cannot be read: ".into()),
    ] {
        let (status, output, error) = run(&directory, arguments);
        let last = error.lines().last().unwrap_or_default();
        assert_eq!((status, &*output), (Some(1), ""), "{arguments:?}: {error}");
        assert!(last.starts_with(&said), "{arguments:?}: {error}");
    }
}

/// A relay with a list that is not what its operator meant would reach whom it must not, or nobody.
#[test]
fn a_list_of_peers_that_is_none_stops_the_start_and_names_the_setting_and_the_value() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--turn", "--turn-listen", "127.0.0.1:0"];
    for (key, variable) in [("allow", "SWITCHBOARD_TURN_ALLOW"), ("deny", "SWITCHBOARD_TURN_DENY")] {
        for (list, wrong) in [
            ("10.0.0.0/33", "10.0.0.0/33"),
            ("10.0.0.0/8,somewhere", "somewhere"),
            ("10.0.0.0/8;192.168.0.0/16", "10.0.0.0/8;192.168.0.0/16"),
            ("fe80::/129", "fe80::/129"),
            ("10.0.0.256", "10.0.0.256"),
            ("10.0.0.0/8,example.org", "example.org"),
        ] {
            let said = format!("turn.{key}: {wrong:?} is neither a CIDR block nor an IP address");
            let Output { status, stdout, stderr } = ended(switchboard(&directory).args(arguments).env(variable, list));
            let error = String::from_utf8(stderr).unwrap();
            assert_eq!((status.code(), &*stdout), (Some(1), &b""[..]), "{variable}={list}: {error}");
            assert!(error.starts_with(&format!("{variable}: {said}")), "{error}");
            let listed: Vec<&str> = list.split(',').collect();
            fs::write(directory.path().join("peers.toml"), format!("[turn]\n{key} = {listed:?}\n")).unwrap();
            let (status, output, error) = run(&directory, &[&["--config", "peers.toml"], &arguments[..]].concat());
            assert_eq!((status, &*output), (Some(1), ""), "{list}: {error}");
            assert!(error.starts_with(&format!("peers.toml:2: {said}")), "{error}");
        }
        for list in ["", "10.0.0.0/32", "10.0.0.0/8,192.168.0.1,fe80::/128,::1"] {
            let mut command = switchboard(&directory);
            ServerProcess::start(command.args(arguments).env(variable, list), &directory);
        }
    }
}

#[test]
fn health_is_asked_of_the_server_with_the_same_settings() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new().sign(directory.path());
    let tls = ["--tls-cert", "chain.pem", "--tls-key", "key.pem"];
    for settings in [&[][..], &tls] {
        let server = ServerProcess::start(switchboard(&directory).args(["--listen", "127.0.0.1:0"]).args(settings), &directory);
        let port = server.url().trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
        // By whatever address it listens on, the loopback one reaches it.
        for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
            let listen = format!("{host}:{port}");
            let asked = run(&directory, &[&["health", "--listen", &listen], settings].concat());
            assert_eq!(asked, (Some(0), "alive\n".into(), String::new()), "{host}, {settings:?}");
        }
        server.signal("-TERM");
        server.end();
        let (status, output, error) = run(&directory, &["health", "--listen", &format!("127.0.0.1:{port}")]);
        assert_eq!((status, &*output), (Some(1), ""));
        assert!(error.starts_with(&format!("http://127.0.0.1:{port}/healthz does not answer: ")) && error.contains("refused"), "{error}");
    }
    let (status, _, error) = run(&directory, &["health", "--listen", ":0"]);
    assert_eq!((status, &*error), (Some(1), "listen: port 0 is one that only the server itself knows\n"));
}

#[test]
fn help_names_every_flag_and_an_unknown_one_is_a_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    let (status, help, _) = run(&directory, &["--help"]);
    assert_eq!(status, Some(0));
    for flag in ["--listen", "--admin-listen", "--tls-cert", "--tls-key", "--cert-dir", "--log", "--log-format", "--config", "--workers"] {
        assert!(help.contains(flag), "{flag}");
    }
    let (status, _, error) = run(&directory, &["--lissen", ":80"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("--listen"), "{error}");
    let (status, version, _) = run(&directory, &["--version"]);
    assert_eq!((status, version), (Some(0), format!("switchboard {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_of_an_echo_says_what_it_needs_and_shows_every_flag() {
    let directory = tempfile::tempdir().unwrap();
    let (status, help, _) = run(&directory, &["echo", "--help"]);
    assert_eq!(status, Some(0));
    for text in [
        "cargo run --release --features webrtc -- echo ROOM",
        "--url",
        "--token",
        "--origin",
        "--ca",
        "--name",
        "--peers",
        "--channels",
        "--queued-bytes",
    ] {
        assert!(help.contains(text), "{text}");
    }
    let (status, help, _) = run(&directory, &["check", "--help"]);
    assert_eq!(status, Some(0));
    assert!(help.contains("--features webrtc -- check https://example.org --webrtc"), "{help}");
    assert_eq!(run(&directory, &["echo", "lobby", "--peers", "0"]).0, Some(2));
}

/// Where nobody is to be called, an echo says so and does not wait.
#[cfg(feature = "webrtc")]
#[test]
fn an_echo_without_a_server_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (status, _, error) = run(&directory, &["echo", "lobby", "--url", &format!("http://{free}")]);
    assert_eq!(status, Some(1));
    assert!(error.contains("Connection refused"), "{error}");
}

#[cfg(not(feature = "webrtc"))]
#[test]
fn without_the_feature_it_is_said_how_to_get_it() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["echo", "lobby"][..], &["check", "http://localhost:1", "--webrtc"]] {
        let (status, _, error) = run(&directory, arguments);
        let command = format!("cargo run --release --features webrtc -- {}\n", arguments.join(" "));
        assert!(status == Some(1) && error.ends_with(&command), "{error}");
    }
}
