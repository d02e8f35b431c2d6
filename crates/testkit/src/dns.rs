//! A DNS server that does as it is told: a script per name and type, changeable while it runs.
//!
//! It answers on UDP and TCP on one loopback port, follows CNAMEs as a recursive resolver would, and
//! counts what it is asked, so that a test can say "these hundred lookups were one".
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use southbridge_testkit::dns::{Answer, DnsServer, RecordType};
//! let dns = DnsServer::start().await?;
//! dns.host("a.test", &["127.0.0.1".parse().unwrap()], 60);
//! dns.srv("_matrix-fed._tcp.b.test", &[(10, 5, 8448, "a.test")], 60);
//! dns.set("c.test", RecordType::A, Answer::ServFail);
//! assert_eq!(dns.queries("a.test", RecordType::A), 0);
//! # Ok(()) }
//! ```
//!
//! # Units
//! TTLs are seconds, as on the wire.
//!
//! # Source
//! Row 14 of the fault list; RFC 1035, RFC 2308 (negative answers), RFC 2782 (SRV).

mod script;
mod wire;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
pub use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::task::{Task, accept_each};
use script::Script;
pub use script::{Answer, Data, SrvRecord};
pub use wire::{Reply, Transport};

/// A running DNS server; it stops when dropped.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    script: DnsScript,
    _tasks: [Task; 2],
}

