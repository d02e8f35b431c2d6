//! JSON that is looked at and passed on as it came.

use serde_json::value::RawValue;

/// Why bytes are not one JSON object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnObject {
    /// They are not JSON at all, or something follows.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// They are another kind of value.
    #[error("JSON, but no object")]
    Kind,
}

/// Checks that `bytes` are one JSON object and nothing else. Takes no more stack for deep nesting.
pub(crate) fn check_object(bytes: &[u8]) -> Result<(), NotAnObject> {
    let value: &RawValue = serde_json::from_slice(bytes)?;
    if value.get().starts_with('{') { Ok(()) } else { Err(NotAnObject::Kind) }
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string can be written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One object, in any spelling; nothing before or after it but blanks.
    #[test]
    fn only_one_whole_object_is_an_object() {
        for good in ["{}", " {\"a\": [1e400, -0, \"\\ud800\"]}\n", &nested(60_000)] {
            assert!(check_object(good.as_bytes()).is_ok(), "{}", &good[..good.len().min(40)]);
        }
        for bad in ["", "[]", "null", "{", "{}{}", "{} x", "{\"a\":}", "{'a':1}", "\u{feff}{}"] {
            assert!(check_object(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
    }
}
