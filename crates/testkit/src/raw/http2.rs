//! A peer that speaks HTTP/2 by hand, and breaks one rule at a time.
//!
//! Between its faults it behaves: it acknowledges SETTINGS and PING, and answers requests with 200 and `{}`.
//! With a client that offers HTTP/1.1 only, it speaks that, without a fault.
//!
//! # Source
//! Row 8 of the fault list; RFC 9113, sections 5.4, 6, 6.8 and 10.5.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::Wire;
use crate::certificates::{Alpn, Authority, CertificatesByName};
use crate::task::{Task, accept_each, listen};

/// What is wrong with the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Fault {
    /// Nothing.
    None,
    /// Resets each request at once with this error code (7: REFUSED_STREAM, it was not processed).
    ResetEach(u32),
    /// Announces that it takes so many streams at a time.
    StreamsMax(u32),
    /// Announces a window of zero, and never opens it: bodies of requests cannot be sent.
    WindowZero,
    /// Says GOAWAY after so many answers, names the last stream it answered, and ignores later ones.
    GoAwayAfter(u32),
    /// Answers with a header block that goes on in CONTINUATION frames without end.
    ContinuationFlood,
    /// SETTINGS without end, from the first request on.
    SettingsFlood,
    /// PING without end.
    PingFlood,
    /// Answers with 200, and then DATA frames of no length without end.
    EmptyDataFlood,
    /// RST_STREAM for the request's stream, without end.
    ResetFlood,
    /// A header block of 4 KB that unfolds to 64 MB (HPACK references to one large entry).
    HeaderBomb,
    /// Shakes hands on TLS, and never sends its SETTINGS.
    Mute,
}

/// A running HTTP/2 peer; it stops when dropped.
#[derive(Debug)]
pub struct Http2Peer {
    address: SocketAddr,
    tally: Arc<Tally>,
    _task: Task,
}

/// What came in on all connections.
#[derive(Debug, Default)]
struct Tally {
    connections: AtomicU64,
    requests: AtomicU64,
    goaways: AtomicU64,
    flood: AtomicU64,
}

