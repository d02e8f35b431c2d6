//! What a caller is told when there is no response to pass on.
//!
//! # Source
//! The keys are those of Synapse's own federation proxy (`errcode` and `err`), of the Matrix
//! client-server API (`error`), and our own (`southbridge`), which say how far a request came.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use southbridge_words::Step;

/// An answer of our own making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What Synapse decides by.
    pub status: StatusCode,
    /// The Matrix error code.
    pub errcode: &'static str,
    /// One sentence, naming the host, the step and the reason.
    pub message: String,
    /// What became of the request, where one was to be made.
    pub cause: Option<Cause>,
    /// When it is worth asking again (`Retry-After`, rounded up to seconds).
    pub retry_after: Option<Duration>,
}

/// How far a request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// To which step.
    pub step: Step,
    /// Whom it was for.
    pub host: String,
    /// In how long the host will be tried again, if it is not tried now.
    pub retry_in: Option<Duration>,
}

impl Refusal {
    /// A refusal for a fault of the request itself.
    pub fn new(status: StatusCode, errcode: &'static str, message: impl Into<String>) -> Self {
        Self { status, errcode, message: message.into(), cause: None, retry_after: None }
    }

    /// Its bytes on the wire. `extra_fields` are whole lines, each with its CR LF.
    pub fn to_wire(&self, body: Show, extra_fields: &str) -> Vec<u8> {
        let json = self.body();
        let reason = self.status.canonical_reason().unwrap_or("Refused");
        let mut wire = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            self.status.as_u16(),
            json.len()
        );
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            wire.push_str(&format!("retry-after: {seconds}\r\n"));
        }
        wire.push_str(extra_fields);
        wire.push_str("connection: close\r\n\r\n");
        if body == Show::Body {
            wire.push_str(&json);
        }
        wire.into_bytes()
    }

    /// The JSON.
    pub fn body(&self) -> String {
        let mut body = json!({ "errcode": self.errcode, "error": self.message, "err": self.message });
        if let Some(cause) = &self.cause {
            body["southbridge"] = json!({
                "step": cause.step.name(),
                "host": cause.host,
                "retry_in_ms": cause.retry_in.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            });
        }
        body.to_string()
    }
}

/// Whether a response to this request has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// It has.
    Body,
    /// It was asked for with HEAD, and has none.
    HeadOnly,
}

impl Show {
    /// What `method` wants to see.
    pub fn of(method: &http::Method) -> Self {
        if *method == http::Method::HEAD { Self::HeadOnly } else { Self::Body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refusal {
        let retry_in = Some(Duration::from_millis(1500));
        let cause = Cause { step: Step::Connect, host: "a.example".to_owned(), retry_in };
        let mut refusal = Refusal::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "a \"quoted\"\r\nreason");
        refusal.cause = Some(cause);
        refusal.retry_after = retry_in;
        refusal
    }

    /// Whatever a peer managed to put into the reason, it stays inside the JSON.
    #[test]
    fn a_refusal_says_what_failed_at_which_step() {
        let wire = String::from_utf8(refusal().to_wire(Show::Body, "")).unwrap();
        let (head, body) = wire.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\ncontent-type: application/json\r\n"), "{head}");
        assert!(head.contains("retry-after: 2\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["errcode"], "M_UNKNOWN");
        assert_eq!(body["err"], "a \"quoted\"\r\nreason");
        assert_eq!(body["err"], body["error"]);
        assert_eq!(
            body["southbridge"],
            json!({ "step": "connect", "host": "a.example", "retry_in_ms": 1500 })
        );
    }

    #[test]
    fn a_refused_head_request_is_answered_without_a_body() {
        let wire = refusal().to_wire(Show::HeadOnly, "");
        assert!(wire.ends_with(b"\r\n\r\n"));
    }
}
