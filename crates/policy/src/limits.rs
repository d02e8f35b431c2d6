//! What every set of limits says when one of them makes no sense.

/// A limit that no machine can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidLimit {
    /// The field, as it is called in its struct.
    pub field: &'static str,
    /// What is wrong with it, as the rest of a sentence: `"must be more than zero"`.
    pub problem: &'static str,
}

impl InvalidLimit {
    /// Fails unless `holds`.
    pub(crate) const fn unless(
        holds: bool,
        field: &'static str,
        problem: &'static str,
    ) -> Result<(), InvalidLimit> {
        if holds { Ok(()) } else { Err(Self { field, problem }) }
    }
}
