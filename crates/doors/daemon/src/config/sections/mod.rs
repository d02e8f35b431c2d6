//! The tables of the configuration, one module each: its keys, its struct, and how one becomes the other.

pub mod addresses;
pub mod admin;
pub mod bus;
pub mod dns;
pub mod forward_proxy;
pub mod hosts;
pub mod keys;
pub mod limits;
pub mod log;
pub mod module;
pub mod outbox;
pub mod pool;
pub mod statistics;
pub mod storage;
pub mod synapse;
pub mod testing;
pub mod tls;
pub mod transport;
pub mod well_known;

use super::key::Section;

/// Every table, in the order of the reference. `[host."NAME"]` stands for as many as there are names.
pub const SECTIONS: [&Section; 22] = [
    &synapse::SECTION,
    &forward_proxy::SECTION,
    &bus::SECTION,
    &keys::SECTION,
    &module::SECTION,
    &admin::SECTION,
    &statistics::SECTION,
    &dns::SECTION,
    &well_known::SECTION,
    &well_known::RESOLVER_SECTION,
    &tls::SECTION,
    &addresses::SECTION,
    &storage::SECTION,
    &outbox::SECTION,
    &limits::SECTION,
    &limits::RETRIES_SECTION,
    &pool::SECTION,
    &transport::SECTION,
    &hosts::SECTION,
    &hosts::HOST_SECTION,
    &log::SECTION,
    &testing::SECTION,
];
