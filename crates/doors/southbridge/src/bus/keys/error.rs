//! Why something signed is not believed.

use std::time::Duration;

use southbridge_bus::keyring::KeyError;
use southbridge_bus::signing::{EventError, RequestError, SignedJsonError, XMatrixError};
use southbridge_words::ServerName;

/// Why something signed is not believed, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// An event cannot be read, or is not signed as it must be.
    #[error(transparent)]
    Event(#[from] EventError),
    /// An object cannot be read, or its signature does not fit.
    #[error(transparent)]
    Object(#[from] SignedJsonError),
    /// The authorization of a request cannot be read.
    #[error(transparent)]
    Authorization(#[from] XMatrixError),
    /// A request is not signed as it must be.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no signature of who should have signed.
    #[error("object is not signed by {server}")]
    NotSigned {
        /// Who should have.
        server: ServerName,
    },
    /// There is no key to check it with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No key came in time.
    #[error("no keys came within {waited:?}")]
    DeadlinePassed {
        /// How long there was.
        waited: Duration,
    },
    /// The bus is ending.
    #[error("the bus is closing")]
    Closing,
}

impl VerifyError {
    /// Whether asking again later may bring another answer: the keys could not be had, and nothing is known against
    /// the signature.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Self::Key(error) => error.is_repeatable(),
            Self::DeadlinePassed { .. } | Self::Closing => true,
            _ => false,
        }
    }
}
