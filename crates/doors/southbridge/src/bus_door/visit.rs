//! One request at the bus door, from its head to its answer.

use std::rc::Rc;

use futures_util::future::join_all;
use http::StatusCode;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use serde_json::{Value, json};
use southbridge_words::ServerName;

use super::answer::{self, Answer};
use super::api::BusApi;
use super::arguments::Arguments;
use super::failure::{Code, Failure};
use super::routes::{self, Found, NoRoute, Operation};
use super::views::{Acknowledged, QUEUE_STATES, QueueRow};
use super::{Inside, body, checking, question, sets, stream, submission};
use crate::local_http::{Credentials, Denied};

/// Answers one request.
pub(super) async fn answer<B: BusApi>(door: &Rc<Inside<B>>, request: http::Request<Incoming>) -> Answer {
    if let Err(failure) = let_in(door, &request) {
        door.counters.denied.add(1);
        return failure.into();
    }
    let found = match routes::find(request.method(), request.uri().path()) {
        Ok(found) => found,
        Err(NoRoute::Method { path, method, allowed }) => {
            door.counters.malformed.add(1);
            let failure = Failure::from(NoRoute::Method { path, method, allowed: allowed.clone() });
            return answer::allow(failure.into(), &allowed);
        }
        Err(found) => return malformed(door, found.into()),
    };
    door.counters.request(found.route.operation);
    match perform(door, found, request).await {
        Ok(answer) => answer,
        Err(failure) if failure.status.is_client_error() => malformed(door, failure),
        Err(failure) => failure.into(),
    }
}

fn malformed<B>(door: &Inside<B>, failure: Failure) -> Answer {
    door.counters.malformed.add(1);
    failure.into()
}

/// Lets in whoever shows the secret.
fn let_in<B, T>(door: &Inside<B>, request: &http::Request<T>) -> Result<(), Failure> {
    let mut lines = request.headers().get_all(AUTHORIZATION).iter();
    let shown = match (lines.next(), lines.next()) {
        (None, _) => Credentials::Missing,
        (Some(line), None) => Credentials::One(line.clone()),
        (Some(_), Some(_)) => Credentials::Several,
    };
    shown.check_bearer(door.config.secret.expose()).map_err(|denied| match denied {
        Denied::Missing => {
            Failure::new(Code::MissingToken, "show the secret of [bus] as Authorization: Bearer SECRET")
        }
        Denied::Wrong => Failure::new(Code::UnknownToken, "Authorization does not hold the secret of [bus]"),
    })
}

async fn perform<B: BusApi>(
    door: &Rc<Inside<B>>,
    found: Found,
    request: http::Request<Incoming>,
) -> Result<Answer, Failure> {
    let arguments = Arguments::read(request.uri().query(), found.route.arguments)?;
    match found.route.operation {
        Operation::Send => send(door, request).await,
        Operation::Query => query(door, request).await,
        Operation::Wake => wake(door, request).await,
        Operation::ListSets => Ok(list_sets(door)),
        Operation::PutSet => put_set(door, &found.name, request).await,
        Operation::DeleteSet => delete_set(door, &found.name),
        Operation::ListQueues => list_queues(door, &arguments),
        Operation::ShowQueue => show_queue(door, &found.name),
        Operation::DropQueue => drop_queue(door, &found.name, &arguments).await,
        Operation::Verify => checking::verify(door, read(door, request).await?.as_ref()).await,
        Operation::ShowKeys => checking::show_keys(door, &found.name, &arguments).await,
        Operation::ForgetKeys => checking::forget_keys(door, &found.name),
        Operation::Results => stream::results(door, arguments.get("from")),
        Operation::Description => Ok(answer::text(StatusCode::OK, super::OPENAPI)),
    }
}

async fn read<B>(door: &Inside<B>, request: http::Request<Incoming>) -> Result<body::Request, Failure> {
    let read = body::read(request.into_body(), &door.held, &door.config.bodies).await?;
    door.counters.bytes_in.add(read.as_ref().len() as u64);
    Ok(read)
}

async fn send<B: BusApi>(door: &Inside<B>, request: http::Request<Incoming>) -> Result<Answer, Failure> {
    let body = read(door, request).await?;
    let submissions =
        submission::read_submissions(body.as_ref(), &mut door.sets.borrow_mut(), door.clock.wall())?;
    drop(body);
    // All at once, so that they share a commit; first polled in their order, so that they are accepted in it.
    let sending = submissions.into_iter().map(|submission| async {
        match submission {
            Ok(submission) => door.bus.send(submission).await,
            Err(failure) => Err(failure),
        }
    });
    let results = join_all(sending).await;
    let results: Vec<Value> = results.iter().map(|result| count_result(door, result)).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "results": results })))
}

fn count_result<B>(door: &Inside<B>, result: &Result<Acknowledged, Failure>) -> Value {
    let counters = &door.counters;
    match result {
        Ok(Acknowledged::Durable { .. }) => counters.durable.add(1),
        Ok(Acknowledged::Volatile) => counters.volatile.add(1),
        Err(_) => counters.refused.add(1),
    }
    match result {
        Ok(acknowledged) => json!(acknowledged),
        Err(failure) => failure.to_json(),
    }
}

