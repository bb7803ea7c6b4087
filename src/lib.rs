//! Switchboard.
pub mod client;
pub mod config;
pub mod dialect;
pub mod ingress;
pub mod protocol;
pub mod registry;
pub mod server;
pub mod session;

pub use config::Config;
pub use server::Server;
