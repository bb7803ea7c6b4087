//! The table in README.md, between two comments that nobody sees.

use std::{fs, path::Path};

use anyhow::Context as _;

const BEGIN: &str = "<!-- compare: begin -->\n";
const END: &str = "<!-- compare: end -->\n";
const PLOT: &str = "![The same as bars: how many times the bare relay](benches/compare/results.svg)\n";

/// Puts the report where the last one was.
pub fn update(report: &str) -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&file)?;
    let (before, rest) = text.split_once(BEGIN).context("README.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("README.md has a beginning of the table and no end")?;
    fs::write(&file, format!("{before}{BEGIN}\n{report}\n{PLOT}\n{END}{after}"))?;
    Ok(())
}
