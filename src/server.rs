//! The server as a whole. A stand-in until the parts are there.

use crate::config::{Config, InvalidConfig};

/// A running server.
pub struct Server;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
}

impl Server {
    /// Starts a server with these settings.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        Ok(Self)
    }

    /// Waits for its end.
    pub fn wait(self) {}
}
