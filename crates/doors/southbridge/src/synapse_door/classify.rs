//! What a federation request is, told from its method and path alone.
//!
//! # Source
//! Matrix server-server API v1.19, the paths of each section; F14 (classes); for what Synapse does
//! with a failure of each, its own retry rules: see [`super::verdict`].

use http::Method;
use southbridge_kernel::Repeat;
use southbridge_policy::ranker::Demand;
use southbridge_words::Class;

/// How a request is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    /// What kind of request it is, where that changes more than its place in a queue.
    pub kind: Kind,
    /// How urgent it is.
    pub class: Class,
    /// Whether it may go out twice.
    pub repeat: Repeat,
}

/// The kinds that are treated in a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `PUT …/send/{txnId}`: its failure makes Synapse drop what it would have kept by waiting.
    Transaction,
    /// `/_matrix/media/*`: may be answered by a redirect.
    LegacyMedia,
    /// `/_matrix/federation/*/media/*`: answered as `multipart/mixed`.
    FederationMedia,
    /// Everything else.
    Other,
}

impl Errand {
    /// What `method` on `path` (without its query) is.
    pub fn of(method: &Method, path: &str) -> Self {
        let (kind, class) = kind_and_class(method, path);
        let repeat =
            if method.is_idempotent() || is_reading_post(path) { Repeat::Safe } else { Repeat::Never };
        Self { kind, class, repeat }
    }

    /// How eager its caller is to hear that the host is down.
    ///
    /// When a transaction finally fails, Synapse drops receipts, typing and presence that its own
    /// retries would have kept: it is refused only for a host that has been failing for minutes.
    pub fn demand(&self) -> Demand {
        match self.kind {
            Kind::Transaction => Demand::Patient,
            _ => Demand::Prompt,
        }
    }
}

fn kind_and_class(method: &Method, path: &str) -> (Kind, Class) {
    let Some((api, rest)) = path.strip_prefix("/_matrix/").and_then(|path| path.split_once('/')) else {
        return (Kind::Other, Class::Repair);
    };
    match api {
        "media" => (Kind::LegacyMedia, Class::Media),
        "federation" => federation(method, endpoint(rest)),
        // Server keys: without them nothing that came in can be checked.
        "key" => (Kind::Other, Class::Repair),
        // A policy server is asked while a message waits to be sent.
        "policy" => (Kind::Other, Class::Interactive),
        _ => (Kind::Other, Class::Repair),
    }
}

/// What follows the version, or the name of an unstable feature.
fn endpoint(rest: &str) -> &str {
    let (version, endpoint) = rest.split_once('/').unwrap_or((rest, ""));
    if version == "unstable" { endpoint.split_once('/').map_or("", |(_, rest)| rest) } else { endpoint }
}

fn federation(method: &Method, endpoint: &str) -> (Kind, Class) {
    let first = endpoint.split('/').next().unwrap_or("");
    let class = match first {
        "send" if *method == Method::PUT => return (Kind::Transaction, Class::Live),
        "media" => return (Kind::FederationMedia, Class::Media),
        "query" | "user" | "publicRooms" | "hierarchy" | "openid" | "version" | "rooms" => Class::Interactive,
        "make_join"
        | "make_leave"
        | "make_knock"
        | "send_join"
        | "send_leave"
        | "send_knock"
        | "invite"
        | "exchange_third_party_invite"
        | "3pid" => Class::Join,
        "backfill" | "timestamp_to_event" => Class::Backfill,
        // state, state_ids, event, event_auth, get_missing_events, and what is not known.
        _ => Class::Repair,
    };
    (Kind::Other, class)
}

