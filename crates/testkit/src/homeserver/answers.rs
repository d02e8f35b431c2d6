//! What a fake homeserver answers: enough of the Server-Server API for an outbound bus to be content.

use std::future::pending;

use hyper::{Method, Response};

use super::body::Answer;
use super::received::Received;
use super::script::{Behaviour, Canned, HostScript, Media, WellKnown};

/// What of a request decides its answer.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    target: String,
    host: String,
}

impl Asked {
    pub(super) fn of(request: &Received) -> Self {
        Self { method: request.method.clone(), target: request.target.clone(), host: request.host.clone() }
    }
}

/// The answer of a host with this script, in its own time.
pub(super) async fn answer(script: &HostScript, asked: Asked) -> Response<Answer> {
    if !script.latency.is_zero() {
        tokio::time::sleep(script.latency).await;
    }
    // A host that has turned mute is so on connections from better days as well.
    if matches!(script.behaviour, Behaviour::HangAfterAccept | Behaviour::HangAfterTls) {
        return pending().await;
    }
    if let Some((_, canned)) = script.canned.iter().find(|(prefix, _)| asked.target.starts_with(prefix)) {
        return respond(canned.clone());
    }
    if asked.target.starts_with(WELL_KNOWN) {
        return well_known(&script.well_known, &asked.target).await;
    }
    match &script.behaviour {
        Behaviour::HangAfterRequest => pending().await,
        Behaviour::HtmlBadGateway => respond(bad_gateway()),
        Behaviour::Status { status, headers } => {
            let mut canned = Canned::json(*status, r#"{"errcode":"M_UNKNOWN","error":"as scripted"}"#);
            canned.headers.extend(headers.iter().cloned());
            respond(canned)
        }
        _ => matrix(script, &asked),
    }
}

async fn well_known(script: &WellKnown, target: &str) -> Response<Answer> {
    let delegate = |to: &str| respond(Canned::json(200, &serde_json::json!({ "m.server": to }).to_string()));
    match script {
        WellKnown::Absent => respond(Canned::json(404, r#"{"errcode":"M_NOT_FOUND","error":"none"}"#)),
        WellKnown::Delegate(to) => delegate(to),
        WellKnown::Canned(canned) => respond(canned.clone()),
        WellKnown::RedirectTo(url) => respond(redirect(302, url)),
        WellKnown::Hang => pending().await,
        WellKnown::Redirects { hops, delegate: to } => {
            let hop = target.rsplit_once("?hop=").and_then(|(_, hop)| hop.parse().ok()).unwrap_or(0);
            if hop < *hops {
                respond(redirect(301, &format!("{WELL_KNOWN}?hop={}", hop + 1)))
            } else {
                delegate(to)
            }
        }
    }
}

fn matrix(script: &HostScript, asked: &Asked) -> Response<Answer> {
    let path = asked.target.split('?').next().unwrap_or(&asked.target);
    let Some(path) = path.strip_prefix("/_matrix/") else {
        return match path.strip_prefix("/blob/").and_then(|length| length.parse().ok()) {
            Some(length) => stream("application/octet-stream", Answer::blob(length)),
            None => respond(unrecognized()),
        };
    };
    if let Some(answer) = media(&script.media, path) {
        return answer;
    }
    let body = match (asked.method.as_str(), path) {
        ("GET", "federation/v1/version") => r#"{"server":{"name":"Testkit","version":"1.0"}}"#.into(),
        ("GET", "key/v2/server") => server_key(&asked.host),
        ("PUT", path) if path.starts_with("federation/v1/send/") => r#"{"pdus":{}}"#.into(),
        ("GET", "federation/v1/query/profile") => {
            format!(r#"{{"displayname":"Somebody at {}"}}"#, asked.host)
        }
        ("GET", path) if path.starts_with("federation/v1/user/devices/") => {
            r#"{"devices":[],"stream_id":1,"user_id":"@somebody:invalid"}"#.into()
        }
        ("POST", "federation/v1/user/keys/query") => r#"{"device_keys":{}}"#.into(),
        ("POST", "federation/v1/user/keys/claim") => r#"{"one_time_keys":{}}"#.into(),
        ("GET" | "POST", "federation/v1/publicRooms") => r#"{"chunk":[]}"#.into(),
        ("GET", path) if path.starts_with("federation/v1/backfill/") => {
            format!(r#"{{"origin":"{}","origin_server_ts":1,"pdus":[]}}"#, asked.host)
        }
        _ => return respond(unrecognized()),
    };
    respond(Canned::json(200, &body))
}

/// Unsigned: a test of signatures brings its own keys by [`HostScript::canned`].
fn server_key(host: &str) -> String {
    let key = "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw";
    format!(
        r#"{{"server_name":"{host}","valid_until_ts":4102444800000,"old_verify_keys":{{}},"verify_keys":{{"ed25519:1":{{"key":"{key}"}}}},"signatures":{{}}}}"#
    )
}

/// Answers the authenticated paths (v1.11) and the legacy ones; `None` for what is no media.
fn media(script: &Media, path: &str) -> Option<Response<Answer>> {
    let authenticated = path.starts_with("federation/v1/media/");
    if !authenticated && !path.starts_with("media/") {
        return None;
    }
    Some(match (script, authenticated) {
        (Media::LegacyOnly(_), true) => respond(unrecognized()),
        (Media::Bytes(length), true) => {
            let part = "Content-Type: application/octet-stream\r\n\r\n";
            multipart(|head, tail| Answer::framed(head + part, *length, tail))
        }
        (Media::Redirect(url), true) => {
            multipart(|head, tail| Answer::framed(format!("{head}Location: {url}\r\n\r\n"), 0, tail))
        }
        (Media::Bytes(length) | Media::LegacyOnly(length), false) => {
            stream("application/octet-stream", Answer::blob(*length))
        }
        (Media::Redirect(url), false) => respond(redirect(307, url)),
    })
}

fn multipart(body: impl FnOnce(String, String) -> Answer) -> Response<Answer> {
    let head = format!("--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{BOUNDARY}\r\n");
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    stream(&format!("multipart/mixed; boundary={BOUNDARY}"), body(head, tail))
}

fn unrecognized() -> Canned {
    Canned::json(404, r#"{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}"#)
}

fn bad_gateway() -> Canned {
    let page = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\n";
    Canned {
        status: 502,
        headers: vec![("content-type".into(), "text/html".into())],
        body: page.as_bytes().into(),
    }
}

fn redirect(status: u16, location: &str) -> Canned {
    Canned::json(status, "{}").with("location", location)
}

pub(super) fn respond(canned: Canned) -> Response<Answer> {
    let mut builder = Response::builder().status(canned.status);
    for (name, value) in canned.headers {
        builder = builder.header(name, value);
    }
    builder.body(Answer::bytes(canned.body)).unwrap_or_else(|_| broken_script())
}

fn stream(content_type: &str, body: Answer) -> Response<Answer> {
    let builder = Response::builder().header("content-type", content_type);
    builder.body(body).unwrap_or_else(|_| broken_script())
}

/// A header that HTTP cannot carry: such faults are for the raw peer.
fn broken_script() -> Response<Answer> {
    let mut response = Response::new(Answer::bytes("the script has a header that HTTP cannot carry"));
    *response.status_mut() = hyper::StatusCode::NOT_IMPLEMENTED;
    response
}

const WELL_KNOWN: &str = "/.well-known/matrix/server";
const BOUNDARY: &str = "testkit-boundary-7e1f";
