//! Who may import whom, read from the `use crate::` lines, so that the picture stays true without anybody policing it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each part of the library, and the parts that it may import.
const ALLOWED: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("auth", &["protocol"]),
    ("metrics", &["protocol"]),
    ("config", &["auth", "ice"]),
    ("ice", &["protocol"]),
    ("turn", &["auth", "ice", "metrics", "protocol"]),
    ("client", &["ice", "protocol"]),
    ("load", &["client", "protocol"]),
    ("webrtc", &["client", "ice", "protocol"]),
    ("dialect", &["metrics", "protocol"]),
    ("registry", &["auth", "metrics", "protocol"]),
    ("session", &["auth", "dialect", "ice", "metrics", "protocol", "registry"]),
    ("ingress", &["auth", "config", "dialect", "ice", "metrics", "protocol", "registry", "session"]),
    ("admin", &["auth", "config", "protocol", "registry"]),
    ("server", &["admin", "auth", "config", "ice", "ingress", "metrics", "protocol", "registry", "session", "turn"]),
];

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    fs::read_dir(path)
        .unwrap()
        .flat_map(|entry| files(&entry.unwrap().path()))
        .filter(|file| file.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// The parts that a file imports: `use crate::a::…` and `use crate::{a::…, b::…}`, and `crate::a::…` in the code.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in text.split("crate::").skip(1) {
        let group = match after.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let end = group.find(|char| {
                    depth += match char {
                        '{' => 1,
                        '}' => -1,
                        _ => 0,
                    };
                    depth < 0
                });
                group[..end.expect("a group ends")].to_owned()
            }
            None => after.split(['\n', ';']).next().unwrap_or_default().to_owned(),
        };
        let mut depth = 0;
        for part in group.split_inclusive(['{', '}', ',']) {
            if depth == 0 {
                found.extend(part.trim().split([':', ',', ' ', '{', '(']).next().filter(|name| !name.is_empty()).map(str::to_owned));
            }
            depth += part.matches('{').count() as i32 - part.matches('}').count() as i32;
        }
    }
    found
}

#[test]
fn imports_point_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (part, allowed) in ALLOWED {
        let folder = source.join(part);
        let path = if folder.is_dir() { folder } else { source.join(format!("{part}.rs")) };
        for file in files(&path) {
            let imported = imports(&fs::read_to_string(&file).unwrap());
            for other in ALLOWED.iter().map(|(other, _)| other).filter(|other| *other != part && imported.contains(**other)) {
                assert!(allowed.contains(other), "{} imports {other}", file.display());
            }
        }
    }
    assert!(imports("use crate::{a::b::{c, d}, e};\nuse crate::f::g;").into_iter().eq(["a", "e", "f"]));
}

#[test]
fn actors_live_where_one_would_look_for_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let with_actors: BTreeSet<String> = files(&source)
        .iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains("impl Actor for"))
        .map(|file| file.strip_prefix(&source).unwrap().display().to_string())
        .collect();
    assert_eq!(with_actors, ["registry/mod.rs", "session/mod.rs"].map(str::to_owned).into());
}
