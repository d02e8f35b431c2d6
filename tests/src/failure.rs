//! Why a step of a test failed, in words.

use std::fmt::Display;

/// What went wrong, with what was being done in front.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

/// What every step returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure in these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

/// Adds what was being done to an error.
pub trait While<T> {
    /// Puts `doing` in front of the error.
    ///
    /// # Errors
    /// The same as before, in more words.
    fn while_doing(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Display> While<T> for std::result::Result<T, E> {
    fn while_doing(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{doing}: {error}")))
    }
}

impl<T> While<T> for Option<T> {
    fn while_doing(self, doing: impl Display) -> Result<T> {
        self.ok_or_else(|| Failure(format!("{doing}: nothing there")))
    }
}
