//! `switchboard keys` and `switchboard token`: what one makes the other takes, and what is wrong is said in words.

mod support;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::json;
use support::process::switchboard;
use switchboard::auth::{RateLimits, Rights, Rules, SigningKey, Tokens};
use tempfile::TempDir;

fn finish(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn run(directory: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    finish(switchboard(directory).args(arguments))
}

/// What a command that succeeds prints.
fn output(directory: &TempDir, arguments: &[&str]) -> String {
    let (status, output, error) = run(directory, arguments);
    assert_eq!((status, &*error), (Some(0), ""), "{arguments:?}");
    output
}

/// A pair that was just made: the file that makes tokens, and the one that checks them.
fn pair(directory: &TempDir, algorithm: &str) -> (String, String) {
    let said = output(directory, &["keys", "--alg", algorithm]);
    let makes = said.split(" --key ").nth(1).unwrap().split(' ').next().unwrap();
    let checks = said.split("SWITCHBOARD_AUTH_KEYS=").nth(1).unwrap().split(' ').next().unwrap();
    (makes.to_owned(), checks.to_owned())
}

/// A token, without the end of its line.
fn token(directory: &TempDir, key: &str, arguments: &[&str]) -> String {
    let made = output(directory, &[&["token", "--key", key], arguments].concat());
    assert!(made.ends_with('\n') && made.lines().count() == 1, "{made}");
    made.trim_end().to_owned()
}

/// The explanation of a token that is good, with its times left out.
fn explained(directory: &TempDir, token: &str, key: &str) -> Vec<String> {
    let said = output(directory, &["token", "--check", token, "--key", key]);
    said.lines().filter(|line| !line.starts_with("  until ")).map(str::to_owned).collect()
}

#[test]
fn the_two_commands_that_are_said_next_make_a_server_and_a_token_that_it_takes() {
    let directory = tempfile::tempdir().unwrap();
    for algorithm in ["eddsa", "es256", "hs256"] {
        let said = output(&directory, &["keys", "--alg", algorithm]);
        let commands: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        assert_eq!(commands.len(), 2, "{said}");
        let (setting, serve) = commands[0].split_once(' ').unwrap();
        let (name, checks) = setting.split_once('=').unwrap();
        assert_eq!((name, serve), ("SWITCHBOARD_AUTH_KEYS", "switchboard"));
        let make: Vec<&str> = commands[1].split(' ').skip(1).collect();
        let token = output(&directory, &make);
        let tokens = Tokens::load(&[directory.path().join(checks)], None, Rules::default()).unwrap();
        let grant = tokens.verify(token.trim_end(), SystemTime::now()).unwrap();
        assert_eq!(grant.user.as_deref(), Some("alice"));
        assert!(grant.room("lobby").is_some() && grant.room("other").is_none());
        // The environment that the server would have is the one that explains the token.
        let (status, said, error) = finish(switchboard(&directory).env(name, checks).args(["token", "--check", token.trim_end()]));
        assert_eq!((status, said.lines().next(), &*error), (Some(0), Some("The token is good."), ""));
    }
}

/// As RFC 8410 has it: what has the public half beside it OpenSSL refuses, and what stands on it.
#[test]
fn a_private_key_for_eddsa_is_one_for_other_libraries_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let key = PrivatePkcs8KeyDer::from_pem_file(directory.path().join(pair(&directory, "eddsa").0)).unwrap();
    let key = key.secret_pkcs8_der();
    assert_eq!((key.len(), &key[..5]), (48, &[0x30, 0x2e, 0x02, 0x01, 0x00][..]));
}

#[test]
fn the_private_file_is_for_its_owner_alone_and_nothing_is_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let mode = |file: &str| fs::metadata(directory.path().join(file)).unwrap().permissions().mode() & 0o777;
    let (eddsa, public) = pair(&directory, "eddsa");
    assert_eq!((mode(&eddsa), mode(&public) & 0o444), (0o600, 0o444));
    let (secret, same) = pair(&directory, "hs256");
    assert_eq!((mode(&secret), &secret), (0o600, &same));
    assert_ne!(pair(&directory, "eddsa").0, eddsa, "each pair has a name of its own");
    let (status, _, error) = run(&directory, &["keys", "--out", &eddsa]);
    assert_eq!(status, Some(1));
    assert!(error.starts_with(&format!("--out: {eddsa} cannot be made: ")), "{error}");
    output(&directory, &["keys", "--out", "a/b c"]);
    assert!(directory.path().join("a/b c").is_dir());
    let (status, _, error) = run(&directory, &["keys", "--alg", "rs256"]);
    assert_eq!(status, Some(2), "{error}");
    let help = output(&directory, &["keys", "--help"]);
    assert!(help.contains("openssl genpkey -algorithm RSA") && help.contains("openssl pkey -in certs/rsa.key -pubout"), "{help}");
}

