//! Getting the servers that others wrote: npm's from the lock file beside this, `matchbox_server` from crates.io. What cannot be had is left out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The version of `matchbox_server` that is measured.
const MATCHBOX: &str = "0.15.0";

/// Where this bench and its npm packages are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare")
}

/// Installs the npm packages, if that was not done.
pub fn npm_packages() -> anyhow::Result<()> {
    let folder = folder();
    let [wanted, installed] = ["package-lock.json", "node_modules/.package-lock.json"].map(|file| fs::metadata(folder.join(file)));
    // npm writes its own copy last of all.
    if wanted?.modified()? <= installed.and_then(|installed| installed.modified()).unwrap_or(std::time::UNIX_EPOCH) {
        return Ok(());
    }
    eprintln!("npm packages are installed");
    // What scripts and optional packages would build is for clients.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    succeed(&mut npm)
}

/// The version of an npm package that is installed.
pub fn npm_version(package: &str) -> anyhow::Result<String> {
    let manifest = fs::read(folder().join("node_modules").join(package).join("package.json"))?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    Ok(manifest["version"].as_str().context("a package has a version")?.to_owned())
}

/// The version of Node.
pub fn node_version() -> anyhow::Result<String> {
    let output = Command::new("node").arg("--version").output().context("node cannot be started")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned())
}

/// The program of `matchbox_server`, which is built if that was not done, and its version.
pub fn matchbox() -> anyhow::Result<(PathBuf, String)> {
    let root = target().join("compare").join(format!("matchbox-{MATCHBOX}"));
    let program = root.join("bin/matchbox_server");
    if !program.exists() {
        eprintln!("matchbox_server is built");
        let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        cargo.args(["install", "matchbox_server", "--locked", "--quiet", "--version", MATCHBOX, "--root"]).arg(&root);
        succeed(cargo.env("CARGO_TARGET_DIR", root.join("build")))?;
        // Some hundred megabytes that nobody needs again.
        fs::remove_dir_all(root.join("build"))?;
    }
    Ok((program, MATCHBOX.to_owned()))
}

/// Cargo's folder for what is built.
fn target() -> PathBuf {
    // target/PROFILE/switchboard
    let program = Path::new(env!("CARGO_BIN_EXE_switchboard"));
    program.ancestors().nth(2).expect("cargo builds into a folder of its own").to_owned()
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().with_context(|| format!("{name} cannot be started"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}
