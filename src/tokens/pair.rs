//! `switchboard keys`: a pair of keys in files, and what to do with them.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::anyhow;
use switchboard::auth::{self, signing::Pair};

use super::Algorithm;

/// Writes the files, and tells how to go on. Both are called alike: a token names its key by that.
pub fn run(algorithm: Algorithm, directory: &Path) -> anyhow::Result<String> {
    let (algorithm, prefix) = match algorithm {
        Algorithm::Eddsa => (auth::Algorithm::EdDsa, "eddsa"),
        Algorithm::Es256 => (auth::Algorithm::Es256, "es256"),
        Algorithm::Hs256 => (auth::Algorithm::Hs256, "hs256"),
    };
    let Pair { private, public, fingerprint } = Pair::generate(algorithm).expect("there are keys for each of these");
    fs::create_dir_all(directory).map_err(|error| anyhow!("--out: {} cannot be made: {error}", directory.display()))?;
    let file = |extension| directory.join(format!("{prefix}-{fingerprint}.{extension}"));
    let Some(public) = public else {
        let secret = file("jwk");
        write(&secret, &private, 0o600)?;
        let what = format!("{} is the secret, which makes tokens and checks them: let nobody else have it.\n", secret.display());
        return Ok(what + &next(&secret, &secret));
    };
    let (key, pem) = (file("key"), file("pem"));
    write(&key, &private, 0o600)?;
    write(&pem, &public, 0o644)?;
    let what = format!(
        "{} makes tokens: keep it where you make them, and nowhere else.\n{} checks them: the server takes that.\n",
        key.display(),
        pem.display()
    );
    Ok(what + &next(&key, &pem))
}

fn next(makes: &Path, checks: &Path) -> String {
    format!(
        "\nNext, a server that lets nobody in without a token, and a token:\n  \
         SWITCHBOARD_AUTH_KEYS={} switchboard\n  \
         switchboard token --key {} --sub alice --room lobby --ttl 1h\n",
        quoted(checks),
        quoted(makes)
    )
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-+".contains(char);
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

fn write(path: &Path, contents: &str, mode: u32) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(contents.as_bytes()))
        .map_err(|error| anyhow!("--out: {} cannot be written: {error}", path.display()))
}
