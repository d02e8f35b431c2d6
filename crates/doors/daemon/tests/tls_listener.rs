//! A door for Synapse that speaks TLS (`tls:` in `[synapse] listen`).
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

mod house;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use house::{House, PATIENCE, signal};
use rustix::process::Signal;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use southbridge_testkit::certificates::{Alpn, CertificateKind};
use southbridge_testkit::world::{FederationSpec, World};

/// Synapse and Southbridge are on two machines. A request goes to the door by TLS, and on to a homeserver, and its
/// answer comes back; who has the wrong secret is refused over TLS as well, and who speaks plain HTTP gets nothing.
#[test]
fn a_tls_listener_serves_a_request() {
    let spec = FederationSpec { hosts: 1, explicit_port_share: 1.0, ..FederationSpec::default() };
    let world = World::start(FederationSpec { well_known_share: 0.0, srv_share: 0.0, ..spec }).unwrap();
    // Held by the test, as systemd would, so that no other test has its port.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = listener.local_addr().unwrap();
    let house = House::new(&config(door, &world));
    let pair = world.authority().pem_pair(&door.ip().to_string(), CertificateKind::Good);
    fs::write(house.path("door.pem"), pair.chain).unwrap();
    fs::write(house.path("door.key"), pair.key).unwrap();
    fs::set_permissions(house.path("door.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut child = house.activate(listener);
    house.wait_for("READY=1");

    let name = world.names().remove(0);
    let client = world.authority().client_config(Alpn::None);
    let answer = ask(door, &client, &request(&name, "hunter2"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Testkit"), "{answer}\n{}", house.log());
    let answer = ask(door, &client, &request(&name, "wrong"));
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let mut plain = TcpStream::connect(door).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(request(&name, "hunter2").as_bytes()).unwrap();
    let mut said = Vec::new();
    // A reset is an end as well.
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&said));

    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", house.log());
}

/// One request on a TLS connection of its own; the whole answer.
fn ask(door: SocketAddr, client: &Arc<ClientConfig>, request: &str) -> String {
    let stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let connection = ClientConnection::new(Arc::clone(client), door.ip().into()).unwrap();
    let mut tls = StreamOwned::new(connection, stream);
    tls.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    answer
}

fn request(name: &str, secret: &str) -> String {
    format!(
        "GET matrix-federation://{name}/_matrix/federation/v1/version HTTP/1.1\r\n\
         Host: {name}\r\nProxy-Authorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
    )
}

fn config(door: SocketAddr, world: &World) -> String {
    let (dns, ca) = (world.dns_address(), world.ca_path());
    format!(
        "[synapse]\nlisten = \"tls:{door}\"\nsecret = \"hunter2\"\n\
         tls_certificate = \"door.pem\"\ntls_key = \"door.key\"\n\
         [admin]\nlisten = \"unix:admin.sock\"\n[dns]\nservers = [\"{dns}\"]\n\
         [tls]\nca_files = [{ca:?}]\n[addresses]\nallow = [\"127.0.0.0/8\"]\n[storage]\npath = \"sb.db\"\n"
    )
}
