use super::*;
use socket2::{Domain, Socket, Type};
use std::net::TcpListener;

fn open_policy() -> AddressPolicy {
    AddressPolicy::new(["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], [])
}

fn good() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn refused() -> SocketAddr {
    // Bound and never listening: nobody else can take the port meanwhile.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// A listener whose backlog is full drops every further SYN: as silent as an unplugged machine.
struct BlackHole {
    address: SocketAddr,
    _held: (Socket, Vec<Socket>),
}

fn black_hole() -> BlackHole {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fill = (0..4).map(|_| {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        filler
    });
    let fill = fill.collect();
    BlackHole { address, _held: (listener, fill) }
}

async fn dialled(addresses: &[SocketAddr]) -> Result<SocketAddr, ConnectError> {
    let around = Surroundings::real();
    let dialled = dial(addresses, &open_policy(), &DialOptions::default(), &around).await;
    dialled.map(|(stream, address)| {
        let Stream::Tcp(stream) = stream else { panic!("{stream:?} is no real one") };
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
        assert_eq!(stream.peer_addr().unwrap(), address);
        address
    })
}

/// Faults row 3, "address remembered": what was silent or refused is told, so that the next dial begins with the
/// address that answered.
#[tokio::test(start_paused = true)]
async fn losers_are_told() {
    let hole = black_hole();
    let (_listener, address) = good();
    let refusing = refused();
    let mut lost = Vec::new();
    let addresses = [hole.address, refusing, address];
    let options = DialOptions::default();
    let dialled =
        dial_telling(&addresses, &open_policy(), &options, &Surroundings::real(), |a| lost.push(a)).await;
    assert_eq!(dialled.unwrap().1, address);
    assert_eq!(lost, [hole.address, refusing]);
    lost.clear();
    let dialled =
        dial_telling(&[refusing], &open_policy(), &options, &Surroundings::real(), |a| lost.push(a)).await;
    assert!(dialled.is_err());
    assert_eq!(lost, [refusing]);
}

#[tokio::test]
async fn one_good_address_is_connected_to() {
    let (_listener, address) = good();
    assert_eq!(dialled(&[address]).await.unwrap(), address);
}

/// Faults row 3: the first of two addresses is a black hole. It costs one step and no more.
#[tokio::test(start_paused = true)]
async fn a_silent_address_costs_one_step() {
    let hole = black_hole();
    let (_listener, address) = good();
    let before = tokio::time::Instant::now();
    assert_eq!(dialled(&[hole.address, address]).await.unwrap(), address);
    let waited = before.elapsed();
    assert!(waited >= Duration::from_millis(250) && waited < Duration::from_millis(300), "{waited:?}");
}

/// Faults row 3: the first address refuses. The second is tried at once.
#[tokio::test(start_paused = true)]
async fn a_refused_address_costs_nothing() {
    let (_listener, address) = good();
    let before = tokio::time::Instant::now();
    assert_eq!(dialled(&[refused(), address]).await.unwrap(), address);
    assert!(before.elapsed() < Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn silence_everywhere_ends_at_the_deadline() {
    let (one, two) = (black_hole(), black_hole());
    let error = dialled(&[one.address, two.address]).await.unwrap_err();
    let ConnectError::TimedOut { attempts, waited } = &error else { panic!("{error}") };
    assert_eq!(attempts.len(), 2);
    assert!(*waited >= Duration::from_secs(10) && *waited <= Duration::from_secs(16), "{waited:?}");
    let error = dialled(&[one.address]).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn refusals_are_listed() {
    let (one, two) = (refused(), refused());
    let error = dialled(&[one, two]).await.unwrap_err().to_string();
    assert_eq!(error, format!("no address answered: {one}: connection refused; {two}: connection refused"));
}

#[tokio::test]
async fn no_address_at_all_is_unreachable() {
    let error = dialled(&[]).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Unreachable { attempts } if attempts.is_empty()), "{error}");
}

/// Faults row 13: the listener is there, and must not so much as see a SYN from us.
#[tokio::test]
async fn a_denied_address_is_not_connected_to() {
    let (listener, address) = good();
    listener.set_nonblocking(true).unwrap();
    let policy = AddressPolicy::default();
    for addresses in [vec![address], vec![address, address]] {
        let dialled = dial(&addresses, &policy, &DialOptions::default(), &Surroundings::real()).await;
        let error = dialled.unwrap_err();
        assert!(matches!(&error, ConnectError::Denied { address: a, .. } if *a == address), "{error}");
        assert!(error.to_string().contains("loopback"), "{error}");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

/// One address of a name is in our own network, another one is not: the good one still serves.
#[tokio::test]
async fn a_denied_address_does_not_spoil_the_others() {
    let (_listener, address) = good();
    let allowed = AddressPolicy::new(["127.0.0.0/8".parse().unwrap()], []);
    let private = "10.0.0.1:1".parse().unwrap();
    let dialled = dial(&[private, address], &allowed, &DialOptions::default(), &Surroundings::real()).await;
    assert_eq!(dialled.unwrap().1, address);
    let error = dial(&[private, refused()], &allowed, &DialOptions::default(), &Surroundings::real()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("10.0.0.1:1: denied (private") && error.contains("refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn no_more_addresses_are_tried_than_the_limit() {
    let (_listener, address) = good();
    let mut addresses: Vec<_> = (0..8).map(|_| refused()).collect();
    addresses.push(address);
    let error = dialled(&addresses).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Unreachable { attempts } if attempts.len() == 8), "{error}");
}

#[test]
fn running_out_of_descriptors_is_our_own_fault() {
    let v4: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    let failed = |errno: Errno| AttemptError::Io(errno.into());
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
        assert!(failed(errno).is_exhaustion(v4), "{errno}");
    }
    assert!(!failed(Errno::ADDRNOTAVAIL).is_exhaustion(v6));
    assert!(!failed(Errno::CONNREFUSED).is_exhaustion(v4));
    let course = Course {
        clock: Clock::start(),
        started_at: Instant::ZERO,
        failures: vec![(v6, failed(Errno::NETUNREACH)), (v4, failed(Errno::MFILE))],
    };
    assert!(matches!(course.into_error(), ConnectError::Exhausted { .. }));
}
