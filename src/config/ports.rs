//! A range of ports, as an operator writes it.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

/// Ports from one to another, both included. Written as `49152-65535`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ports {
    first: u16,
    last: u16,
}

/// The text is no range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of ports such as 49152-65535, from 1024 to 65535 and not downwards")]
pub struct PortsError {
    text: String,
}

/// Below it are the ports that only the system's own programs may have.
const LEAST: u16 = 1024;

impl Ports {
    /// All of them.
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        // `parse` alone would take "+5".
        let port = |text: &str| text.parse().ok().filter(|port| *port >= LEAST && text.bytes().all(|byte| byte.is_ascii_digit()));
        let ports = text.split_once('-').and_then(|(first, last)| Some(Self { first: port(first)?, last: port(last)? }));
        ports.filter(|ports| ports.first <= ports.last).ok_or_else(|| PortsError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;

    fn try_from(text: String) -> Result<Self, PortsError> {
        text.parse()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_written_as_its_ends() {
        for (text, range) in [("49152-65535", 49152..=65535), ("1024-1024", 1024..=1024)] {
            let ports: Ports = text.parse().unwrap();
            assert_eq!((ports.range(), ports.to_string().as_str()), (range, text));
        }
        for text in ["", "-", "5000", "5000-", "-5000", "5001-5000", "80-90", "5000-65536", "+5000-6000", "5000 - 6000", "a-b"] {
            let error = text.parse::<Ports>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} ")), "{error}");
        }
    }
}
