//! The Federation Resolver: from a Matrix server name to where to connect and whom to expect (F3).

use std::sync::Arc;

use southbridge_words::{CertificateName, Endpoint, Instant};

/// What one resolution came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedFederationAddress {
    /// The name to verify the certificate against.
    pub certificate: CertificateName,
    /// The value of `Host`.
    pub host_header: Arc<str>,
    /// Where to connect.
    pub endpoints: Arc<[Endpoint]>,
    /// Names that have the same key can share connections: certificate name, and port or `srv`.
    pub peer_key: Arc<str>,
    /// Until when this need not be asked again.
    pub fresh_until: Instant,
    /// Whether some step was served from a record past its time because its source failed.
    pub stale: bool,
}
