//! What is written down is true: the README's table of bounds is that of the settings, and the browser's codes are the protocol's.

use switchboard::{
    Config,
    protocol::{CloseCode, ErrorCode},
};

#[test]
fn the_readme_lists_every_bound_with_its_default() {
    let readme = include_str!("../README.md");
    let mut section = "";
    let mut bounds = 0;
    let manual = Config::manual();
    for line in manual.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if ["limits", "timeouts"].contains(&section)
            && let Some((name, default)) = line.strip_prefix('#').and_then(|setting| setting.split_once(" = "))
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            bounds += 1;
            assert!(readme.contains(&format!("| `{section}.{name}` | {default} | ")), "{section}.{name} = {default}");
        }
    }
    assert_eq!(bounds, readme.lines().filter(|line| line.starts_with("| `limits.") || line.starts_with("| `timeouts.")).count());
    assert!(bounds > 10);
}

#[test]
fn the_browser_has_the_codes_of_the_protocol() {
    let codes = include_str!("../web/src/codes.js");
    let numbers = CloseCode::ALL.iter().map(|code| (code.slug(), code.number()));
    for (slug, number) in numbers.chain(ErrorCode::ALL.iter().map(|code| (code.slug(), code.number()))) {
        let line = format!("{{ number: {number}, slug: \"{slug}\",");
        assert!(codes.contains(&line), "{line}");
    }
}

#[test]
fn commands_that_need_a_feature_are_shown_with_it() {
    let readme = include_str!("../README.md");
    for command in ["echo lobby", "check https://example.org --webrtc"] {
        let line = format!("cargo run --release --features webrtc -- {command}\n");
        assert!(readme.contains(&line), "{line}");
    }
    for flag in ["--peers", "--channels", "--queued-bytes", "switchboard echo ROOM", "--webrtc"] {
        assert!(readme.contains(&format!("`{flag}`")), "{flag}");
    }
}
