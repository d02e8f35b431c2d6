//! What comes back, read within bounds.
//!
//! # Source
//! K14; `reference/faults.md` rows 5–7 and 16–17.

pub(super) mod failure;
mod share;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::RETRY_AFTER;
use http_body_util::BodyExt;
use southbridge_bus::externaliser::{Answer, Failure};
use southbridge_kernel::http::ResponseBody;
use southbridge_words::{Class, Instant, Step};

use super::inner::Inner;
pub(super) use share::Held;
use share::{NoRoom, Share};

/// The answer to a transaction.
///
/// # Errors
/// [`Failure::PerhapsSent`] when a success is not readable. Of any other status the body is not needed: one that
/// is too long or breaks off is left out.
pub(super) async fn of_transaction(
    inner: &Inner,
    response: Response<ResponseBody>,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let clock = inner.kernel().clock();
    let until = clock.to_tokio(deadline.max(clock.now() + BODY_TIME_MIN));
    let bytes_max = inner.answer_limits().transaction_bytes_max;
    let reading = read(inner, response, bytes_max);
    let failed = match tokio::time::timeout_at(until, reading).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(unread)) => unread.to_string(),
        Err(_) => "the body of the answer did not come in time".to_owned(),
    };
    Err(Failure::PerhapsSent { step: Step::Body, reason: failed })
}

/// The answer to a query of this class.
///
/// # Errors
/// [`Failure::PerhapsSent`] when a success is not readable, [`Failure::Unfit`] when it is larger than may be.
pub(super) async fn of_query(
    inner: &Inner,
    response: Response<ResponseBody>,
    class: Class,
) -> Result<Answer, Failure> {
    let bytes_max = inner.answer_limits().query_bytes_max[class];
    read(inner, response, bytes_max).await.map_err(|unread| match unread {
        // It would be as large the next time.
        Unread::TooLarge { .. } => Failure::Unfit { reason: unread.to_string() },
        _ => Failure::PerhapsSent { step: Step::Body, reason: unread.to_string() },
    })
}

/// Why the body of an answer was not read to its end.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("the answer has more than {bytes_max} bytes, which is the most")]
    TooLarge { bytes_max: u64 },
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("{0}")]
    Broken(String),
}

async fn read(inner: &Inner, response: Response<ResponseBody>, bytes_max: u64) -> Result<Answer, Unread> {
    let (parts, body) = response.into_parts();
    let retry_after = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let answer = Answer {
        status: parts.status.as_u16(),
        retry_after: retry_after.filter(|value| value.len() <= RETRY_AFTER_MAX).map(str::to_owned),
        body: Bytes::new(),
    };
    // What else the head said is not needed while the body comes.
    drop(parts.headers);
    if parts.status.is_success() {
        return Ok(Answer { body: read_body(inner, body, bytes_max).await?, ..answer });
    }
    let bytes_max = bytes_max.min(inner.answer_limits().error_bytes_max);
    Ok(Answer { body: read_body(inner, body, bytes_max).await.unwrap_or_default(), ..answer })
}

async fn read_body(inner: &Inner, mut body: ResponseBody, bytes_max: u64) -> Result<Bytes, Unread> {
    let mut share = Share::of(inner.held(), inner.answer_limits().all_bytes_max);
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unread::Broken(super::words(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        share.grow(data.len() as u64)?;
        if share.bytes() > bytes_max {
            return Err(Unread::TooLarge { bytes_max });
        }
        // Nearly every answer comes in one piece, which is taken as it is.
        if first.is_empty() && gathered.is_empty() {
            first = data;
            continue;
        }
        if gathered.is_empty() {
            gathered.extend_from_slice(&std::mem::take(&mut first));
        }
        gathered.extend_from_slice(&data);
    }
    Ok(if gathered.is_empty() { first } else { gathered.freeze() })
}

/// Two lines of a calendar; more is no date and no number.
const RETRY_AFTER_MAX: usize = 64;
/// A head that came at the last moment leaves the body some time.
const BODY_TIME_MIN: std::time::Duration = std::time::Duration::from_secs(10);
