//! Switchboard.
pub mod protocol;
