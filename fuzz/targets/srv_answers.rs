//! SRV answers: records of a stranger's zone, told to the resolver in place of a name service.
//!
//! The input is a list of records: priority, weight and port in two bytes each, then the target up to
//! a line feed. Every target is then said to have two addresses.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use southbridge_bus::resolver::{Action, Resolver, ResolverLimits, WellKnownFailure, WellKnownResult};
use southbridge_words::{Answer, CertificateName, Instant, ServerName, SrvRecord, Ticket};

fuzz_target!(|bytes: &[u8]| {
    let records = records(bytes);
    let limits = ResolverLimits::default();
    let endpoints_max = limits.endpoints_max;
    let mut resolver = Resolver::new(limits, 7);
    let name = ServerName::parse("example.org").expect("it is one");
    resolver.handle_request(Ticket(1), &name, NOW);
    let mut answered = 0;
    for _ in 0..STEPS_MAX {
        match resolver.poll() {
            None => break,
            Some(Action::FetchWellKnown { id, .. }) => {
                resolver.handle_well_known(id, WellKnownResult::Failed(WellKnownFailure::Connect), NOW);
            }
            Some(Action::LookupSrv { id, .. }) => {
                resolver.handle_srv(id, Ok(answer(records.as_slice().into())), NOW)
            }
            Some(Action::LookupAddresses { id, name }) => {
                assert!(!name.is_empty() && !name.ends_with('.'), "{name:?} is looked up");
                resolver.handle_addresses(id, Ok(answer(ADDRESSES.into())), NOW);
            }
            Some(Action::Resolved { address, .. }) => {
                answered += 1;
                assert!((1..=endpoints_max).contains(&address.endpoints.len()));
                assert!(address.endpoints.iter().all(|endpoint| endpoint.address.port() != 0));
                // Neither the certificate nor Host follows an SRV target.
                assert_eq!(address.certificate, CertificateName::Dns("example.org".into()));
                assert_eq!(&*address.host_header, "example.org");
            }
            Some(Action::Failed { .. }) => answered += 1,
            Some(Action::Explained { .. }) => panic!("nobody asked for an explanation"),
        }
    }
    assert_eq!(answered, 1, "a ticket is answered exactly once");
});

fn records(bytes: &[u8]) -> Vec<SrvRecord> {
    let mut records = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').take(RECORDS_MAX) {
        let Some((head, target)) = line.split_at_checked(6) else { continue };
        let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let target: Arc<str> = String::from_utf8_lossy(target).into();
        records.push(SrvRecord { priority: number(0), weight: number(2), port: number(4), target });
    }
    records
}

fn answer<T>(value: T) -> Answer<T> {
    Answer { value, fresh_until: NOW + Duration::from_secs(60), stale: false, cached: false }
}

const NOW: Instant = Instant::ZERO;
const RECORDS_MAX: usize = 1000;
const STEPS_MAX: usize = 200;
const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)];