impl Http2Peer {
    /// Starts on a free loopback port, with a good certificate for every name.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn start(authority: &Arc<Authority>, fault: Http2Fault) -> io::Result<Self> {
        let tls = CertificatesByName::new(Arc::clone(authority)).server_config(Alpn::Http2);
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let tally = Arc::new(Tally::default());
        let kept = Arc::clone(&tally);
        let task = Task::spawn(accept_each(listener, move |stream, _| {
            let (tls, tally) = (Arc::clone(&tls), Arc::clone(&kept));
            async move {
                tally.connections.fetch_add(1, Ordering::Relaxed);
                // How the connection ends is for the test to see from the other side.
                let _ = serve(stream, tls, fault, &tally).await;
            }
        }));
        Ok(Self { address, tally, _task: task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.tally.connections.load(Ordering::Relaxed)
    }

    /// Requests whose end has come, answered or not.
    pub fn requests(&self) -> u64 {
        self.tally.requests.load(Ordering::Relaxed)
    }

    /// GOAWAY frames received: the client saw through it.
    pub fn goaways(&self) -> u64 {
        self.tally.goaways.load(Ordering::Relaxed)
    }

    /// Bytes of flood that the client took before it closed; a flood ends by itself at 256 MiB.
    pub fn flood_bytes(&self) -> u64 {
        self.tally.flood.load(Ordering::Relaxed)
    }
}

async fn serve(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    fault: Http2Fault,
    tally: &Tally,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let wire = Wire::open(stream, Some(tls)).await?;
    if !wire.agreed_on_http2() {
        return serve_http1(wire, tally).await;
    }
    let mut session = Session { wire, fault, tally, answered: 0 };
    session.wire.read_bytes(PREFACE.len()).await?;
    if fault != Http2Fault::Mute {
        session.wire.write(&settings(fault)).await?;
    }
    loop {
        let frame = session.read_frame().await?;
        session.on_frame(&frame).await?;
    }
}

async fn serve_http1(mut wire: Wire<TcpStream>, tally: &Tally) -> io::Result<()> {
    loop {
        wire.read_request().await?;
        tally.requests.fetch_add(1, Ordering::Relaxed);
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await?;
    }
}

struct Session<'a> {
    wire: Wire<TcpStream>,
    fault: Http2Fault,
    tally: &'a Tally,
    answered: u32,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Session<'_> {
    async fn read_frame(&mut self) -> io::Result<Frame> {
        let head = self.wire.read_bytes(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.wire.read_bytes(length).await?;
        // What was read is on no record here.
        drop(self.wire.take_read());
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    async fn on_frame(&mut self, frame: &Frame) -> io::Result<()> {
        match frame.kind {
            GOAWAY => {
                self.tally.goaways.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            _ if self.fault == Http2Fault::Mute => Ok(()),
            SETTINGS if frame.flags & ACK == 0 => self.wire.write(&write_frame(SETTINGS, ACK, 0, &[])).await,
            PING if frame.flags & ACK == 0 => {
                self.wire.write(&write_frame(PING, ACK, 0, &frame.payload)).await
            }
            DATA => {
                self.open_window(frame).await?;
                self.on_end(frame).await
            }
            HEADERS => self.on_end(frame).await,
            _ => Ok(()),
        }
    }

    /// Gives back what a DATA frame used up.
    async fn open_window(&mut self, frame: &Frame) -> io::Result<()> {
        if frame.payload.is_empty() {
            return Ok(());
        }
        let used = u32::try_from(frame.payload.len()).unwrap_or(0).to_be_bytes();
        self.wire.write(&write_frame(WINDOW_UPDATE, 0, 0, &used)).await?;
        self.wire.write(&write_frame(WINDOW_UPDATE, 0, frame.stream, &used)).await
    }

    async fn on_end(&mut self, frame: &Frame) -> io::Result<()> {
        if frame.flags & END_STREAM == 0 {
            return Ok(());
        }
        self.tally.requests.fetch_add(1, Ordering::Relaxed);
        self.on_request(frame.stream).await
    }

    async fn on_request(&mut self, stream: u32) -> io::Result<()> {
        match self.fault {
            Http2Fault::ResetEach(code) => {
                self.wire.write(&write_frame(RST_STREAM, 0, stream, &code.to_be_bytes())).await
            }
            Http2Fault::GoAwayAfter(answers) if self.answered >= answers => Ok(()),
            Http2Fault::GoAwayAfter(answers) => {
                self.answer(stream).await?;
                if self.answered == answers { self.wire.write(&goaway(stream)).await } else { Ok(()) }
            }
            Http2Fault::ContinuationFlood => {
                self.wire.write(&write_frame(HEADERS, 0, stream, STATUS_200)).await?;
                let more = [LITERAL_HEADER; 64].concat();
                self.flood(&write_frame(CONTINUATION, 0, stream, &more)).await
            }
            Http2Fault::SettingsFlood => self.flood(&write_frame(SETTINGS, 0, 0, &[])).await,
            Http2Fault::PingFlood => self.flood(&write_frame(PING, 0, 0, &[7; 8])).await,
            Http2Fault::EmptyDataFlood => {
                self.wire.write(&write_frame(HEADERS, END_HEADERS, stream, STATUS_200)).await?;
                self.flood(&write_frame(DATA, 0, stream, &[])).await
            }
            Http2Fault::ResetFlood => {
                self.flood(&write_frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes())).await
            }
            Http2Fault::HeaderBomb => self.wire.write(&header_bomb(stream)).await,
            _ => self.answer(stream).await,
        }
    }

    async fn answer(&mut self, stream: u32) -> io::Result<()> {
        self.answered += 1;
        let mut bytes = write_frame(HEADERS, END_HEADERS, stream, STATUS_200);
        bytes.extend(write_frame(DATA, END_STREAM, stream, b"{}"));
        self.wire.write(&bytes).await
    }

    async fn flood(&mut self, frame: &[u8]) -> io::Result<()> {
        let many = frame.repeat((16 << 10) / frame.len() + 1);
        let mut left = FLOOD_MAX;
        while left > 0 {
            self.wire.write(&many).await?;
            self.tally.flood.fetch_add(many.len() as u64, Ordering::Relaxed);
            left = left.saturating_sub(many.len());
        }
        Ok(())
    }
}

/// One frame, on the wire.
pub fn write_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn settings(fault: Http2Fault) -> Vec<u8> {
    let entry = |id: u16, value: u32| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let payload = match fault {
        Http2Fault::StreamsMax(streams) => entry(SETTINGS_MAX_CONCURRENT_STREAMS, streams),
        Http2Fault::WindowZero => entry(SETTINGS_INITIAL_WINDOW_SIZE, 0),
        _ => Vec::new(),
    };
    let mut bytes = write_frame(SETTINGS, 0, 0, &payload);
    if fault == Http2Fault::GoAwayAfter(0) {
        bytes.extend(goaway(0));
    }
    bytes
}

fn goaway(last_stream: u32) -> Vec<u8> {
    let payload = [last_stream.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    write_frame(GOAWAY, 0, 0, &payload)
}

/// One entry of almost the whole dynamic table (4,096 bytes), then 16,000 references to it.
fn header_bomb(stream: u32) -> Vec<u8> {
    let value = [b'x'; 4000];
    // Literal with incremental indexing, new name `x`, a value of 4,000 (a seven-bit prefix integer).
    let mut entry = vec![0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e];
    entry.extend_from_slice(&value);
    let mut bytes = write_frame(HEADERS, 0, stream, &[STATUS_200, &entry].concat());
    bytes.extend(write_frame(CONTINUATION, END_HEADERS, stream, &[0xbe; 16_000]));
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
/// `:status: 200`, entry 8 of HPACK's static table.
const STATUS_200: &[u8] = &[0x88];
/// A literal header without indexing: `x: yyyyyyyy`.
const LITERAL_HEADER: &[u8] = b"\x00\x01x\x08yyyyyyyy";
const FLOOD_MAX: usize = 256 << 20;
