//! From a query and a script to the bytes that go back.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::script::{Answer, Data, Script};

/// How the query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram, where little fits.
    Udp,
    /// On a stream, behind its length.
    Tcp,
}

/// What goes back, and how late.
#[derive(Debug, Default)]
pub struct Reply {
    /// One after the other.
    pub messages: Vec<Vec<u8>>,
    /// How long it takes.
    pub after: Duration,
}

/// The reply to `query`. Queries that are no queries get none.
pub(super) fn reply(script: &Script, query: &Message, transport: Transport) -> Reply {
    let Some(question) = query.queries.first() else { return Reply::default() };
    let name = question.name().to_ascii();
    script.count(&name, question.query_type(), u64::from(transport == Transport::Tcp));
    let answer = script.answer(&name, question.query_type());
    let mut reply = Reply::default();
    Answering { script, query, question, transport }.give(answer, &mut reply);
    reply
}

struct Answering<'a> {
    script: &'a Script,
    query: &'a Message,
    question: &'a Query,
    transport: Transport,
}

impl Answering<'_> {
    fn give(&self, answer: Answer, reply: &mut Reply) {
        match answer {
            Answer::Silence => {}
            Answer::Late(after, answer) => {
                reply.after += after;
                self.give(*answer, reply);
            }
            Answer::Truncated(_) if self.transport == Transport::Udp => {
                reply.messages.extend(encode(&self.blank().truncate()));
            }
            Answer::Truncated(answer) => self.give(*answer, reply),
            Answer::Spoofed { forged, genuine } => {
                self.forge(forged, reply);
                self.give(*genuine, reply);
            }
            Answer::Garbage(bytes) => {
                let mut message = self.query.metadata.id.to_be_bytes().to_vec();
                message.extend(bytes);
                reply.messages.push(message);
            }
            answer => reply.messages.extend(self.fit(self.message(answer))),
        }
    }

    fn blank(&self) -> Message {
        let mut message = Message::new(self.query.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.query.metadata);
        message.metadata.recursion_available = true;
        message.add_query(self.question.clone());
        if let Some(asked) = &self.query.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload());
            message.set_edns(edns);
        }
        message
    }

    fn message(&self, answer: Answer) -> Message {
        let mut message = self.blank();
        match answer {
            Answer::Poisoned { extra, genuine } => {
                message = self.message(*genuine);
                message.add_additionals(
                    extra.iter().filter_map(|(name, ip)| {
                        Some(Record::from_rdata(name_of(name)?, 86_400, address(*ip)))
                    }),
                );
            }
            Answer::Records { data, ttl } => self.add_records(&mut message, data, ttl),
            answer => self.close(&mut message, &answer, self.question.name()),
        }
        message
    }

    /// The records of the name, and if it is an alias those of what it means, and so on.
    fn add_records(&self, message: &mut Message, data: Vec<Data>, ttl: u32) {
        let wanted = self.question.query_type();
        let (mut name, mut data, mut ttl) = (self.question.name().clone(), data, ttl);
        for _ in 0..ALIASES_MAX {
            let alias = data.iter().find_map(alias_of);
            message.add_answers(data.iter().filter_map(|d| record(&name, ttl, d)));
            let Some(target) = alias.filter(|_| wanted != RecordType::CNAME) else { return };
            name = target;
            match self.script.answer(&name.to_ascii(), wanted) {
                Answer::Records { data: next, ttl: next_ttl } => (data, ttl) = (next, next_ttl),
                end => return self.close(message, &end, &name),
            }
        }
    }

    /// An answer without records.
    fn close(&self, message: &mut Message, answer: &Answer, name: &Name) {
        let (code, ttl) = match answer {
            Answer::NxDomain { ttl } => (ResponseCode::NXDomain, *ttl),
            Answer::NoData { ttl } => (ResponseCode::NoError, *ttl),
            Answer::Refused => (ResponseCode::Refused, None),
            _ => (ResponseCode::ServFail, None),
        };
        message.metadata.response_code = code;
        if let Some(ttl) = ttl {
            message.add_authority(start_of_authority(name, ttl));
        }
    }

    /// What a forger who cannot see the query would send: another id.
    fn forge(&self, forged: Vec<Data>, reply: &mut Reply) {
        let mut message = self.message(Answer::Records { data: forged, ttl: 86_400 });
        message.metadata.id = message.metadata.id.wrapping_add(1);
        reply.messages.extend(encode(&message));
    }

    /// Cuts to what the transport carries: TC over UDP, fewer records over TCP.
    fn fit(&self, mut message: Message) -> Option<Vec<u8>> {
        let size_max = match self.transport {
            Transport::Udp => usize::from(self.query.max_payload().max(512)),
            Transport::Tcp => usize::from(u16::MAX),
        };
        loop {
            match encode(&message) {
                Some(bytes) if bytes.len() <= size_max && !is_cut(&bytes) => return Some(bytes),
                _ if self.transport == Transport::Udp => return encode(&message.truncate()),
                _ if message.answers.is_empty() => return None,
                _ => message.answers.truncate(message.answers.len() * 9 / 10),
            }
        }
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().ok()
}

/// Whether the encoder itself ran out of room: it says so with the TC bit.
fn is_cut(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

fn name_of(name: &str) -> Option<Name> {
    let mut name = Name::from_str(name).or_else(|_| Name::from_str_relaxed(name)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn alias_of(data: &Data) -> Option<Name> {
    match data {
        Data::Cname(target) => name_of(target),
        _ => None,
    }
}

fn record(name: &Name, ttl: u32, data: &Data) -> Option<Record> {
    let data = match data {
        Data::Address(ip) => address(*ip),
        Data::Cname(target) => RData::CNAME(CNAME(name_of(target)?)),
        Data::Srv(srv) => RData::SRV(SRV::new(srv.priority, srv.weight, srv.port, name_of(&srv.target)?)),
    };
    Some(Record::from_rdata(name.clone(), ttl, data))
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// RFC 2308: how long "there is none" holds is the lesser of the record's TTL and its last field.
fn start_of_authority(name: &Name, ttl: u32) -> Record {
    let zone = name.base_name();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, ttl);
    Record::from_rdata(zone, ttl, RData::SOA(soa))
}

/// How long a chain of aliases is told: a loop ends here.
const ALIASES_MAX: usize = 16;