#[test]
fn a_token_says_what_its_flags_say_and_is_explained_in_these_words() {
    let directory = tempfile::tempdir().unwrap();
    let (makes, checks) = pair(&directory, "eddsa");
    let signed = format!("  signed with  {}, EdDSA", checks.trim_start_matches("certs/").trim_end_matches(".pem"));
    let plain = token(&directory, &makes, &["--room", "lobby", "--room", "team-*", "--room", "*", "--sub", "alice"]);
    let expected = [
        "The token is good.",
        &signed,
        "  for          alice",
        "  rooms        lobby: everything",
        "               team-*: everything",
        "               every room: everything",
    ];
    assert_eq!(explained(&directory, &plain, &checks), expected);
    assert_eq!(explained(&directory, &plain, &makes), expected, "the private key will do as well");

    let narrow = [
        "--room",
        "lobby",
        "--ttl",
        "2d",
        "--no-publish",
        "--no-broadcast",
        "--peers",
        "10",
        "--iss",
        "me",
        "--aud",
        "you",
        "--messages-per-second",
        "5",
    ];
    let narrow = token(&directory, &makes, &[&narrow[..], &["--bytes-per-second", "6000", "--joins-per-second", "1"]].concat());
    assert_eq!(
        explained(&directory, &narrow, &checks),
        [
            "The token is good.",
            &signed,
            "  for          nobody by name",
            "  issuer       me",
            "  audience     you",
            "  rooms        lobby: be sent what others send, see who is there; full with 10 peers",
            "  a second     5 messages, 6000 bytes, 1 joins",
        ]
    );
    let tokens = Tokens::load(&[directory.path().join(&checks)], None, Rules::default()).unwrap();
    let grant = tokens.verify(&narrow, SystemTime::now()).unwrap();
    let rates = RateLimits { messages_per_second: Some(5), bytes_per_second: Some(6000), joins_per_second: Some(1) };
    assert_eq!((grant.rates, grant.room("lobby").unwrap().rights), (rates, Rights { publish: false, broadcast: false, ..Rights::ALL }));
    let left = grant.expires_at.unwrap().duration_since(SystemTime::now()).unwrap().as_secs();
    assert!((2 * 86400 - 60..=2 * 86400).contains(&left), "{left}");

    let none = token(&directory, &makes, &["--room", "a", "--no-publish", "--no-broadcast", "--no-subscribe", "--no-observe"]);
    assert_eq!(explained(&directory, &none, &checks).last().unwrap(), "  rooms        a: be there, and nothing else");
}

/// A token of a key in a file, with these claims.
fn signed(directory: &TempDir, key: &str, claims: &serde_json::Value) -> String {
    SigningKey::read(&directory.path().join(key)).unwrap().sign(claims)
}