/// The POSTs that only read: asking twice does no harm, and being spared a failure does good, since
/// one failed `keys/query` makes Synapse give the host up for ten minutes.
fn is_reading_post(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/_matrix/federation/") else {
        return path == "/_matrix/key/v2/query";
    };
    let endpoint = endpoint(rest);
    matches!(endpoint, "user/keys/query" | "publicRooms") || endpoint.starts_with("get_missing_events/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_federation_api_has_its_class() {
        use Class::{Backfill, Interactive, Join, Live, Media, Repair};
        use Kind::{FederationMedia, LegacyMedia, Other, Transaction};
        use Repeat::{Never, Safe};
        let cases: &[(&str, Kind, Class, Repeat)] = &[
            ("PUT /_matrix/federation/v1/send/1795214572869", Transaction, Live, Safe),
            ("GET /_matrix/federation/v1/query/profile", Other, Interactive, Safe),
            ("GET /_matrix/federation/v1/query/directory", Other, Interactive, Safe),
            ("POST /_matrix/federation/v1/user/keys/query", Other, Interactive, Safe),
            ("POST /_matrix/federation/v1/user/keys/claim", Other, Interactive, Never),
            ("POST /_matrix/federation/unstable/user/keys/claim", Other, Repair, Never),
            ("GET /_matrix/federation/v1/user/devices/%40a%3Ab", Other, Interactive, Safe),
            ("GET /_matrix/federation/v1/publicRooms", Other, Interactive, Safe),
            ("POST /_matrix/federation/v1/publicRooms", Other, Interactive, Safe),
            ("GET /_matrix/federation/v1/hierarchy/!r:a", Other, Interactive, Safe),
            ("GET /_matrix/federation/unstable/org.matrix.msc2946/hierarchy/!r:a", Other, Interactive, Safe),
            ("GET /_matrix/federation/v1/openid/userinfo", Other, Interactive, Safe),
            ("GET /_matrix/federation/v1/version", Other, Interactive, Safe),
            ("POST /_matrix/policy/v1/sign", Other, Interactive, Never),
            ("GET /_matrix/federation/v1/make_join/!r/@u", Other, Join, Safe),
            ("PUT /_matrix/federation/v2/send_join/!r/$e", Other, Join, Safe),
            ("GET /_matrix/federation/v1/make_leave/!r/@u", Other, Join, Safe),
            ("PUT /_matrix/federation/v2/send_leave/!r/$e", Other, Join, Safe),
            ("GET /_matrix/federation/v1/make_knock/!r/@u", Other, Join, Safe),
            ("PUT /_matrix/federation/v1/send_knock/!r/$e", Other, Join, Safe),
            ("PUT /_matrix/federation/v2/invite/!r/$e", Other, Join, Safe),
            ("PUT /_matrix/federation/v1/exchange_third_party_invite/!r", Other, Join, Safe),
            ("GET /_matrix/federation/v1/state/!r", Other, Repair, Safe),
            ("GET /_matrix/federation/v1/state_ids/!r", Other, Repair, Safe),
            ("GET /_matrix/federation/v1/event/$e", Other, Repair, Safe),
            ("GET /_matrix/federation/v1/event_auth/!r/$e", Other, Repair, Safe),
            ("POST /_matrix/federation/v1/get_missing_events/!r", Other, Repair, Safe),
            ("GET /_matrix/key/v2/server", Other, Repair, Safe),
            ("POST /_matrix/key/v2/query", Other, Repair, Safe),
            ("GET /_matrix/federation/v1/backfill/!r", Other, Backfill, Safe),
            ("GET /_matrix/federation/v1/timestamp_to_event/!r", Other, Backfill, Safe),
            ("GET /_matrix/federation/v1/media/download/abc", FederationMedia, Media, Safe),
            (
                "GET /_matrix/federation/unstable/org.matrix.msc3916.v2/media/download/abc",
                FederationMedia,
                Media,
                Safe,
            ),
            ("GET /_matrix/media/v3/download/a.example/abc", LegacyMedia, Media, Safe),
            ("GET /_matrix/media/r0/thumbnail/a.example/abc", LegacyMedia, Media, Safe),
            ("GET /_matrix/federation/v1/send/1", Other, Repair, Safe),
            ("PUT /_matrix/federation/v1/sender/1", Other, Repair, Safe),
            ("POST /_matrix/federation/v3/new", Other, Repair, Never),
            ("GET /_matrix", Other, Repair, Safe),
            ("GET /", Other, Repair, Safe),
        ];
        for (line, kind, class, repeat) in cases {
            let (method, path) = line.split_once(' ').unwrap();
            let errand = Errand::of(&method.parse().unwrap(), path);
            assert_eq!(errand, Errand { kind: *kind, class: *class, repeat: *repeat }, "{line}");
        }
    }

    #[test]
    fn only_transactions_are_patient() {
        let demand = |method: Method, path| Errand::of(&method, path).demand();
        assert_eq!(demand(Method::PUT, "/_matrix/federation/v1/send/1"), Demand::Patient);
        assert_eq!(demand(Method::GET, "/_matrix/federation/v1/query/profile"), Demand::Prompt);
        assert_eq!(demand(Method::PUT, "/_matrix/federation/v2/send_join/r/e"), Demand::Prompt);
    }
}
