//! Server names and the kernel that ships, on a clock that the test moves.

use std::net::SocketAddr;
use std::time::Duration;

use southbridge::Southbridge;
use southbridge::federation::FederationConfig;
use southbridge_rehearsal::{Asked, Rehearsal, RehearsalConfig, Reply};
use southbridge_words::ServiceName;

const TIMEOUT: Duration = Duration::from_secs(20);
const DAY: u32 = 86_400;

/// A federation request to `name`, and what has come of it a minute later.
fn ask(rehearsal: &mut Rehearsal, southbridge: &Southbridge, name: &str) -> Asked {
    let request = http::Request::get(format!("https://{name}/_matrix/federation/v1/version"));
    let request = request.body(bytes::Bytes::new()).expect("it is a request");
    let mut call = rehearsal.call(request, TIMEOUT).expect("it can be asked for");
    call.discovery = southbridge.matrix();
    call.service = ServiceName::new(name);
    let asked = rehearsal.ask(call, TIMEOUT);
    rehearsal.advance(Duration::from_secs(60));
    asked
}

fn address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, last], port))
}

/// The host that a name delegates to moves, and the record of its old address has a day to run. Nobody is at the old address
/// any more, so the record is not believed for as long as it says.
#[test]
fn a_delegated_host_that_moves_is_found_before_its_record_ends() {
    let mut rehearsal = Rehearsal::new(RehearsalConfig::default()).expect("it can be set up");
    rehearsal.dns().host("a.test", &[address(9, 443).ip()], DAY);
    rehearsal.dns().host("matrix.a.test", &[address(1, 8448).ip()], DAY);
    let well_known = rehearsal.peer(address(9, 443)).expect("nobody is there yet");
    well_known.otherwise(Reply::json(200, r#"{"m.server":"matrix.a.test:8448"}"#));
    let old = rehearsal.peer(address(1, 8448)).expect("nobody is there yet");
    old.otherwise(Reply::json(200, "{}").then_close());
    let kernel = rehearsal.kernel().clone();
    let southbridge = rehearsal.run(async { Southbridge::on(kernel, FederationConfig::default()) });

    let first = ask(&mut rehearsal, &southbridge, "a.test");
    assert!(first.result().expect("it has ended").is_ok(), "{:#?}", rehearsal.log().lines());
    drop(old);
    rehearsal.dns().host("matrix.a.test", &[address(2, 8448).ip()], DAY);
    let new = rehearsal.peer(address(2, 8448)).expect("nobody is there yet");
    let lost = ask(&mut rehearsal, &southbridge, "a.test");
    assert!(lost.result().expect("it has ended").is_err());
    rehearsal.advance(Duration::from_secs(300));
    let found = ask(&mut rehearsal, &southbridge, "a.test");
    assert!(found.result().expect("it has ended").is_ok(), "{:#?}", rehearsal.log().lines());
    assert_eq!(new.seen().len(), 1);
    rehearsal.run(async { drop(southbridge) });
}
