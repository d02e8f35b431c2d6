//! Reads what a name server answered.
//!
//! # Source
//! RFC 1034 §3.6.2 (aliases), RFC 2308 (negative answers), RFC 2782 (SRV). Everything in an answer is
//! written by strangers: the number of records, hops and names is bounded.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use southbridge_words::{LookupFailure, SrvRecord};

/// Records, and how long they may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<R> {
    /// What was asked for; empty when there is none.
    pub(super) records: Vec<R>,
    /// The least TTL on the way to them; `None` when the answer does not say.
    pub(super) ttl: Option<Duration>,
}

/// What one answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading<R> {
    /// These records, or none.
    Found(Found<R>),
    /// The name is an alias, and the answer ends there: ask for this one, with this TTL in mind.
    Alias(Name, Duration),
}

/// The kinds of record that are looked up.
pub(super) trait Kind: Sized {
    /// Takes one out of a record of the asked type.
    fn from_data(data: &RData) -> Option<Self>;
}

impl Kind for IpAddr {
    fn from_data(data: &RData) -> Option<Self> {
        match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        }
    }
}

impl Kind for SrvRecord {
    fn from_data(data: &RData) -> Option<Self> {
        let RData::SRV(srv) = data else { return None };
        let target = srv.target.to_ascii();
        let target = match target.trim_end_matches('.') {
            "" => ".".into(),
            name => name.to_ascii_lowercase().into(),
        };
        Some(Self { priority: srv.priority, weight: srv.weight, port: srv.port, target })
    }
}

/// Reads the answer to a question for records of type `kind` of `name`, following aliases within it.
///
/// # Errors
/// [`LookupFailure::Malformed`] when the aliases go in a circle.
pub(super) fn read<R: Kind>(
    answer: &Message,
    name: &Name,
    kind: RecordType,
    records_max: usize,
) -> Result<Reading<R>, LookupFailure> {
    let mut at = name;
    let mut ttl = u32::MAX;
    for _ in 0..ALIASES_MAX {
        let mut records = Vec::new();
        let mut alias = None;
        for record in
            answer.answers.iter().filter(|record| record.dns_class == DNSClass::IN && record.name == *at)
        {
            if record.record_type() == kind && records.len() < records_max {
                ttl = ttl.min(record.ttl);
                records.extend(R::from_data(&record.data));
            } else if let RData::CNAME(target) = &record.data {
                alias = alias.or(Some((&target.0, record.ttl)));
            }
        }
        if !records.is_empty() {
            return Ok(Reading::Found(Found { records, ttl: Some(seconds(ttl)) }));
        }
        match alias {
            Some((target, alias_ttl)) => {
                at = target;
                ttl = ttl.min(alias_ttl);
            }
            None => return Ok(end_of_aliases(answer, name, at, ttl)),
        }
    }
    Err(LookupFailure::Malformed)
}

/// Reads the bytes of an answer to the question for the SRV records of `name` as a lookup reads them, without
/// asking anybody. At most `records_max` records are taken.
///
/// # Errors
/// [`LookupFailure::Malformed`] for bytes that are no answer.
pub fn read_srv_message(
    bytes: &[u8],
    name: &str,
    records_max: usize,
) -> Result<Vec<SrvRecord>, LookupFailure> {
    let answer = Message::from_vec(bytes).map_err(|_| LookupFailure::Malformed)?;
    let name = Name::from_ascii(name).map_err(|_| LookupFailure::Malformed)?;
    Ok(match read(&answer, &name, RecordType::SRV, records_max)? {
        Reading::Found(found) => found.records,
        Reading::Alias(..) => Vec::new(),
    })
}

/// The aliases of an answer lead to `at`, and there is nothing there.
fn end_of_aliases<R>(answer: &Message, name: &Name, at: &Name, ttl: u32) -> Reading<R> {
    let is_denied = answer.response_code == ResponseCode::NXDomain || has_soa(answer);
    if at == name || is_denied {
        return Reading::Found(Found { records: Vec::new(), ttl: negative_ttl(answer) });
    }
    Reading::Alias(at.clone(), seconds(ttl))
}

fn has_soa(answer: &Message) -> bool {
    answer.authorities.iter().any(|record| matches!(record.data, RData::SOA(_)))
}

/// RFC 2308 §5: the lesser of the SOA's own TTL and its last field.
fn negative_ttl(answer: &Message) -> Option<Duration> {
    answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(seconds(record.ttl.min(soa.minimum))),
        _ => None,
    })
}

