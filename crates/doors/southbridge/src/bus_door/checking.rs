//! Checks and keys, as the door answers them.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use southbridge_bus::keyring::{KeyError, KeyView};
use southbridge_bus::signing::{EventError, SignedJsonError, Verified, VerifyKey};
use southbridge_words::{KeyStanding, ServerName};

use super::answer::{self, Answer};
use super::api::BusApi;
use super::arguments::Arguments;
use super::checks::{self, Check};
use super::failure::{Code, Failure};
use super::side_bus::ServedBus;
use super::views::{KeyRow, Verdict};
use super::{Inside, visit};
use crate::bus::VerifyError;
use crate::bus::keys::{IncomingRequest, VerifiedEvent};

/// `POST /bus/v1/verify`, once its body is read.
pub(super) async fn verify<B: BusApi>(door: &Inside<B>, body: &[u8]) -> Result<Answer, Failure> {
    let checks = checks::read_checks(body)?;
    let timeout = checks.timeout;
    // All at once, so that servers are asked for their keys together.
    let checking = checks.checks.into_iter().map(|check| async move {
        match check {
            Ok(check) => door.bus.verify(&check, timeout).await,
            Err(failure) => Err(failure),
        }
    });
    let results = join_all(checking).await;
    let results: Vec<Value> = results
        .iter()
        .map(|result| match result {
            Ok(verdict) => json!(verdict),
            Err(failure) => failure.to_json(),
        })
        .collect();
    Ok(answer::json(StatusCode::OK, &json!({ "results": results })))
}

/// `GET /bus/v1/keys/{server}`.
pub(super) async fn show_keys<B: BusApi>(
    door: &Inside<B>,
    name: &str,
    arguments: &Arguments,
) -> Result<Answer, Failure> {
    let server = visit::parse("server", name)?;
    let timeout_ms = arguments.number("timeout_ms", 0..=usize::MAX)?.map(|millis| millis as u64);
    let keys = door.bus.keys(&server, checks::read_timeout(timeout_ms)?).await?;
    Ok(answer::json(StatusCode::OK, &json!({ "server_name": server.as_str(), "keys": keys })))
}

/// `DELETE /bus/v1/keys/{server}`.
pub(super) fn forget_keys<B: BusApi>(door: &Inside<B>, name: &str) -> Result<Answer, Failure> {
    let server = visit::parse("server", name)?;
    if !door.bus.forget_keys(&server) {
        return Err(Failure::new(Code::NotFound, format!("nothing is known of the keys of {server}")));
    }
    tracing::warn!(%server, "keys forgotten by order");
    Ok(answer::json(StatusCode::OK, &json!({ "server_name": server.as_str() })))
}

impl ServedBus {
    /// Checks one thing.
    pub(super) async fn check(
        &self,
        check: &Check<'_>,
        timeout: std::time::Duration,
    ) -> Result<Verdict, VerifyError> {
        let keys = self.bus.keys();
        Ok(match check {
            Check::Event { text, version } => {
                let VerifiedEvent { event_id, verified } =
                    keys.verify_event(text.as_bytes(), version, timeout).await?;
                match verified {
                    Verified::Whole => Verdict::Whole { event_id },
                    Verified::RedactedOnly => Verdict::RedactedOnly { event_id },
                }
            }
            Check::Object { text, signer, purpose } => {
                keys.verify_object(text.as_bytes(), signer, *purpose, timeout).await?;
                Verdict::Object
            }
            Check::Request { authorization, method, uri, content } => {
                let authorization = authorization.as_bytes();
                let content = content.map(str::as_bytes);
                let request = IncomingRequest { authorization, method, uri, content };
                Verdict::Request { origin: keys.verify_request(&request, timeout).await?.to_string() }
            }
        })
    }

    /// The keys of a server.
    pub(super) async fn look_at(
        &self,
        server: &ServerName,
        timeout: std::time::Duration,
    ) -> Result<Vec<KeyRow>, VerifyError> {
        let keys = self.bus.keys().of_server(server, timeout).await?;
        Ok(keys.iter().map(row).collect())
    }
}

fn row(view: &KeyView) -> KeyRow {
    let KeyView { id, key, standing, until, good_now } = view;
    let key: &VerifyKey = key;
    KeyRow {
        id: id.to_string(),
        key: key.to_string(),
        standing: match standing {
            KeyStanding::Signing => "signing",
            KeyStanding::Old => "old",
        },
        until_ms: until.unix_millis(),
        good_now: *good_now,
    }
}

/// How a check that does not end well is told.
pub(super) fn failure_of(error: &VerifyError) -> Failure {
    let code = match error {
        VerifyError::Event(EventError::TooLarge { .. }) => Code::TooLarge,
        VerifyError::Event(EventError::Canonical(_) | EventError::Field { .. })
        | VerifyError::Event(EventError::Signed(
            SignedJsonError::Canonical(_) | SignedJsonError::Signatures | SignedJsonError::TooMany { .. },
        ))
        | VerifyError::Object(
            SignedJsonError::Canonical(_) | SignedJsonError::Signatures | SignedJsonError::TooMany { .. },
        ) => Code::BadJson,
        VerifyError::Authorization(_) => Code::InvalidParam,
        VerifyError::Key(KeyError::Unavailable { .. }) => Code::NoKeys,
        VerifyError::Key(KeyError::Overloaded) => Code::LimitExceeded,
        VerifyError::DeadlinePassed { .. } => Code::TimedOut,
        VerifyError::Closing => Code::Closing,
        _ => Code::NotVerified,
    };
    Failure::new(code, error.to_string())
}
