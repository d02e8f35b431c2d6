//! TLS: agreeing with a peer, checking who it is, and saying clearly why not.
//!
//! Everyone is met with the modern profile (rustls, TLS 1.2 and 1.3). A host that speaks only TLS 1.0 or 1.1 can be
//! given the legacy profile by name; nobody is ever downgraded because a handshake failed. Both profiles check the
//! chain against the same roots and the name against the certificate.
//!
//! # Source
//! K22 (profiles, errors that explain), F12 (the certificate is verified against the resolved name), faults row 11.

mod certificate;
mod connector;
mod explain;
#[cfg(feature = "legacy-tls")]
mod legacy;
mod modern;
mod roots;
mod server;
mod sessions;
mod stream;
#[cfg(test)]
mod tests;

pub use certificate::CertificateSummary;
pub use connector::{Alpn, Handshake, Negotiated, Reading, TlsConfig, TlsConnector, TlsProfile};
pub use roots::TlsConfigError;
pub use server::{ServerTls, ServerTlsError};
pub use stream::TlsStream;
