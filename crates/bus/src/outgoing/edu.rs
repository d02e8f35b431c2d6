//! An EDU on its way out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use southbridge_words::WallTime;

use super::json::{NotAnObject, check_object, write_string};

/// What kind an EDU is, and so what may become of it (F8; Matrix specification, "EDUs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EduKind {
    /// `m.typing`: worthless after a minute; the last of a user in a room counts.
    Typing,
    /// `m.presence`: the last of a user counts.
    Presence,
    /// `m.receipt`: the last of a user in a thread of a room counts.
    Receipt,
    /// `m.device_list_update`: losing the last one does not heal by itself.
    DeviceList,
    /// `m.direct_to_device`: losing or reordering them breaks encryption.
    ToDevice,
    /// `m.signing_key_update`: as device lists.
    SigningKey,
    /// Any other: nobody knows whether it may be lost, so it may not.
    Unknown,
}

impl EduKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Typing,
        Self::Presence,
        Self::Receipt,
        Self::DeviceList,
        Self::ToDevice,
        Self::SigningKey,
        Self::Unknown,
    ];

    /// The kind of an EDU of type `edu_type`. The names that unstable versions of the specification used count.
    pub fn of(edu_type: &str) -> Self {
        match edu_type {
            "m.typing" => Self::Typing,
            "m.presence" => Self::Presence,
            "m.receipt" => Self::Receipt,
            "m.device_list_update" => Self::DeviceList,
            "m.direct_to_device" => Self::ToDevice,
            "m.signing_key_update" | "org.matrix.signing_key_update" => Self::SigningKey,
            _ => Self::Unknown,
        }
    }

    /// Whether it must not be lost: it stands in the outbox before it is acknowledged (F16), and nothing
    /// but an operator's order or a retention limit takes it out but its delivery.
    pub const fn is_durable(self) -> bool {
        !matches!(self, Self::Typing | Self::Presence | Self::Receipt)
    }

    /// The name used in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::Presence => "presence",
            Self::Receipt => "receipt",
            Self::DeviceList => "device_list",
            Self::ToDevice => "to_device",
            Self::SigningKey => "signing_key",
            Self::Unknown => "unknown",
        }
    }
}

/// An EDU: a type, a content, and when it was made. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingEdu {
    edu_type: Arc<str>,
    content: Bytes,
    created_at: WallTime,
}

/// Why something is not an EDU that can be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEdu {
    /// More than a transaction should be made of.
    #[error("the EDU of type {edu_type:?} has {bytes} bytes, the most is {EDU_BYTES_MAX}")]
    TooLarge {
        /// Its type.
        edu_type: String,
        /// How many bytes of content it has.
        bytes: usize,
    },
    /// No type, or a novel.
    #[error("the type of an EDU has 1 to {TYPE_BYTES_MAX} bytes, not {bytes}")]
    Type {
        /// How many bytes it has.
        bytes: usize,
    },
    /// A transaction that held it would not be JSON.
    #[error("the content of the EDU of type {edu_type:?} is not one JSON object")]
    NotAnObject {
        /// Its type.
        edu_type: String,
        /// What it is instead.
        source: NotAnObject,
    },
}

impl OutgoingEdu {
    /// An EDU made at `created_at` with this raw JSON `content`.
    ///
    /// # Errors
    /// [`InvalidEdu`] when type or content could not stand in a transaction.
    pub fn new(
        edu_type: impl Into<Arc<str>>,
        content: impl Into<Bytes>,
        created_at: WallTime,
    ) -> Result<Self, InvalidEdu> {
        let (edu_type, content) = (edu_type.into(), content.into());
        if edu_type.is_empty() || edu_type.len() > TYPE_BYTES_MAX {
            return Err(InvalidEdu::Type { bytes: edu_type.len() });
        }
        if content.len() > EDU_BYTES_MAX {
            return Err(InvalidEdu::TooLarge { edu_type: edu_type.to_string(), bytes: content.len() });
        }
        check_object(&content)
            .map_err(|source| InvalidEdu::NotAnObject { edu_type: edu_type.to_string(), source })?;
        Ok(Self { edu_type, content, created_at })
    }

    /// Its type.
    pub fn edu_type(&self) -> &Arc<str> {
        &self.edu_type
    }

    /// Its kind.
    pub fn kind(&self) -> EduKind {
        EduKind::of(&self.edu_type)
    }

    /// Its content, as raw JSON.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// When it was made.
    pub fn created_at(&self) -> WallTime {
        self.created_at
    }

    /// The JSON object that goes into a transaction.
    pub fn to_json(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.content.len() + self.edu_type.len() + 28);
        out.extend_from_slice(b"{\"content\":");
        out.extend_from_slice(&self.content);
        out.extend_from_slice(b",\"edu_type\":");
        write_string(&mut out, &self.edu_type);
        out.push(b'}');
        out.into()
    }
}

impl fmt::Debug for OutgoingEdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutgoingEdu({:?}, [redacted], {} bytes)", self.edu_type, self.content.len())
    }
}

/// To-device messages to many devices are the largest that are seen; the specification names no limit.
const EDU_BYTES_MAX: usize = 1024 * 1024;
/// As for the types of events.
const TYPE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody knows is treated as what must not be lost.
    #[test]
    fn only_what_heals_by_itself_may_be_lost() {
        let volatile: Vec<EduKind> = EduKind::ALL.into_iter().filter(|kind| !kind.is_durable()).collect();
        assert_eq!(volatile, [EduKind::Typing, EduKind::Presence, EduKind::Receipt]);
        assert_eq!(EduKind::of("com.example.novel"), EduKind::Unknown);
        assert_eq!(EduKind::of("M.TYPING"), EduKind::Unknown);
    }

    /// A type cannot break out of its string.
    #[test]
    fn an_edu_is_one_object_whatever_its_type() {
        let edu = OutgoingEdu::new("a\",\"pdus\":[\n", "{\"b\" : 1}", WallTime::from_unix_millis(1)).unwrap();
        assert_eq!(&edu.to_json()[..], br#"{"content":{"b" : 1},"edu_type":"a\",\"pdus\":[\n"}"#);
        assert!(check_object(&edu.to_json()).is_ok());
    }

    /// What could not stand in a transaction is refused at the door.
    #[test]
    fn an_edu_that_could_not_be_sent_is_refused() {
        let made = |edu_type: &str, content: &str| {
            OutgoingEdu::new(edu_type, content.to_owned(), WallTime::from_unix_millis(1)).unwrap_err()
        };
        assert!(matches!(made("", "{}"), InvalidEdu::Type { bytes: 0 }));
        assert!(matches!(made(&"x".repeat(256), "{}"), InvalidEdu::Type { bytes: 256 }));
        assert!(matches!(made("m.typing", "[]"), InvalidEdu::NotAnObject { .. }));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(EDU_BYTES_MAX));
        assert!(matches!(made("m.typing", &long), InvalidEdu::TooLarge { .. }));
    }
}
