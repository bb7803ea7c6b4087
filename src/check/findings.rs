//! What was found: told line by line as it is, or all at once in JSON.

use std::io::{self, Write as _};

use anyhow::bail;
use reqwest::Url;
use serde::Serialize;
use serde_json::json;

/// What a look at one thing has shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// All that was found so far.
pub struct Findings {
    all: Vec<Finding>,
    is_json: bool,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    outcome: Outcome,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Findings {
    /// None yet.
    pub fn new(is_json: bool) -> Self {
        Self { all: vec![], is_json }
    }

    /// It works.
    pub fn ok(&mut self, check: &'static str, detail: impl Into<String>) -> anyhow::Result<()> {
        self.add(Finding { check, outcome: Outcome::Ok, detail: detail.into(), advice: None })
    }

    /// It works, but somebody should look at it.
    pub fn warning(&mut self, check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> anyhow::Result<()> {
        self.add(Finding { check, outcome: Outcome::Warning, detail: detail.into(), advice: Some(advice.into()) })
    }

    /// It does not work.
    pub fn failed(&mut self, check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> anyhow::Result<()> {
        self.add(Finding { check, outcome: Outcome::Failed, detail: detail.into(), advice: Some(advice.into()) })
    }

    /// There is nothing to look at.
    pub fn nothing(&mut self, check: &'static str, detail: impl Into<String>) -> anyhow::Result<()> {
        self.add(Finding { check, outcome: Outcome::Skipped, detail: detail.into(), advice: None })
    }

    /// These could not be looked at, for want of another.
    pub fn skip(&mut self, checks: &[&'static str], wanting: &str) -> anyhow::Result<()> {
        let detail = format!("needs {wanting}");
        checks.iter().try_for_each(|&check| self.add(Finding { check, outcome: Outcome::Skipped, detail: detail.clone(), advice: None }))
    }

    /// Tells the whole, and fails if something does not work.
    pub fn conclude(&self, url: &Url) -> anyhow::Result<()> {
        let count = |outcome| self.all.iter().filter(|finding| finding.outcome == outcome).count();
        let (failed, warnings) = (count(Outcome::Failed), count(Outcome::Warning));
        if self.is_json {
            let outcome = match (failed, warnings) {
                (0, 0) => Outcome::Ok,
                (0, _) => Outcome::Warning,
                _ => Outcome::Failed,
            };
            tell(&format!("{}\n", json!({ "url": url.as_str(), "outcome": outcome, "findings": self.all })))?;
        }
        match (failed, warnings) {
            (0, _) if self.is_json => Ok(()),
            (0, 0) => tell(&format!("{url} works\n")),
            (0, _) => tell(&format!("{url} works, with {warnings} to look at\n")),
            _ => bail!("{url}: {failed} of {} do not work", self.all.len()),
        }
    }

    fn add(&mut self, finding: Finding) -> anyhow::Result<()> {
        if !self.is_json {
            tell(&finding.line())?;
        }
        self.all.push(finding);
        Ok(())
    }
}

impl Finding {
    fn line(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        let advice = self.advice.as_ref().map(|advice| format!("{:>24} {advice}\n", "→"));
        format!("{outcome:<8} {:<13} {}\n{}", self.check, printable(&self.detail), printable(&advice.unwrap_or_default()))
    }
}

/// Part of it comes from the server, and ends on a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() && char != '\n' { '\u{fffd}' } else { char }).collect()
}

fn tell(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Who reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
