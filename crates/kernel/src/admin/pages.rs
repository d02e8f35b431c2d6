//! The pages of the admin socket.

use ::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use ::http::{Method, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;
use southbridge_policy::ranker::HostView;
use southbridge_words::{HostState, ServiceName};

use super::Admin;
use super::visitor::Refused;
use crate::stats::Exposition;

pub(super) type Page = Response<Full<Bytes>>;

/// The answer to who is not let in.
pub(super) fn refused(why: Refused) -> Page {
    let reason = match why {
        Refused::Secret => {
            let mut page =
                failure(StatusCode::UNAUTHORIZED, "show the admin secret as Authorization: Bearer");
            page.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return page;
        }
        Refused::Name => "ask by address or as localhost; other names need an admin secret",
        Refused::Page => "web pages need an admin secret to have something done",
    };
    failure(StatusCode::FORBIDDEN, reason)
}

/// The answer to one request.
pub(super) fn answer(admin: &Admin, method: &Method, uri: &Uri) -> Page {
    let path = uri.path();
    if let Some(host) = path.strip_prefix("/hosts/").and_then(|rest| rest.strip_suffix("/wake")) {
        return if *method == Method::POST { wake(admin, host) } else { not_allowed("POST") };
    }
    let page: fn(&Admin, &Uri) -> Page = match path {
        "/healthz" => |_, _| plain(StatusCode::OK, "ok\n"),
        "/ready" => ready,
        "/metrics" => |admin, _| metrics(admin),
        "/debug/requests" => |admin, _| requests(admin),
        "/debug/pools" => |admin, _| pools(admin),
        "/debug/hosts" => hosts,
        "/" => |_, _| plain(StatusCode::OK, INDEX),
        _ => return failure(StatusCode::NOT_FOUND, &format!("there is no page {path:?}; GET / lists them")),
    };
    if *method == Method::GET || *method == Method::HEAD {
        page(admin, uri)
    } else {
        not_allowed("GET, HEAD")
    }
}

fn ready(admin: &Admin, _uri: &Uri) -> Page {
    if admin.readiness.is_ready() {
        plain(StatusCode::OK, "ready\n")
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

fn metrics(admin: &Admin) -> Page {
    let body = Full::new(Bytes::from(admin.board.page().into_text()));
    with_type(StatusCode::OK, Exposition::CONTENT_TYPE, body)
}

fn requests(admin: &Admin) -> Page {
    let requests = admin.kernel.requests(ROWS_MAX);
    json_page(StatusCode::OK, &json!({ "under_way": admin.kernel.requests_count(), "oldest": requests }))
}

fn pools(admin: &Admin) -> Page {
    let usage = admin.kernel.pool_usage();
    let mut peers = admin.kernel.peers();
    let found = peers.len();
    peers.truncate(ROWS_MAX);
    json_page(
        StatusCode::OK,
        &json!({
            "connections": usage.connections, "idle": usage.idle, "dials": usage.dials,
            "handshakes": usage.handshakes, "leases": usage.leases, "waiting": usage.waiting,
            "limited": {
                "connections": usage.limited_connections, "dials": usage.limited_dials,
                "handshakes": usage.limited_handshakes,
            },
            "found": found, "peers": peers,
        }),
    )
}

fn hosts(admin: &Admin, uri: &Uri) -> Page {
    let wanted = uri.query().and_then(|query| query.strip_prefix("state="));
    let state = match wanted.map(|name| (name, HostState::from_name(name))) {
        None => None,
        Some((_, Some(state))) => Some(state),
        Some((name, None)) => {
            let names: Vec<&str> = HostState::ALL.iter().map(|state| state.name()).collect();
            let reason = format!("{name:?} is not a state; the states are {}", names.join(", "));
            return failure(StatusCode::BAD_REQUEST, &reason);
        }
    };
    let mut hosts = admin.kernel.hosts();
    hosts.retain(|(_, view)| state.is_none_or(|state| view.state == state));
    let rows: Vec<_> = hosts.iter().take(ROWS_MAX).map(|(host, view)| host_row(host, view)).collect();
    json_page(StatusCode::OK, &json!({ "found": hosts.len(), "hosts": rows }))
}

fn host_row(host: &ServiceName, view: &HostView) -> serde_json::Value {
    json!({
        "host": host.as_str(),
        "state": view.state.name(),
        "latency_ms": view.latency.as_millis() as u64,
        "failures": view.failures,
        "successes": view.successes,
        "in_flight": view.in_flight,
        "failing_for_ms": view.failing_for.map(|since| since.as_millis() as u64),
        "retry_in_ms": view.retry_in.map(|after| after.as_millis() as u64),
        "last_failure": view.last.map(southbridge_words::Step::name),
        "idle_ms": view.idle_for.as_millis() as u64,
    })
}

fn wake(admin: &Admin, host: &str) -> Page {
    let host = ServiceName::new(host);
    let known_here = admin.kernel.host(&host).is_some();
    admin.kernel.wake(&host);
    // Each of them is told, whatever the others know.
    let known = admin.wake.iter().fold(known_here, |known, wake| wake(&host) || known);
    if !known {
        return failure(StatusCode::NOT_FOUND, &format!("nothing is known of host {:?}", host.as_str()));
    }
    json_page(StatusCode::OK, &json!({ "host": host.as_str(), "woken": true }))
}

fn plain(status: StatusCode, text: &'static str) -> Page {
    with_type(status, "text/plain; charset=utf-8", Full::new(Bytes::from_static(text.as_bytes())))
}

pub(super) fn failure(status: StatusCode, reason: &str) -> Page {
    json_page(status, &json!({ "error": reason }))
}

pub(super) fn not_allowed(allowed: &'static str) -> Page {
    let mut page = failure(StatusCode::METHOD_NOT_ALLOWED, &format!("this page takes {allowed}"));
    page.headers_mut().insert(ALLOW, ::http::HeaderValue::from_static(allowed));
    page
}

pub(super) fn json_page(status: StatusCode, value: &impl Serialize) -> Page {
    let mut text = serde_json::to_string_pretty(value).expect("views have string keys and finite numbers");
    text.push('\n');
    with_type(status, "application/json", Full::new(Bytes::from(text)))
}

fn with_type(status: StatusCode, kind: &'static str, body: Full<Bytes>) -> Page {
    let mut page = Response::new(body);
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, ::http::HeaderValue::from_static(kind));
    page
}

const INDEX: &str = "\
GET  /healthz          200 while the I/O thread turns
GET  /ready            200 once the doors work
GET  /metrics          numbers for Prometheus
GET  /debug/requests   the oldest requests under way
GET  /debug/pools      peers and their connections
GET  /debug/hosts      hosts and their ranks; ?state=down filters
POST /hosts/NAME/wake  end the back-off of a host
";

/// As many rows as a person may want to look through; more would hold up the I/O thread.
const ROWS_MAX: usize = 1000;
