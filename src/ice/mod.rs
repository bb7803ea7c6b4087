//! What clients are told of servers that help them to connect.

pub mod rest;