#[test]
fn why_a_token_is_not_good_is_said_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let (makes, checks) = pair(&directory, "eddsa");
    let (stranger, strangers) = pair(&directory, "es256");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let said = |token: &str, more: &[&str]| {
        let (status, output, error) = run(&directory, &[&["token", "--check", token, "--key", &checks], more].concat());
        assert_eq!((status, &*output), (Some(1), ""), "{error}");
        error
    };
    let of_us = |claims| signed(&directory, &makes, &claims);
    let expired = said(&of_us(json!({ "sub": "a\u{1b}[31m", "exp": now - 7200, "rooms": [] })), &[]);
    assert!(expired.starts_with("The token is not good: it has run out.\nIt says of itself, and nothing of it counts:\n"), "{expired}");
    assert!(expired.contains(" UTC, 2 hours ago\n") && expired.contains("  rooms        none\n"), "{expired}");
    assert!(expired.contains("  for          a\\u{1b}[31m\n"), "nothing that a terminal would take for its own: {expired:?}");
    for (claims, more, reason) in [
        (json!({ "exp": now - 31 }), &[][..], "it has run out"),
        (json!({}), &[], "it says no time at which it runs out"),
        (json!({ "exp": "never" }), &[], "its claim exp: \"…\" is no number of seconds since 1970"),
        (json!({ "exp": now + 9000, "nbf": now + 3600 }), &[], "its time has not come"),
        (json!({ "exp": now + 9000, "iss": "you" }), &["--iss", "me"], "it is from another issuer"),
        (json!({ "exp": now + 9000, "aud": "you" }), &["--aud", "me"], "it is for another audience"),
    ] {
        let said = said(&of_us(claims.clone()), more);
        assert!(said.starts_with(&format!("The token is not good: {reason}.\n")), "{claims}: {said}");
    }
    let name = |file: &str| file.trim_start_matches("certs/").split('.').next().unwrap().to_owned();
    let unknown = said(&signed(&directory, &stranger, &json!({ "exp": now + 60 })), &[]);
    assert!(unknown.starts_with("The token is not good: there is no key of its name.\n"), "{unknown}");
    assert!(unknown.ends_with(&format!("  known keys   {}, EdDSA\n", name(&checks))), "{unknown}");
    assert!(said("x", &[]).starts_with("The token is not good: it is no JWT: "));
    let both = ["--key", &strangers];
    assert!(said("", &both).starts_with("The token is not good: it is no JWT: "));
    let good = of_us(json!({ "exp": now + 60 }));
    let (_, signature) = good.rsplit_once('.').unwrap();
    let changed = format!("{}.{signature}", of_us(json!({ "exp": now + 61 })).rsplit_once('.').unwrap().0);
    assert!(said(&changed, &both).starts_with("The token is not good: its signature is wrong.\n"));
    let (status, output, error) = run(&directory, &["token", "--check", &good]);
    assert_eq!((status, &*output), (Some(1), ""));
    assert!(error.starts_with("Nobody knows whether the token is good: there is no key here. "), "{error}");
    assert!(!error.contains(signature) && !said(&changed, &both).contains(signature), "a token is not repeated");
}

/// Whoever made a right's name up, or took milliseconds for seconds, reads where, and what the rest of the token says.
#[test]
fn a_claim_that_is_not_understood_is_named_and_the_rest_is_still_explained() {
    let directory = tempfile::tempdir().unwrap();
    let (makes, checks) = pair(&directory, "eddsa");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let said = |claims: serde_json::Value| {
        let (status, output, error) = run(&directory, &["token", "--check", &signed(&directory, &makes, &claims), "--key", &checks]);
        assert_eq!((status, &*output), (Some(1), ""), "{error}");
        error
    };
    let wrong =
        said(json!({ "sub": "alice", "exp": now + 60, "rooms": { "a\u{1b}": { "publsh": true } }, "limits": { "joinsPerSecond": 2 } }));
    let fault = r#"rooms."a\u{1b}".publsh: unknown right, did you mean publish?"#;
    assert!(wrong.starts_with(&format!("The token is not good: its claim {fault}\nIt says of itself, ")), "{wrong}");
    for line in ["  for          alice\n", "  a second     2 joins\n", &format!("  rooms        not understood, {fault}\n")] {
        assert!(wrong.contains(line), "{line} in {wrong}");
    }
    let late = said(json!({ "exp": (now + 60) * 1000, "rooms": ["a"] }));
    assert!(
        late.starts_with("The token is not good: its claim exp: ")
            && late.contains("000 seconds end after the year 9999, is it in milliseconds?\n"),
        "{late}"
    );
    assert!(late.contains("  rooms        a: everything\n"), "{late}");
}

#[test]
fn a_token_that_has_run_out_within_the_leeway_is_good_by_that_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (makes, checks) = pair(&directory, "eddsa");
    fs::write(directory.path().join("a.toml"), format!("[auth]\nkeys = [\"{checks}\"]\nleeway_ms = 60000\n")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first_line = |claims: serde_json::Value| {
        let said = output(&directory, &["token", "--check", &signed(&directory, &makes, &claims), "--config", "a.toml"]);
        said.lines().next().unwrap().to_owned()
    };
    let narrow = "The token is good, but only by auth.leeway_ms, 60000 ms: by this machine's clock it";
    assert_eq!(first_line(json!({ "exp": now - 1 })), format!("{narrow} has run out."));
    assert_eq!(first_line(json!({ "exp": now + 9000, "nbf": now + 50 })), format!("{narrow} is not yet good."));
    assert_eq!(first_line(json!({ "exp": now + 9000, "nbf": now - 1 })), "The token is good.");
}

