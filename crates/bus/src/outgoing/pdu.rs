//! A PDU on its way out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::json::{NotAnObject, check_object};

/// The most bytes a PDU may have, signatures included (Matrix specification, "Size limits").
pub const PDU_BYTES_MAX: usize = 65_536;

/// A PDU, as the very bytes it was signed as (DESIGN decision 7). Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingPdu {
    bytes: Bytes,
    event_id: Option<Arc<str>>,
}

/// Why something is not a PDU that can be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPdu {
    /// Every homeserver refuses it.
    #[error("the PDU has {bytes} bytes, the most is {PDU_BYTES_MAX}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// A transaction that held it would not be JSON.
    #[error("the PDU is not one JSON object")]
    NotAnObject(#[from] NotAnObject),
}

impl OutgoingPdu {
    /// A PDU of these `bytes`, which are sent as they are.
    ///
    /// # Errors
    /// [`InvalidPdu`] when they are too many, or not one JSON object. What is in it is the homeserver's business.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, InvalidPdu> {
        let bytes = bytes.into();
        if bytes.len() > PDU_BYTES_MAX {
            return Err(InvalidPdu::TooLarge { bytes: bytes.len() });
        }
        check_object(&bytes)?;
        Ok(Self { bytes, event_id: None })
    }

    /// The same PDU with its event id, for reports: peers name PDUs by it in their answers.
    #[must_use]
    pub fn with_event_id(self, event_id: impl Into<Arc<str>>) -> Self {
        Self { event_id: Some(event_id.into()), ..self }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its event id, if the caller told.
    pub fn event_id(&self) -> Option<&Arc<str>> {
        self.event_id.as_ref()
    }
}

impl fmt::Debug for OutgoingPdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutgoingPdu([redacted], {} bytes, {:?})", self.bytes.len(), self.event_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was signed is what is sent, blanks and order included.
    #[test]
    fn a_pdu_keeps_its_bytes() {
        let bytes = br#"{ "type":"m.room.message" ,"content":{"b":1,"a":1.0e2} }"#;
        let pdu = OutgoingPdu::new(&bytes[..]).unwrap().with_event_id("$a");
        assert_eq!(&pdu.bytes()[..], bytes);
        assert_eq!(format!("{pdu:?}"), "OutgoingPdu([redacted], 56 bytes, Some(\"$a\"))");
    }

    /// What no homeserver takes is refused where it can still be told to the caller.
    #[test]
    fn a_pdu_that_nobody_would_take_is_refused() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(PDU_BYTES_MAX - 7));
        assert!(matches!(OutgoingPdu::new(long), Err(InvalidPdu::TooLarge { bytes: 65_537 })));
        assert!(matches!(OutgoingPdu::new("[]"), Err(InvalidPdu::NotAnObject(NotAnObject::Kind))));
        assert!(matches!(OutgoingPdu::new("{},{}"), Err(InvalidPdu::NotAnObject(_))));
    }
}