impl DnsServer {
    /// Starts on a loopback port that was free for both UDP and TCP.
    ///
    /// # Errors
    /// When no such port is found, or sockets cannot be made.
    pub async fn start() -> io::Result<Self> {
        let mut failure = io::Error::other("no port tried");
        for _ in 0..PORT_ATTEMPTS_MAX {
            match Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await {
                Ok(server) => return Ok(server),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Starts on `address`; port 0 takes whichever is free.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_at(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        // A fan-out asks thousands of questions in one burst.
        let _ = socket2::SockRef::from(&udp).set_recv_buffer_size(UDP_BUFFER);
        let address = udp.local_addr()?;
        let tcp = TcpListener::bind(address).await?;
        let script = DnsScript::default();
        let tasks = [
            Task::spawn(serve_udp(Arc::new(udp), script.clone())),
            Task::spawn(serve_tcp(tcp, script.clone())),
        ];
        Ok(Self { address, script, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// It can be told something else while it runs.
impl Deref for DnsServer {
    type Target = DnsScript;

    fn deref(&self) -> &DnsScript {
        &self.script
    }
}

/// What a DNS server says, whatever it is asked over. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct DnsScript(Arc<Script>);

impl DnsScript {
    /// What goes back for `query`, which came over `transport`; nothing for what is no query.
    pub fn reply(&self, query: &[u8], transport: Transport) -> Reply {
        match Message::from_vec(query) {
            Ok(query) => wire::reply(&self.0, &query, transport),
            Err(_) => Reply::default(),
        }
    }

    /// From now on a query of this type for `name` gets `answer`.
    pub fn set(&self, name: &str, kind: RecordType, answer: Answer) {
        self.0.set(name, kind, answer);
    }

    /// From now on every query for `name` gets `answer`, except for types set by [`DnsScript::set`].
    pub fn set_all(&self, name: &str, answer: Answer) {
        self.0.set(name, RecordType::ANY, answer);
    }

    /// Forgets all scripts for `name`.
    pub fn unset(&self, name: &str) {
        self.0.unset(name);
    }

    /// Gives `name` these A and AAAA records, and NODATA for the family that has none.
    pub fn host(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let of = |kind: RecordType| {
            let data: Vec<Data> =
                addresses.iter().map(|ip| Data::Address(*ip)).filter(|d| d.record_type() == kind).collect();
            if data.is_empty() { Answer::NoData { ttl: Some(ttl) } } else { Answer::Records { data, ttl } }
        };
        self.set(name, RecordType::A, of(RecordType::A));
        self.set(name, RecordType::AAAA, of(RecordType::AAAA));
    }

    /// Gives `name` SRV records of (priority, weight, port, target). The target `"."` says "no service".
    pub fn srv(&self, name: &str, records: &[(u16, u16, u16, &str)], ttl: u32) {
        let data = records
            .iter()
            .map(|(priority, weight, port, target)| {
                Data::Srv(SrvRecord {
                    priority: *priority,
                    weight: *weight,
                    port: *port,
                    target: (*target).into(),
                })
            })
            .collect();
        self.set(name, RecordType::SRV, Answer::Records { data, ttl });
    }

    /// Makes `name` an alias of `target` for every type.
    pub fn cname(&self, name: &str, target: &str, ttl: u32) {
        self.set(name, RecordType::CNAME, Answer::Records { data: vec![Data::Cname(target.into())], ttl });
    }

    /// The rule for names without a script: `None` means NXDOMAIN. Thousands of hosts cost one function.
    pub fn otherwise(&self, rule: impl Fn(&str, RecordType) -> Option<Answer> + Send + Sync + 'static) {
        self.0.otherwise(Arc::new(rule));
    }

    /// Queries of this type for `name` since the start or [`DnsScript::forget_queries`].
    pub fn queries(&self, name: &str, kind: RecordType) -> u64 {
        self.0.queries(name, kind)
    }

    /// Queries in all.
    pub fn queries_total(&self) -> u64 {
        self.0.queries_total()
    }

    /// Queries that came over TCP.
    pub fn queries_over_tcp(&self) -> u64 {
        self.0.queries_over_tcp()
    }

    /// Starts counting afresh.
    pub fn forget_queries(&self) {
        self.0.forget_queries();
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, script: DnsScript) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let reply = script.reply(&buffer[..length], Transport::Udp);
        if reply.after.is_zero() {
            send_all(&socket, peer, reply).await;
        } else {
            tokio::spawn(send_later(Arc::clone(&socket), peer, reply));
        }
    }
}

async fn send_later(socket: Arc<UdpSocket>, peer: SocketAddr, reply: Reply) {
    tokio::time::sleep(reply.after.min(DELAY_MAX)).await;
    send_all(&socket, peer, reply).await;
}

async fn send_all(socket: &UdpSocket, peer: SocketAddr, reply: Reply) {
    for message in reply.messages {
        // The peer may have closed its socket: its loss.
        let _ = socket.send_to(&message, peer).await;
    }
}

async fn serve_tcp(listener: TcpListener, script: DnsScript) {
    accept_each(listener, move |stream, _| {
        let script = script.clone();
        async move {
            // A peer that hangs up mid-message is no concern of ours.
            let _ = serve_tcp_peer(stream, &script).await;
        }
    })
    .await;
}

async fn serve_tcp_peer(mut stream: TcpStream, script: &DnsScript) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let reply = script.reply(&query, Transport::Tcp);
        tokio::time::sleep(reply.after.min(DELAY_MAX)).await;
        for message in reply.messages {
            let length = u16::try_from(message.len()).map_err(io::Error::other)?;
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(&message).await?;
        }
    }
}

const PORT_ATTEMPTS_MAX: usize = 32;
const UDP_BUFFER: usize = 4 << 20;
const DELAY_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{OpCode, Query, ResponseCode};
    use hickory_proto::rr::{Name, RData};
    use std::str::FromStr;

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(77, hickory_proto::op::MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    async fn ask(dns: &DnsServer, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query(name, kind), dns.address()).await.unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).await.unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn ask_over_tcp(dns: &DnsServer, name: &str, kind: RecordType) -> Message {
        let mut stream = TcpStream::connect(dns.address()).await.unwrap();
        let query = query(name, kind);
        stream.write_u16(u16::try_from(query.len()).unwrap()).await.unwrap();
        stream.write_all(&query).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        Message::from_vec(&answer).unwrap()
    }

    /// Scripts are heeded by type, and changed while the server runs.
    #[tokio::test]
    async fn each_name_and_type_gets_what_its_script_says() {
        let dns = DnsServer::start().await.unwrap();
        dns.host("a.test", &["127.0.0.9".parse().unwrap()], 30);
        dns.srv("_matrix._tcp.a.test", &[(1, 2, 0, ".")], 5);
        let answer = ask(&dns, "A.test.", RecordType::A).await;
        assert_eq!((answer.metadata.id, answer.answers[0].ttl), (77, 30));
        assert_eq!(answer.answers[0].data, RData::A("127.0.0.9".parse().unwrap()));
        let none = ask(&dns, "a.test.", RecordType::AAAA).await;
        assert_eq!((none.answers.len(), none.authorities.len()), (0, 1));
        let srv = ask(&dns, "_matrix._tcp.a.test.", RecordType::SRV).await;
        assert!(matches!(&srv.answers[0].data, RData::SRV(srv) if srv.target.is_root() && srv.port == 0));
        dns.set("a.test", RecordType::A, Answer::ServFail);
        let failed = ask(&dns, "a.test.", RecordType::A).await;
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        let unknown = ask(&dns, "b.test.", RecordType::A).await;
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!((dns.queries("a.test", RecordType::A), dns.queries_total()), (2, 5));
    }

    /// An alias is followed to its address; one that bites its tail ends all the same.
    #[tokio::test]
    async fn aliases_are_followed_but_not_for_ever() {
        let dns = DnsServer::start().await.unwrap();
        dns.cname("www.test", "a.test", 30);
        dns.host("a.test", &["127.0.0.9".parse().unwrap()], 30);
        assert_eq!(ask(&dns, "www.test.", RecordType::A).await.answers.len(), 2);
        dns.cname("x.test", "y.test", 30);
        dns.cname("y.test", "x.test", 30);
        assert_eq!(ask_over_tcp(&dns, "x.test.", RecordType::A).await.answers.len(), 16);
    }

    /// What does not fit in a datagram is told over TCP, as far as 64 KiB go.
    #[tokio::test]
    async fn large_answers_are_truncated_over_udp_and_told_over_tcp() {
        let dns = DnsServer::start().await.unwrap();
        let many: Vec<IpAddr> = (0..10_000_u32).map(|n| IpAddr::from(Ipv4Addr::from(n))).collect();
        dns.set("many.test", RecordType::A, Answer::addresses(&many, 60));
        let short = ask(&dns, "many.test.", RecordType::A).await;
        assert!(short.metadata.truncation && short.answers.is_empty());
        let long = ask_over_tcp(&dns, "many.test.", RecordType::A).await;
        assert!(long.answers.len() > 2000 && !long.metadata.truncation);
        let one = Answer::addresses(&many[..1], 60);
        dns.set("cut.test", RecordType::A, Answer::Truncated(Box::new(one)));
        assert!(ask(&dns, "cut.test.", RecordType::A).await.metadata.truncation);
        assert_eq!(ask_over_tcp(&dns, "cut.test.", RecordType::A).await.answers.len(), 1);
        assert_eq!(dns.queries_over_tcp(), 2);
    }

    /// Thousands of names need one rule, and a forger's packet comes first but with another id.
    #[tokio::test]
    async fn rules_and_forgeries_are_told_as_scripted() {
        let dns = DnsServer::start().await.unwrap();
        let local: [IpAddr; 1] = ["127.0.0.1".parse().unwrap()];
        dns.otherwise(move |name, kind| {
            (name.ends_with(".fed.test") && kind == RecordType::A).then(|| Answer::addresses(&local, 60))
        });
        assert_eq!(ask(&dns, "hs4711.fed.test.", RecordType::A).await.answers.len(), 1);
        let forged = vec![Data::Address("6.6.6.6".parse().unwrap())];
        let genuine = Box::new(Answer::addresses(&local, 60));
        dns.set("bank.test", RecordType::A, Answer::Spoofed { forged, genuine });
        assert_eq!(ask(&dns, "bank.test.", RecordType::A).await.metadata.id, 78);
    }
}
