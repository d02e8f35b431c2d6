//! The endpoints of the Server-Server API that a homeserver calls, and what is known of each.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API; F14 for the classes, K16 for what may be repeated.

use southbridge_words::Class;

/// How a query is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryMethod {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
}

impl QueryMethod {
    /// As it stands in the request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// The method called `name`, in capitals, if a query can be asked by it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Put].into_iter().find(|method| method.as_str() == name)
    }
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How it is asked.
    pub method: QueryMethod,
    /// Its path; what varies stands in braces.
    pub template: &'static str,
    /// How urgent it is.
    pub class: Class,
    /// Whether asking twice does no harm (K16).
    pub repeatable: bool,
    /// Whether the request carries an X-Matrix signature.
    pub signed: bool,
}

impl Endpoint {
    /// What is known of `template` asked by `method`.
    ///
    /// Of what is not known, a GET and a PUT may be repeated and a POST may not (RFC 9110 §9.2.2), and
    /// somebody waits for it.
    pub fn known(method: QueryMethod, template: &str) -> Option<&'static Self> {
        ENDPOINTS.iter().find(|endpoint| endpoint.method == method && endpoint.template == template)
    }

    /// All that are known.
    pub fn all() -> &'static [Self] {
        ENDPOINTS
    }
}

const fn get(template: &'static str, class: Class) -> Endpoint {
    Endpoint { method: QueryMethod::Get, template, class, repeatable: true, signed: true }
}

const fn put(template: &'static str, class: Class) -> Endpoint {
    Endpoint { method: QueryMethod::Put, template, class, repeatable: true, signed: true }
}

/// A POST that only asks.
const fn asking(template: &'static str, class: Class) -> Endpoint {
    Endpoint { method: QueryMethod::Post, template, class, repeatable: true, signed: true }
}

const fn unsigned(endpoint: Endpoint) -> Endpoint {
    Endpoint { signed: false, ..endpoint }
}

const fn once(endpoint: Endpoint) -> Endpoint {
    Endpoint { repeatable: false, ..endpoint }
}

const ENDPOINTS: &[Endpoint] = &[
    get("/_matrix/federation/v1/backfill/{roomId}", Class::Backfill),
    get("/_matrix/federation/v1/event/{eventId}", Class::Repair),
    get("/_matrix/federation/v1/event_auth/{roomId}/{eventId}", Class::Repair),
    get("/_matrix/federation/v1/state/{roomId}", Class::Repair),
    get("/_matrix/federation/v1/state_ids/{roomId}", Class::Repair),
    get("/_matrix/federation/v1/timestamp_to_event/{roomId}", Class::Interactive),
    get("/_matrix/federation/v1/make_join/{roomId}/{userId}", Class::Join),
    get("/_matrix/federation/v1/make_leave/{roomId}/{userId}", Class::Join),
    get("/_matrix/federation/v1/make_knock/{roomId}/{userId}", Class::Join),
    get("/_matrix/federation/v1/query/{queryType}", Class::Interactive),
    get("/_matrix/federation/v1/query/directory", Class::Interactive),
    get("/_matrix/federation/v1/query/profile", Class::Interactive),
    get("/_matrix/federation/v1/publicRooms", Class::Interactive),
    get("/_matrix/federation/v1/hierarchy/{roomId}", Class::Interactive),
    get("/_matrix/federation/v1/user/devices/{userId}", Class::Interactive),
    get("/_matrix/federation/v1/media/download/{mediaId}", Class::Media),
    get("/_matrix/federation/v1/media/thumbnail/{mediaId}", Class::Media),
    asking("/_matrix/federation/v1/get_missing_events/{roomId}", Class::Repair),
    asking("/_matrix/federation/v1/publicRooms", Class::Interactive),
    asking("/_matrix/federation/v1/user/keys/query", Class::Interactive),
    // Each claim uses up a one-time key.
    once(asking("/_matrix/federation/v1/user/keys/claim", Class::Interactive)),
    put("/_matrix/federation/v1/invite/{roomId}/{eventId}", Class::Join),
    put("/_matrix/federation/v2/invite/{roomId}/{eventId}", Class::Join),
    put("/_matrix/federation/v1/send_join/{roomId}/{eventId}", Class::Join),
    put("/_matrix/federation/v2/send_join/{roomId}/{eventId}", Class::Join),
    put("/_matrix/federation/v1/send_leave/{roomId}/{eventId}", Class::Join),
    put("/_matrix/federation/v2/send_leave/{roomId}/{eventId}", Class::Join),
    put("/_matrix/federation/v1/send_knock/{roomId}/{eventId}", Class::Join),
    // The peer makes an event of its own out of each.
    once(put("/_matrix/federation/v1/exchange_third_party_invite/{roomId}", Class::Join)),
    asking("/_matrix/policy/v1/sign", Class::Live),
    unsigned(get("/_matrix/key/v2/server", Class::Repair)),
    unsigned(get("/_matrix/key/v2/query/{serverName}", Class::Repair)),
    unsigned(asking("/_matrix/key/v2/query", Class::Repair)),
    unsigned(get("/_matrix/federation/v1/version", Class::Interactive)),
    unsigned(get("/_matrix/federation/v1/openid/userinfo", Class::Interactive)),
    unsigned(once(put("/_matrix/federation/v1/3pid/onbind", Class::Join))),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim that was lost on the way back has used up keys; it must never be sent again by itself.
    #[test]
    fn keys_are_never_claimed_twice() {
        let claim = Endpoint::known(QueryMethod::Post, "/_matrix/federation/v1/user/keys/claim").unwrap();
        assert!(!claim.repeatable);
    }

    /// Each endpoint stands in the table once, and none is a transaction: those are the queue's.
    #[test]
    fn every_endpoint_is_known_once() {
        for (at, one) in ENDPOINTS.iter().enumerate() {
            let twice = ENDPOINTS[at + 1..]
                .iter()
                .any(|other| (other.method, other.template) == (one.method, one.template));
            assert!(!twice, "{}", one.template);
            assert!(!one.template.contains("/send/"), "{}", one.template);
        }
    }
}
