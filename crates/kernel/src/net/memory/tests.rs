use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn there() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 1], 80))
}

const TRIP: Duration = Duration::from_millis(30);

fn network(path: Path) -> MemoryNetwork {
    let network = MemoryNetwork::new(1);
    network.set_path(there().ip(), path);
    network
}

/// Bytes take the time of their path, in order, and a close comes after them.
#[tokio::test(start_paused = true)]
async fn bytes_take_their_time_and_keep_their_order() {
    let network = network(Path { latency: TRIP, jitter: TRIP, ..Path::default() });
    let listener = network.listen(there()).unwrap();
    let mut near = network.connect(there()).await.unwrap();
    let mut far = listener.accept().await;
    for text in ["one ", "two ", "three"] {
        near.write_all(text.as_bytes()).await.unwrap();
    }
    drop(near);
    let (sent_at, mut read) = (tokio::time::Instant::now(), String::new());
    far.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "one two three");
    assert!(sent_at.elapsed() >= TRIP && sent_at.elapsed() <= 2 * TRIP, "{:?}", sent_at.elapsed());
}

/// More than a buffer can hold waits for its reader, and a reset is an error on the other side.
#[tokio::test(start_paused = true)]
async fn a_full_pipe_waits_and_a_reset_is_an_error() {
    let network = network(Path::default());
    let listener = network.listen(there()).unwrap();
    let mut near = network.connect(there()).await.unwrap();
    let mut far = listener.accept().await;
    let bytes = vec![7; 200_000];
    let (wrote, read) = tokio::join!(near.write_all(&bytes), async {
        let mut read = vec![0; 200_000];
        far.read_exact(&mut read).await.map(|_| read)
    });
    wrote.unwrap();
    assert_eq!(read.unwrap(), bytes);
    far.reset();
    assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// Nobody listens, somebody refuses, or nothing is ever heard.
#[tokio::test(start_paused = true)]
async fn a_dial_ends_as_its_path_says() {
    let network = network(Path::default());
    assert_eq!(network.connect(there()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let _listener = network.listen(there()).unwrap();
    assert!(network.listen(there()).is_err(), "the address is taken");
    network.set_path(there().ip(), Path { syn: Syn::Refused, ..Path::default() });
    assert_eq!(network.connect(there()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    network.set_path(there().ip(), Path { syn: Syn::Lost, ..Path::default() });
    let patience = Duration::from_secs(3600);
    assert!(tokio::time::timeout(patience, network.connect(there())).await.is_err());
}

/// Nothing passes a cut, and nothing of a stream is lost by it.
#[tokio::test(start_paused = true)]
async fn a_cut_holds_back_what_it_meets() {
    let network = network(Path::default());
    let listener = network.listen(there()).unwrap();
    let mut near = network.connect(there()).await.unwrap();
    let mut far = listener.accept().await;
    network.set_path(there().ip(), Path { is_cut_out: true, ..Path::default() });
    near.write_u8(1).await.unwrap();
    far.write_u8(2).await.unwrap();
    assert_eq!(near.read_u8().await.unwrap(), 2);
    assert!(tokio::time::timeout(TRIP, far.read_u8()).await.is_err());
    network.set_path(there().ip(), Path::default());
    assert_eq!(far.read_u8().await.unwrap(), 1);
}

/// Datagrams are lost, doubled and overtaken; to where nobody is, they are refused.
#[tokio::test(start_paused = true)]
async fn datagrams_are_what_their_path_makes_of_them() {
    let path = Path { jitter: TRIP, lost_permille: 300, twice_permille: 300, ..Path::default() };
    let network = network(path);
    let socket = network.socket(there()).unwrap();
    socket.send(&[0]).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(socket.recv(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let server = network.bind(there()).unwrap();
    (0..200).for_each(|n| socket.send(&[n]).unwrap());
    let mut came = Vec::new();
    while let Ok(Ok((bytes, _))) = tokio::time::timeout(2 * TRIP, server.recv_from()).await {
        came.push(bytes[0]);
    }
    let mut once = came.clone();
    once.sort_unstable();
    once.dedup();
    assert!(once.len() > 100 && once.len() < 180, "{} of 200 came", once.len());
    assert!(came.len() > once.len() && !came.is_sorted(), "{came:?}");
}