async fn query<B: BusApi>(door: &Inside<B>, request: http::Request<Incoming>) -> Result<Answer, Failure> {
    let question = question::read_question(read(door, request).await?.as_ref())?;
    Ok(match door.bus.query(question).await {
        Ok(response) => {
            let mut text = Vec::with_capacity(response.len() + 16);
            text.extend_from_slice(b"{\"response\":");
            text.extend_from_slice(&response);
            text.push(b'}');
            answer::text(StatusCode::OK, text)
        }
        Err(failure) => {
            let status = match (failure.status, failure.errcode.as_str()) {
                (None, TIMED_OUT) => StatusCode::GATEWAY_TIMEOUT,
                (None, "M_LIMIT_EXCEEDED") => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_GATEWAY,
            };
            answer::json(status, &json!(failure))
        }
    })
}

async fn wake<B: BusApi>(door: &Inside<B>, request: http::Request<Incoming>) -> Result<Answer, Failure> {
    let destinations = sets::read_destinations(read(door, request).await?.as_ref())?;
    destinations.iter().for_each(|destination| door.bus.wake(destination));
    Ok(answer::json(StatusCode::OK, &json!({ "woken": destinations.len() })))
}

fn list_sets<B>(door: &Inside<B>) -> Answer {
    let list = door.sets.borrow().list();
    let rows: Vec<Value> =
        list.iter().map(|(name, count)| json!({ "name": **name, "destinations": count })).collect();
    answer::json(StatusCode::OK, &json!({ "sets": rows }))
}

async fn put_set<B>(
    door: &Inside<B>,
    name: &str,
    request: http::Request<Incoming>,
) -> Result<Answer, Failure> {
    let destinations = sets::read_destinations(read(door, request).await?.as_ref())?;
    let count = destinations.len();
    door.sets.borrow_mut().put(name, destinations)?;
    Ok(answer::json(StatusCode::OK, &json!({ "name": name, "destinations": count })))
}

fn delete_set<B>(door: &Inside<B>, name: &str) -> Result<Answer, Failure> {
    match door.sets.borrow_mut().remove(name) {
        true => Ok(answer::json(StatusCode::OK, &json!({ "name": name }))),
        false => {
            Err(Failure::new(Code::NotFound, "no destination set has that name; GET /bus/v1/sets lists them"))
        }
    }
}

fn list_queues<B: BusApi>(door: &Inside<B>, arguments: &Arguments) -> Result<Answer, Failure> {
    let limit = arguments.number("limit", 1..=QUEUES_MAX)?.unwrap_or(QUEUES_DEFAULT);
    let after = arguments.get("after").map(|name| parse("after", name)).transpose()?;
    let state = arguments.one_of("state", &QUEUE_STATES)?;
    let (rows, next) = page_of_queues(&door.bus, after, limit, state);
    let mut body = json!({ "queues": rows });
    if let Some(next) = next {
        body["next"] = next.as_str().into();
    }
    Ok(answer::json(StatusCode::OK, &body))
}

/// At most `limit` rows in `state` behind `after`, and behind whom to go on.
fn page_of_queues<B: BusApi>(
    bus: &B,
    mut after: Option<ServerName>,
    limit: usize,
    state: Option<&str>,
) -> (Vec<QueueRow>, Option<ServerName>) {
    let mut rows = Vec::new();
    // A filter may pass over thousands to find one, and the I/O thread has other things to do: the page may be short.
    for _ in 0..LOOKS_MAX {
        let found = bus.queues(after.as_ref(), QUEUES_MAX);
        let is_last = found.len() < QUEUES_MAX;
        for (name, row) in found {
            if state.is_none_or(|state| row.state == state) {
                if rows.len() == limit {
                    return (rows, after);
                }
                rows.push(row);
            }
            after = Some(name);
        }
        if is_last {
            return (rows, None);
        }
    }
    (rows, after)
}

fn find_queue<B: BusApi>(door: &Inside<B>, name: &str) -> Result<(ServerName, QueueRow), Failure> {
    let destination = parse("destination", name)?;
    match door.bus.queue(&destination) {
        Some(row) => Ok((destination, row)),
        None => Err(Failure::new(
            Code::NotFound,
            format!("nothing is queued for {name}, and nothing is remembered of it"),
        )),
    }
}

fn show_queue<B: BusApi>(door: &Inside<B>, name: &str) -> Result<Answer, Failure> {
    find_queue(door, name).map(|(_, row)| answer::json(StatusCode::OK, &json!(row)))
}

async fn drop_queue<B: BusApi>(
    door: &Inside<B>,
    name: &str,
    arguments: &Arguments,
) -> Result<Answer, Failure> {
    let (destination, row) = find_queue(door, name)?;
    let confirmed = arguments.one_of("confirm", &["yes", "no"])? == Some("yes");
    let lost = if confirmed { door.bus.drop_backlog(&destination).await? } else { row.at_stake() };
    if confirmed {
        tracing::warn!(%destination, items = lost.items, volatile = lost.volatile, "queue dropped by order");
    }
    let body = json!({ "destination": destination.as_str(), "dropped": confirmed, "lost": lost });
    Ok(answer::json(StatusCode::OK, &body))
}

pub(super) fn parse(what: &str, name: &str) -> Result<ServerName, Failure> {
    ServerName::parse(name).map_err(|error| Failure::new(Code::InvalidParam, format!("{what}: {error}")))
}

/// What the bus says of a question whose time has passed.
const TIMED_OUT: &str = "ORG.SOUTHBRIDGE.TIMEOUT";
/// Rows of one page at most.
const QUEUES_MAX: usize = 1_000;
/// Rows of a page when nobody says how many.
const QUEUES_DEFAULT: usize = 100;
/// How often the queues are looked at for one page, [`QUEUES_MAX`] rows at a time.
const LOOKS_MAX: usize = 20;