/// Takes an answer that says something about the name: yes, or no.
///
/// # Errors
/// The failure that any other response code stands for.
pub(super) fn judge(answer: Message) -> Result<Message, LookupFailure> {
    match answer.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(failure(code)),
    }
}

fn failure(code: ResponseCode) -> LookupFailure {
    match code {
        ResponseCode::ServFail => LookupFailure::ServFail,
        ResponseCode::FormErr => LookupFailure::Malformed,
        _ => LookupFailure::Refused,
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

/// Longer chains are circles or attacks.
const ALIASES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME, SOA, SRV};
    use proptest::prelude::*;
    use std::str::FromStr;

    fn name(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    fn answer(records: &[(&str, u32, RData)]) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_answers(
            records.iter().map(|(at, ttl, data)| Record::from_rdata(name(at), *ttl, data.clone())),
        );
        message
    }

    fn alias(target: &str) -> RData {
        RData::CNAME(CNAME(name(target)))
    }

    fn address() -> RData {
        RData::A(A::new(192, 0, 2, 1))
    }

    fn addresses(message: &Message) -> Result<Reading<IpAddr>, LookupFailure> {
        read(message, &name("a.test."), RecordType::A, 4)
    }

    #[test]
    fn aliases_are_followed_and_the_least_ttl_counts() {
        let message = answer(&[
            ("c.test.", 30, address()),
            ("A.test.", 60, alias("b.test.")),
            ("b.test.", 90, alias("c.test.")),
        ]);
        let expected = Found { records: vec![IpAddr::from([192, 0, 2, 1])], ttl: Some(seconds(30)) };
        assert_eq!(addresses(&message), Ok(Reading::Found(expected)));
    }

    #[test]
    fn an_alias_without_its_target_is_asked_for() {
        let message = answer(&[("a.test.", 60, alias("b.test.")), ("x.test.", 1, address())]);
        assert_eq!(addresses(&message), Ok(Reading::Alias(name("b.test."), seconds(60))));
    }

    #[test]
    fn an_alias_to_nothing_is_nothing_for_as_long_as_the_soa_says() {
        let mut message = answer(&[("a.test.", 60, alias("b.test."))]);
        let soa = SOA::new(name("ns.test."), name("x.test."), 1, 1, 1, 1, 17);
        message.add_authority(Record::from_rdata(name("test."), 300, RData::SOA(soa)));
        let expected = Found { records: Vec::new(), ttl: Some(seconds(17)) };
        assert_eq!(addresses(&message), Ok(Reading::Found(expected)));
    }

    #[test]
    fn aliases_in_a_circle_are_no_answer() {
        let message = answer(&[("a.test.", 60, alias("b.test.")), ("b.test.", 60, alias("a.test."))]);
        assert_eq!(addresses(&message), Err(LookupFailure::Malformed));
    }

    #[test]
    fn of_many_records_only_so_many_are_used() {
        let many: Vec<(&str, u32, RData)> = (0..1000).map(|_| ("a.test.", 60, address())).collect();
        let Ok(Reading::Found(found)) = addresses(&answer(&many)) else { panic!("records were there") };
        assert_eq!(found.records.len(), 4);
    }

    /// The owner of SRV records may be an alias like any other name.
    #[test]
    fn srv_records_are_found_behind_an_alias() {
        let srv = RData::SRV(SRV::new(10, 5, 8448, name("Matrix.Test.")));
        let root = RData::SRV(SRV::new(0, 0, 0, Name::root()));
        let message =
            answer(&[("a.test.", 60, alias("b.test.")), ("b.test.", 60, srv), ("b.test.", 60, root)]);
        let Ok(Reading::Found(found)) = read::<SrvRecord>(&message, &name("a.test."), RecordType::SRV, 4)
        else {
            panic!("records were there")
        };
        let targets: Vec<&str> = found.records.iter().map(|record| &*record.target).collect();
        assert_eq!(targets, ["matrix.test", "."]);
    }

    proptest! {
        /// Whatever bytes come as a message, reading it ends.
        #[test]
        fn any_message_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 12..200)) {
            if let Ok(message) = Message::from_vec(&bytes) {
                let _ = read::<SrvRecord>(&message, &name("a.test."), RecordType::SRV, 4);
                let _ = addresses(&message);
            }
        }
    }
}
