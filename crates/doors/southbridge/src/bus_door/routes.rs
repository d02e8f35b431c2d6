//! What can be asked for at the bus door: one table, which the router reads and the description is checked against.
//!
//! # Source
//! Issue 3, item 7; RFC 9110 §9 (methods), §15.5.6 (405 with `Allow`); RFC 3986 §2.1 (percent-encoding).

use http::Method;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// PDUs and EDUs are handed in.
    Send,
    /// One question to one homeserver.
    Query,
    /// Back-off of homeservers ends.
    Wake,
    /// The sets of destinations known by a name.
    ListSets,
    /// A set of destinations gets a name.
    PutSet,
    /// A name of a set is forgotten.
    DeleteSet,
    /// The queues, page by page.
    ListQueues,
    /// One queue.
    ShowQueue,
    /// What waits in one queue is given up.
    DropQueue,
    /// What others signed is checked.
    Verify,
    /// The keys of a homeserver.
    ShowKeys,
    /// The keys of a homeserver are forgotten.
    ForgetKeys,
    /// What became of what was sent, as it happens.
    Results,
    /// The description of all this.
    Description,
}

impl Operation {
    /// Its name in the description and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Query => "query",
            Self::Wake => "wake",
            Self::ListSets => "listSets",
            Self::PutSet => "putSet",
            Self::DeleteSet => "deleteSet",
            Self::ListQueues => "listQueues",
            Self::ShowQueue => "showQueue",
            Self::DropQueue => "dropQueue",
            Self::Verify => "verify",
            Self::ShowKeys => "showKeys",
            Self::ForgetKeys => "forgetKeys",
            Self::Results => "results",
            Self::Description => "description",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// What it is.
    pub operation: Operation,
    /// The method.
    pub method: &'static str,
    /// The path; a last segment in braces stands for a name.
    pub path: &'static str,
    /// The arguments that may stand behind the question mark.
    pub arguments: &'static [&'static str],
    /// The statuses it can be answered with, besides those of [`STATUSES_OF_ALL`].
    pub statuses: &'static [u16],
}

/// Everything that can be asked for.
pub const ROUTES: &[Route] = &[
    route(Operation::Send, "POST", "/bus/v1/send", &[], &[200, 413]),
    route(Operation::Query, "POST", "/bus/v1/query", &[], &[200, 413, 502, 504]),
    route(Operation::Wake, "POST", "/bus/v1/wake", &[], &[200, 413]),
    route(Operation::ListSets, "GET", "/bus/v1/sets", &[], &[200]),
    route(Operation::PutSet, "PUT", "/bus/v1/sets/{name}", &[], &[200, 413]),
    route(Operation::DeleteSet, "DELETE", "/bus/v1/sets/{name}", &[], &[200, 404]),
    route(Operation::ListQueues, "GET", "/bus/v1/queues", &["after", "limit", "state"], &[200]),
    route(Operation::ShowQueue, "GET", "/bus/v1/queues/{destination}", &[], &[200, 404]),
    route(Operation::DropQueue, "DELETE", "/bus/v1/queues/{destination}", &["confirm"], &[200, 404]),
    route(Operation::Verify, "POST", "/bus/v1/verify", &[], &[200, 413]),
    route(Operation::ShowKeys, "GET", "/bus/v1/keys/{server}", &["timeout_ms"], &[200, 502, 504]),
    route(Operation::ForgetKeys, "DELETE", "/bus/v1/keys/{server}", &[], &[200, 404]),
    route(Operation::Results, "GET", "/bus/v1/results", &["from"], &[200]),
    route(Operation::Description, "GET", "/bus/v1/openapi.json", &[], &[200]),
];

/// What any request can be answered with: it is malformed, its caller is unknown, there is no room, or the bus ends.
pub const STATUSES_OF_ALL: [u16; 4] = [400, 401, 408, 503];

const fn route(
    operation: Operation,
    method: &'static str,
    path: &'static str,
    arguments: &'static [&'static str],
    statuses: &'static [u16],
) -> Route {
    Route { operation, method, path, arguments, statuses }
}

