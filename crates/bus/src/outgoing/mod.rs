//! What the bus carries: PDUs, EDUs, queries, and what comes back.
//!
//! # Source
//! F2, F10; Matrix specification v1.19, Server-Server API, "PDUs", "EDUs", "Transactions", and the sections of the
//! single endpoints.

mod edu;
mod endpoints;
pub(crate) mod json;
mod pdu;
mod query;
mod response;

pub use edu::{EduKind, InvalidEdu, OutgoingEdu};
pub use endpoints::{Endpoint, QueryMethod};
pub use json::NotAnObject;
pub use pdu::{InvalidPdu, OutgoingPdu, PDU_BYTES_MAX};
pub use query::{InvalidQuery, OutgoingQuery, ResolvedQuery};
pub use response::{
    FederationErrorResponse, FederationQueryResponse, FederationResponse, FederationTransactionResponse,
    UnknownOutcome,
};
