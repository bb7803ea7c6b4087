//! Switchboard.
pub mod config;
pub mod protocol;
pub mod server;

pub use config::Config;
pub use server::Server;