/// Where a request leads.
#[derive(Clone, Debug)]
pub struct Found {
    /// To which line of the table.
    pub route: &'static Route,
    /// What stands for the braces, decoded; empty where there are none.
    pub name: String,
}

/// Why a request leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// There is no such path.
    #[error("there is nothing at {path:?}; GET /bus/v1/openapi.json describes what there is")]
    Path {
        /// The path.
        path: String,
    },
    /// The path takes other methods.
    #[error("{path:?} takes {allowed}, and not {method}")]
    Method {
        /// The path.
        path: String,
        /// The method.
        method: String,
        /// Those that it takes, separated by commas.
        allowed: String,
    },
    /// The name in the path is not UTF-8 in percent-encoding.
    #[error("the last part of {path:?} is not UTF-8 in percent-encoding")]
    Encoding {
        /// The path.
        path: String,
    },
}

/// Finds the route of a request.
///
/// # Errors
/// [`NoRoute`] says why there is none.
pub fn find(method: &Method, path: &str) -> Result<Found, NoRoute> {
    let shown = || path.chars().take(SHOWN_CHARS_MAX).collect::<String>();
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(name) = matches(route.path, path) else { continue };
        if route.method == method.as_str() {
            let name = decode(name).ok_or_else(|| NoRoute::Encoding { path: shown() })?;
            return Ok(Found { route, name });
        }
        allowed.push(route.method);
    }
    match allowed.is_empty() {
        true => Err(NoRoute::Path { path: shown() }),
        false => Err(NoRoute::Method {
            path: shown(),
            method: method.as_str().chars().take(SHOWN_CHARS_MAX).collect(),
            allowed: allowed.join(", "),
        }),
    }
}

/// What stands for the braces of `template` in `path`, if `path` is of its form.
fn matches<'p>(template: &str, path: &'p str) -> Option<&'p str> {
    match template.split_once('{') {
        None => (template == path).then_some(""),
        Some((stem, _)) => path.strip_prefix(stem).filter(|name| !name.is_empty() && !name.contains('/')),
    }
}

/// Undoes percent-encoding; `None` when it is none, or hides something else than UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits =
            std::str::from_utf8(digits).ok().filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// Enough of a path to know it again.
const SHOWN_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, path: &str) -> Result<(Operation, String), NoRoute> {
        find(&Method::from_bytes(method.as_bytes()).unwrap(), path)
            .map(|found| (found.route.operation, found.name))
    }

    #[test]
    fn every_line_of_the_table_is_found() {
        for route in ROUTES {
            let path = match route.path.split_once('{') {
                Some((stem, _)) => format!("{stem}a.example:8448"),
                None => route.path.to_owned(),
            };
            assert_eq!(ask(route.method, &path).unwrap().0, route.operation, "{path}");
        }
    }

    /// Names of homeservers have colons and brackets, which some callers encode and others do not.
    #[test]
    fn names_are_decoded() {
        for path in ["/bus/v1/queues/[::1]:8448", "/bus/v1/queues/%5B%3a%3A1%5d:8448"] {
            assert_eq!(ask("GET", path), Ok((Operation::ShowQueue, "[::1]:8448".to_owned())));
        }
        for path in ["/bus/v1/queues/%", "/bus/v1/queues/%4", "/bus/v1/queues/%+1", "/bus/v1/queues/%ff"] {
            assert!(matches!(ask("GET", path), Err(NoRoute::Encoding { .. })), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_is_asked_wrongly() {
        for path in ["/", "", "*", "/bus/v1/send/", "/bus/v2/send", "/bus/v1/queues/a/b", "/bus/v1/sets/"] {
            assert!(matches!(ask("POST", path), Err(NoRoute::Path { .. })), "{path}");
        }
        let error = ask("PATCH", "/bus/v1/queues/a.example").unwrap_err();
        assert!(error.to_string().contains("takes GET, DELETE, and not PATCH"), "{error}");
    }
}
