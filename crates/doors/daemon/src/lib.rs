//! The `southbridge` command: Southbridge as a daemon, and the tools around it.
//!
//! Floor 3 of the house. Configuration, sockets, signals and the log live here; what is done with a request is the
//! business of the rooms below.

pub mod activation;
pub mod cli;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod door;
pub mod handover;
pub mod listeners;
pub mod logging;
pub mod notify;
pub mod occupant;
pub mod serve;
