use super::*;
use crate::net::Peer;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

fn any_port() -> ListenAddress {
    ListenAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))
}

fn bind(address: &ListenAddress) -> Result<Listener, ListenError> {
    Listener::bind(address, &ListenOptions::default())
}

async fn connect(listener: &Listener) -> TcpStream {
    let ListenAddress::Tcp(address) = *listener.address() else { panic!("{:?}", listener.address()) };
    TcpSocket::new_v4().unwrap().connect(address).await.unwrap()
}

/// A client says hello, and is answered.
async fn converse(listener: &Listener, mut client: impl AsyncReadExt + AsyncWriteExt + Unpin) -> Peer {
    let serving = async {
        let mut stream = listener.accept().await;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(&heard).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.peer()
    };
    let asking = async {
        client.write_all(b"hello").await.unwrap();
        client.flush().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"hello");
    };
    tokio::join!(serving, asking).0
}

#[tokio::test]
async fn tcp_clients_are_served() {
    let listener = bind(&any_port()).unwrap();
    let client = connect(&listener).await;
    let local = client.local_addr().unwrap();
    assert_eq!(converse(&listener, client).await, Peer::Tcp(local));
}

#[tokio::test]
async fn an_occupied_port_is_named() {
    let first = bind(&any_port()).unwrap();
    let error = bind(first.address()).unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }));
    assert!(error.to_string().starts_with(&format!("{} is in use", first.address())), "{error}");
}

#[tokio::test]
async fn unix_clients_are_served_and_known_by_their_user() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.sock");
    let listener = bind(&ListenAddress::Unix(path.clone())).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    let client = UnixStream::connect(&path).await.unwrap();
    assert_eq!(converse(&listener, client).await, Peer::Unix { uid: Some(metadata.uid()) });
    assert_eq!(listener.address().to_string(), format!("unix:{}", path.display()));
}

/// Southbridge was killed; its socket file is still there. Starting again must simply work.
#[tokio::test]
async fn a_socket_left_behind_is_replaced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.sock");
    let address = ListenAddress::Unix(path.clone());
    drop(bind(&address).unwrap());
    assert!(path.exists());
    let listener = bind(&address).unwrap();
    converse(&listener, UnixStream::connect(&path).await.unwrap()).await;
}

/// A second Southbridge is started by mistake. It must not steal the clients of the first.
#[tokio::test]
async fn a_socket_somebody_listens_at_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.sock");
    let address = ListenAddress::Unix(path.clone());
    let first = bind(&address).unwrap();
    let error = bind(&address).unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    let knocked = first.accept().await;
    drop(knocked);
    converse(&first, UnixStream::connect(&path).await.unwrap()).await;
}

#[tokio::test]
async fn a_file_that_is_not_a_socket_is_not_removed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("precious.txt");
    std::fs::write(&path, "precious").unwrap();
    let error = bind(&ListenAddress::Unix(path.clone())).unwrap_err();
    assert!(error.to_string().contains("is not a socket; move it away"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_missing_directory_is_an_error_that_names_the_path() {
    let error = bind(&ListenAddress::Unix("/nowhere/at/all.sock".into())).unwrap_err();
    assert_eq!(error.to_string(), "cannot listen at unix:/nowhere/at/all.sock");
}

#[tokio::test]
async fn inherited_listeners_go_on() {
    let options = ListenOptions::default();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener::inherit(tcp, &options).unwrap();
    let client = connect(&listener).await;
    converse(&listener, client).await;

    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.sock");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = Listener::inherit(unix, &options).unwrap();
    assert_eq!(listener.address(), &ListenAddress::Unix(path.clone()));
    converse(&listener, UnixStream::connect(&path).await.unwrap()).await;
}

#[tokio::test]
async fn what_does_not_listen_cannot_be_inherited() {
    let options = ListenOptions::default();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(matches!(Listener::inherit(datagrams, &options), Err(ListenError::NotListening)));
    let file = std::fs::File::open(Path::new("/dev/null")).unwrap();
    assert!(matches!(Listener::inherit(file, &options), Err(ListenError::NotListening)));
    let (connected, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(Listener::inherit(connected, &options), Err(ListenError::NotListening)));
}

/// Three clients come while we are paused. None is refused, and none is served before the pause is over.
#[tokio::test(start_paused = true)]
async fn clients_wait_out_a_pause() {
    let listener = bind(&any_port()).unwrap();
    let mut clients = Vec::new();
    {
        let accepting = listener.accept();
        tokio::pin!(accepting);
        assert!(futures_util::poll!(&mut accepting).is_pending());
        listener.pause();
        for _ in 0..3 {
            clients.push(connect(&listener).await);
        }
        let waited = tokio::time::timeout(Duration::from_secs(5), &mut accepting).await;
        assert!(waited.is_err());
        listener.resume();
        accepting.await;
    }
    for _ in 0..2 {
        listener.accept().await;
    }
}

/// A response is cut off in the middle. The client must see a reset, and not an end.
#[tokio::test]
async fn an_aborted_stream_ends_in_a_reset() {
    let listener = bind(&any_port()).unwrap();
    let mut client = connect(&listener).await;
    let mut stream = listener.accept().await;
    stream.write_all(b"half").await.unwrap();
    let mut half = [0; 4];
    client.read_exact(&mut half).await.unwrap();
    stream.abort();
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// The HTTP server owns the stream, says goodbye as it always does, and the switch still wins.
#[tokio::test]
async fn a_cut_stream_says_no_goodbye() {
    let listener = bind(&any_port()).unwrap();
    let mut client = connect(&listener).await;
    let mut stream = listener.accept().await;
    stream.cut_switch().cut();
    stream.shutdown().await.unwrap();
    drop(stream);
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// The errors of accept(2) that concern one client are no reason to pause; all others are.
#[test]
fn one_clients_trouble_is_not_ours() {
    let is_theirs = |errno: Errno| is_about_one_client(&errno.into());
    assert!([Errno::CONNABORTED, Errno::INTR, Errno::HOSTUNREACH].into_iter().all(is_theirs));
    assert!(
        ![Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF].into_iter().any(is_theirs)
    );
}

mod tls {
    use super::*;
    use southbridge_testkit::certificates::{Alpn, Authority, CertificateKind};

    fn listener(authority: &Authority) -> Listener {
        let dir = TempDir::new().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let pair = authority.pem_pair("localhost", CertificateKind::Good);
        std::fs::write(&certificate, pair.chain).unwrap();
        std::fs::write(&key, pair.key).unwrap();
        bind(&any_port()).unwrap().with_tls(ServerTls::load(&certificate, &key).unwrap())
    }

    #[tokio::test]
    async fn tls_clients_are_served() {
        let authority = Authority::new();
        let listener = listener(&authority);
        let connector = tokio_rustls::TlsConnector::from(authority.client_config(Alpn::Http1));
        let client = connect(&listener).await;
        let connecting = connector.connect("localhost".try_into().unwrap(), client);
        let serving = async {
            let mut stream = listener.accept().await;
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let (client, stream) = tokio::join!(connecting, serving);
        let mut client = client.unwrap();
        let mut heard = [0; 5];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        stream.abort();
        assert_eq!(client.read(&mut heard).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    /// One client connects and says nothing. The next must not wait for it, and it must not stay for ever.
    #[tokio::test(start_paused = true)]
    async fn a_silent_client_holds_up_nobody_and_is_dropped() {
        let authority = Authority::new();
        let listener = listener(&authority);
        let _silent = connect(&listener).await;
        let mut stream = listener.accept().await;
        let _next = connect(&listener).await;
        let other = listener.accept().await;
        drop(other);
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }
}
