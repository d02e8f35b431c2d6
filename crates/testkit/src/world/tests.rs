//! The world, seen from outside.

use std::io::Cursor;
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::probe;

fn kinds(world: &World) -> [usize; 5] {
    let hosts = world.hosts();
    let count = |is: &dyn Fn(&WorldHost) -> bool| hosts.iter().filter(|host| is(host)).count();
    [
        count(&|host| host.route == Route::WellKnown),
        count(&|host| host.route == Route::Default),
        count(&|host| host.health == Health::BlackHole),
        count(&|host| host.health == Health::Slow),
        count(&|host| host.http2),
    ]
}

fn spec(hosts: usize) -> FederationSpec {
    FederationSpec {
        hosts,
        black_hole_share: 0.2,
        slow_share: 0.1,
        h2_share: 0.3,
        ..FederationSpec::default()
    }
}

/// Five thousand names, and the shares are kept to the host.
#[test]
fn a_large_world_has_what_was_ordered() {
    let world = World::start(spec(5000)).unwrap();
    assert_eq!(kinds(&world), [2500, 500, 1000, 500, 1500]);
    assert_eq!(world.names().len(), 5000);
    assert!(std::fs::read_to_string(world.ca_path()).unwrap().contains("BEGIN CERTIFICATE"));
}

/// One seed, one world; another seed, another.
#[test]
fn a_world_is_replayed_from_its_seed() {
    let hosts = |seed| Plan::new(FederationSpec { seed, ..spec(100) }).hosts();
    assert_eq!(hosts(7), hosts(7));
    assert_ne!(hosts(7), hosts(8));
}

/// Whatever its route, a healthy host answers where its route leads; one that hangs does not.
#[test]
fn every_route_leads_to_its_host() {
    let world = World::start(spec(40)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = world.authority().client_config(Alpn::Http1);
    let get = |port: u16, url: String| {
        runtime.block_on(probe::get((Ipv4Addr::LOCALHOST, port).into(), &config, &url))
    };
    let ports = world.ports();
    let of = |route| {
        let is = |host: &WorldHost| host.route == route && host.health == Health::Healthy;
        world.hosts().into_iter().find(is).unwrap().domain
    };
    let delegated = of(Route::WellKnown);
    let told = get(ports.well_known, format!("https://{delegated}/.well-known/matrix/server")).unwrap();
    let expected = format!(r#"{{"m.server":"{delegated}:{}"}}"#, ports.federation);
    assert_eq!(told.body(), expected.as_bytes());
    for (route, port) in [
        (Route::WellKnown, ports.federation),
        (Route::Srv, ports.federation),
        (Route::ExplicitPort, ports.federation),
        (Route::Default, ports.default),
    ] {
        let version = get(port, format!("https://{}/_matrix/federation/v1/version", of(route))).unwrap();
        assert_eq!(version.status(), 200, "{route:?}");
    }
    let hole = SocketAddr::from((BLACK_HOLE, ports.federation));
    assert!(TcpStream::connect_timeout(&hole, Duration::from_millis(50)).is_err());
}

/// Another process is told where everything is, and can raise a storm.
#[test]
fn a_world_takes_orders_line_by_line() {
    let mut said = Vec::new();
    let orders = Cursor::new("storm 0.5 0\ncalm\ncounts\ndance\n");
    serve_forever(spec(10), orders, &mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["hosts"].as_array().unwrap().len(), 10);
    assert_eq!((&lines[1]["ok"], &lines[2]["ok"]), (&true.into(), &true.into()));
    assert_eq!(lines[3]["requests"], 0);
    assert!(lines[4]["error"].is_string());
}

/// Hosts tell what came to them; a health that there is not, and orders that are none, are said to be so.
#[test]
fn a_world_tells_what_came_to_whom() {
    let world = World::start(spec(10)).unwrap();
    world.mark("p", 1);
    let (ports, config) = (world.ports(), world.authority().client_config(crate::certificates::Alpn::Http1));
    world.calm();
    let domain = world.hosts()[3].domain.clone();
    let body = r#"{"pdus":[{"content":{"part":"p","number":1}}],"edus":[]}"#;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let put = hyper::Request::put(format!("https://{domain}/_matrix/federation/v1/send/1")).body(body);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.federation));
        crate::probe::send(to, &config, put.unwrap()).await.unwrap();
    });
    assert_eq!(serve::obey(&world, "arrived p")["arrived"], 1);
    assert_eq!(serve::obey(&world, "arrived p slow")["arrived"], 0);
    let part = serve::obey(&world, "part p healthy");
    assert_eq!((&part["transactions"], &part["took_us"].as_array().unwrap().len()), (&1.into(), &1));
    assert_eq!(serve::obey(&world, "healthy").as_array().unwrap().len(), 10);
    assert!(serve::obey(&world, "arrived p strange")["error"].is_string());
}

/// Nobody but the order decides who hangs.
#[test]
fn a_storm_changes_who_hangs() {
    let world = World::start(spec(50)).unwrap();
    world.storm(0.5, 0.0);
    assert_eq!(kinds(&world)[2..4], [25, 0]);
    world.set_health(0, Health::Slow);
    assert_eq!(world.hosts()[0].health, Health::Slow);
}
