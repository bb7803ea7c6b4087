//! The query of a request: what a path takes, each once, and nothing else.

use std::collections::BTreeMap;

use actix_web::HttpRequest;

use super::problem::Problem;

/// The parameters that were given.
pub struct Query(BTreeMap<&'static str, String>);

/// How much is answered at once, unless it is said.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

impl Query {
    /// Takes these parameters and refuses others, by name.
    pub fn parse(request: &HttpRequest, known: &[&'static str]) -> Result<Self, Problem> {
        let mut given = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
            let Some(known) = known.iter().find(|known| **known == name) else {
                let shown: String = name.chars().take(64).collect();
                let takes = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::parameter("unknown-parameter", &shown, format!("{shown:?} is no parameter here, which are: {takes}")));
            };
            if given.insert(*known, value.into_owned()).is_some() {
                return Err(Problem::parameter("bad-parameter", known, format!("`{known}` stands twice")));
            }
        }
        Ok(Self(given))
    }

    /// How much is to be answered.
    pub fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.0.get("limit") else { return Ok(LIMIT) };
        // `parse` alone would take "+1".
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let refuse = || Problem::parameter("bad-parameter", "limit", format!("`limit` is a number from 1 to {LIMIT_MAX}"));
        number.filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(refuse)
    }

    /// A value as `read` reads it; refused in this sentence if that is nothing.
    pub fn read<T>(&self, name: &str, sentence: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| Problem::parameter("bad-parameter", name, sentence))
    }
}
