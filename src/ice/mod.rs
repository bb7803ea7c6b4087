//! What clients are told of servers that help them to connect.

pub mod rest;

pub use self::rest::TurnCredential;
