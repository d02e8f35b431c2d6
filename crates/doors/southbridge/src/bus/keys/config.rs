//! How keys are fetched and remembered.

use std::time::Duration;

use southbridge_bus::keyring::{KeyringLimits, Sources};

/// How keys are fetched and remembered.
#[derive(Clone, Debug)]
pub struct KeysConfig {
    /// Bounds of what is remembered and asked. Its [`fetch_max`](KeyringLimits::fetch_max) follows
    /// [`fetch_timeout`](Self::fetch_timeout).
    pub limits: KeyringLimits,
    /// Who is asked. Default: servers themselves, and no notary.
    pub sources: Sources,
    /// How long one fetch may take, finding the server included. Default 10 s: a server that is there answers within
    /// one, and the time of whoever waits must suffice for a notary after a dead origin.
    pub fetch_timeout: Duration,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self {
            limits: KeyringLimits::default(),
            sources: Sources::default(),
            fetch_timeout: Duration::from_secs(10),
        }
    }
}