#[test]
fn rooms_with_stars_are_shown_as_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let (makes, checks) = pair(&directory, "eddsa");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let made = signed(&directory, &makes, &json!({ "exp": now + 60, "rooms": ["", "a*b", "a*b*", "a*"] }));
    let said = explained(&directory, &made, &checks);
    assert_eq!(
        said[said.len() - 4..],
        [
            "  rooms        \"\" (no room, because every room has a name): everything",
            "               a*b (the one room that is called so: only at the end a star is more): everything",
            "               a*b* (the rooms whose name begins with a*b: only at the end a star is more): everything",
            "               a*: everything",
        ]
    );
}

#[test]
fn a_token_comes_on_stdin_and_is_checked_as_the_server_of_a_file_would() {
    let directory = tempfile::tempdir().unwrap();
    let (makes, checks) = pair(&directory, "hs256");
    let made = token(&directory, &makes, &["--room", "lobby", "--iss", "me"]);
    let on_stdin = |config: &str| {
        fs::write(directory.path().join("a.toml"), config).unwrap();
        let mut command = switchboard(&directory);
        command.args(["token", "--check", "-", "--config", "a.toml"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{made}").unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    };
    let (status, said) = on_stdin(&format!("[auth]\nkeys = [\"{checks}\"]\nissuer = \"me\"\n"));
    assert!(status == Some(0) && said.starts_with("The token is good.\n"), "{said}");
    let (status, said) = on_stdin(&format!("[auth]\nkeys = [\"{checks}\"]\nissuer = \"you\"\n"));
    assert!(status == Some(1) && said.starts_with("The token is not good: it is from another issuer.\n"), "{said}");
    let (status, said) = on_stdin("[auth]\nkeys = [\"none.pem\"]\n");
    assert!(status == Some(1) && said.starts_with("auth.keys: none.pem cannot be read: "), "{said}");
    let (status, said) = on_stdin("[auth]\njwks_url = \"http://127.0.0.1:1/\"\n");
    assert!(status == Some(1) && said.starts_with("auth.jwks_url: ") && said.contains("onnection refused"), "{said}");
    let (status, said) = on_stdin("[auth]\njwks_url = \"http://id.example/\"\n");
    assert_eq!(
        (status, &*said),
        (Some(1), "a.toml:2: auth.jwks_url: \"http://id.example/\" is not a URL of https, or of http on this machine\n")
    );
    let (status, said) = on_stdin("[auth]\nissuer = \"me\"\n");
    assert_eq!(
        (status, &*said),
        (Some(1), "a.toml:2: auth.issuer: is \"me\", but no token is asked for without auth.keys or auth.jwks_url\n")
    );
}

#[test]
fn what_makes_no_token_is_said_before_one_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let (makes, checks) = pair(&directory, "es256");
    let long = "x".repeat(256);
    for (arguments, code, said) in [
        (&["--key", &makes][..], 2, "--room"),
        (&["--room", "a"], 2, "--key"),
        (&["--key", &makes, "--room", "a", "--ttl", "soon"], 2, "not a number and s, m, h or d"),
        (&["--key", &makes, "--room", "a", "--peers", "0"], 2, "--peers"),
        (&["--check", "x", "--room", "a"], 2, "--check"),
        (&["--key", &makes, "--room", ""], 2, "a room has a name, and `*` is every room"),
        (&["--key", &makes, "--room", "a*b"], 2, "a `*` stands at the end alone: `a*` is every room whose name begins so; "),
        (&["--key", &makes, "--key", &makes, "--room", "a"], 1, "--key: a token is made with one key"),
        (&["--key", &checks, "--room", "a"], 1, " holds no private key, which it takes to make tokens"),
        (&["--key", "none", "--room", "a"], 1, "--key: none cannot be read: "),
        (&["--key", &makes, "--room", "a", "--sub", &long], 1, "no server would take this token: its claim sub: 256 bytes, at most 255"),
        (&["--key", &makes, "--room", &"x".repeat(9000)], 1, "no server would take this token: it has more than 8192 bytes"),
    ] {
        let (status, output, error) = run(&directory, &[&["token"], arguments].concat());
        assert_eq!((status, &*output), (Some(code), ""), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}
