//! What goes back: one JSON document, or lines that come as they happen.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{LocalBoxStream, Stream};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{Either, Full, StreamBody};

use super::failure::{Code, Failure};

/// The body of an answer.
pub(super) type AnswerBody =
    Either<Full<Bytes>, StreamBody<LocalBoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

/// An answer.
pub(super) type Answer = Response<AnswerBody>;

/// An answer of one JSON document.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    text(status, Bytes::from(value.to_string()))
}

/// An answer of JSON that is text already.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with_type(status, "application/json", Either::Left(Full::new(text.into())))
}

/// An answer of lines, each a JSON document, until `lines` ends.
pub(super) fn lines(lines: impl Stream<Item = Bytes> + 'static) -> Answer {
    let frames = lines.map(|line| Ok(Frame::data(line))).boxed_local();
    let mut answer =
        with_type(StatusCode::OK, "application/x-ndjson", Either::Right(StreamBody::new(frames)));
    // What is between (a debugging proxy, a library) must neither keep the lines nor gather them.
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let mut answer = json(failure.status, &failure.to_json());
        let fields = answer.headers_mut();
        match failure.code {
            Code::MissingToken | Code::UnknownToken => {
                fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::LimitExceeded | Code::OutboxFull | Code::OutboxFailed | Code::Closing => {
                fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        answer
    }
}

/// Says which methods a path takes.
pub(super) fn allow(mut answer: Answer, allowed: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(ALLOW, value);
    }
    answer
}

fn with_type(status: StatusCode, kind: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
