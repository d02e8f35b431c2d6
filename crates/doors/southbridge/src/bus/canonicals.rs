//! One canonical form for all destinations that are sent the same bytes.
//!
//! # Source
//! Issue 3 ("one PDU to 10,000 destinations"): a body is made canonical once, not once for each signature.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use southbridge_bus::signing::{CanonicalError, CanonicalJson, Numbers, to_canonical};

/// The canonical forms of the bodies signed last. Bodies are told apart by where they lie: a queue shares the bytes
/// of what it sends to many, and while a body is kept here its place is not given to another.
#[derive(Default)]
pub(super) struct Canonicals {
    latest: RefCell<VecDeque<(Bytes, CanonicalJson)>>,
}

impl Canonicals {
    /// The canonical form of `body`.
    ///
    /// # Errors
    /// [`CanonicalError`] when it has none.
    pub(super) fn of(&self, body: &Bytes) -> Result<CanonicalJson, CanonicalError> {
        let mut latest = self.latest.borrow_mut();
        let is_same = |known: &Bytes| (known.as_ptr(), known.len()) == (body.as_ptr(), body.len());
        if let Some((_, canonical)) = latest.iter().find(|(known, _)| is_same(known)) {
            return Ok(canonical.clone());
        }
        let canonical = to_canonical(body, Numbers::AsPython)?;
        if body.len() <= KEPT_BYTES_MAX {
            latest.truncate(KEPT_MAX - 1);
            latest.push_front((body.clone(), canonical.clone()));
        }
        Ok(canonical)
    }

    /// Forgets all of it: nobody is sending.
    pub(super) fn clear(&self) {
        self.latest.take();
    }
}

/// A fan-out is of a few bodies at a time, and so is what those are sent that are behind.
const KEPT_MAX: usize = 16;
/// Larger ones are seldom the same for two.
const KEPT_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes at the same place are made canonical once; equal ones elsewhere are none of its business.
    #[test]
    fn bodies_that_are_shared_are_made_canonical_once() {
        let canonicals = Canonicals::default();
        let body = Bytes::from(r#"{"b":1, "a":2}"#.to_owned());
        let first = canonicals.of(&body).unwrap().into_bytes();
        assert_eq!(first, r#"{"a":2,"b":1}"#);
        let second = canonicals.of(&body.clone()).unwrap().into_bytes();
        assert_eq!(first.as_ptr(), second.as_ptr());
        for number in 0..2 * KEPT_MAX {
            canonicals.of(&Bytes::from(format!("[{number}]"))).unwrap();
        }
        assert_eq!(canonicals.latest.borrow().len(), KEPT_MAX);
        assert!(canonicals.of(&Bytes::from_static(b"{")).is_err());
    }
}
