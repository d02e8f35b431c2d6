//! The HTTP/2 of a peer: each stream does what its request is replied with.
//!
//! # Source
//! T4; RFC 9113.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use southbridge_kernel::net::MemoryStream;
use southbridge_testkit::raw::RequestText;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::peer::Shared;
use crate::reply::{Deed, Ending, Head, Script};

/// Answers on `stream` until somebody hangs up.
pub(crate) async fn converse(
    peer: &Rc<Shared>,
    stream: TlsStream<MemoryStream>,
    conn: u64,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut streams = JoinSet::new();
    let hanging_up = Rc::new(Notify::new());
    loop {
        tokio::select! {
            biased;
            Some(_) = streams.join_next() => {}
            () = hanging_up.notified() => return Ok(()),
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let (peer, hang_up) = (Rc::clone(peer), Rc::clone(&hanging_up));
                streams.spawn_local(async move {
                    // Whatever becomes of one stream, the others go on.
                    if let Ok(Hanging::Up) = answer(&peer, conn, request, respond).await {
                        hang_up.notify_one();
                    }
                });
            }
        }
    }
}

/// Whether the connection ends with the stream.
enum Hanging {
    Up,
    On,
}

async fn answer(
    peer: &Shared,
    conn: u64,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<Hanging, h2::Error> {
    let (parts, body) = request.into_parts();
    let seen = peer.note(conn, RequestText { head: head_text(&parts), body: whole(body).await? });
    let replied = tokio::select! {
        biased;
        reset = poll_fn(|cx| respond.poll_reset(cx)) => return reset.map(|_| Hanging::On),
        reply = peer.reply_to(&seen) => reply,
    };
    let Script::Deed(deed) = replied.0 else {
        respond.send_reset(Reason::HTTP_1_1_REQUIRED);
        return Ok(Hanging::On);
    };
    tokio::time::sleep(deed.after).await;
    match &deed.head {
        None => end_unanswered(&deed, &mut respond).await,
        Some(head) => give(head, &deed, &seen.method, respond).await,
    }
}

async fn end_unanswered(deed: &Deed, respond: &mut SendResponse<Bytes>) -> Result<Hanging, h2::Error> {
    match deed.ending {
        Ending::Never => poll_fn(|cx| respond.poll_reset(cx)).await.map(|_| Hanging::On),
        Ending::Reset => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(Hanging::On)
        }
        Ending::Whole | Ending::ThenClose | Ending::Cut => Ok(Hanging::Up),
    }
}

async fn give(
    head: &Head,
    deed: &Deed,
    method: &str,
    mut respond: SendResponse<Bytes>,
) -> Result<Hanging, h2::Error> {
    let has_body = head.has_body(method);
    let ends = matches!(deed.ending, Ending::Whole | Ending::ThenClose);
    let Some(response) = response(head, deed.bytes()) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Ok(Hanging::On);
    };
    let mut stream = respond.send_response(response, ends && !has_body)?;
    if has_body {
        for (after, piece) in &deed.pieces {
            tokio::time::sleep(*after).await;
            send(&mut stream, piece.clone()).await?;
        }
        if ends {
            stream.send_data(Bytes::new(), true)?;
        }
    }
    match deed.ending {
        Ending::Whole => Ok(Hanging::On),
        Ending::ThenClose | Ending::Cut => {
            // What was sent goes out first: it is written by the task of the connection.
            tokio::task::yield_now().await;
            Ok(Hanging::Up)
        }
        Ending::Reset => {
            stream.send_reset(Reason::INTERNAL_ERROR);
            Ok(Hanging::On)
        }
        Ending::Never => poll_fn(|cx| stream.poll_reset(cx)).await.map(|_| Hanging::On),
    }
}

fn response(head: &Head, length: usize) -> Option<Response<()>> {
    let mut response = Response::builder().status(head.status);
    for (name, value) in &head.headers {
        response = response.header(name, value.as_slice());
    }
    if head.wants_length() {
        response = response.header("content-length", length);
    }
    response.body(()).ok()
}

async fn send(stream: &mut SendStream<Bytes>, mut piece: Bytes) -> Result<(), h2::Error> {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? else {
            return Err(Reason::CANCEL.into());
        };
        stream.send_data(piece.split_to(room.min(piece.len())), false)?;
    }
    Ok(())
}

async fn whole(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        if bytes.len() + piece.len() > BODY_MAX {
            return Err(Reason::ENHANCE_YOUR_CALM.into());
        }
        bytes.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(bytes)
}

/// As it would have been in HTTP/1.1.
fn head_text(parts: &http::request::Parts) -> String {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = format!("{} {target} HTTP/2\r\n", parts.method);
    if let Some(authority) = parts.uri.authority() {
        head.push_str(&format!("host: {authority}\r\n"));
    }
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    head.push_str("\r\n");
    head
}

const BODY_MAX: usize = 64 << 20;
