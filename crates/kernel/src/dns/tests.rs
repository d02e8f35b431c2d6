//! DNS against a server that does as it is told. Row 14 of the fault list.

use std::net::SocketAddr;
use std::time::Duration;

use southbridge_testkit::dns::{Answer as Says, Data, DnsServer, RecordType};
use tokio::task::LocalSet;

use super::*;

const A: [u8; 4] = [192, 0, 2, 1];
const HOUR: Duration = Duration::from_secs(3600);

/// A name server, and the DNS that asks it.
struct Rig {
    server: DnsServer,
    dns: Dns,
}

impl Rig {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut DnsConfig)) -> Self {
        let server = DnsServer::start().await.expect("a loopback port");
        let mut config = DnsConfig {
            servers: vec![server.address()],
            timeout: Duration::from_millis(400),
            attempts: 1,
            ..DnsConfig::default()
        };
        change(&mut config);
        let dns = Dns::new(&config, &Surroundings::real()).expect("a good configuration");
        Self { server, dns }
    }

    /// The addresses of `name` as text, or what went wrong.
    async fn addresses(&self, name: &str) -> Result<Vec<String>, LookupFailure> {
        match self.dns.addresses(name).await {
            Ok(answer) => Ok(answer.value.iter().map(ToString::to_string).collect()),
            Err(error) => Err(error.failure),
        }
    }

    async fn srv(&self, name: &str) -> Result<Answer<Arc<[SrvRecord]>>, LookupFailure> {
        self.dns.srv(name).await.map_err(|error| error.failure)
    }
}

/// Runs `story` where the kernel runs: on one thread, with tasks that stay there.
async fn on_one_thread<F: Future>(story: F) -> F::Output {
    LocalSet::new().run_until(story).await
}

/// Lets the clock jump. It only stands still meanwhile: the sockets are real.
async fn wait(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn one(address: [u8; 4], ttl: u32) -> Says {
    Says::addresses(&[address.into()], ttl)
}

#[tokio::test]
async fn both_families_are_looked_up_once_and_then_known() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.host("a.test", &[A.into(), "2001:db8::1".parse().unwrap()], 300);
        assert_eq!(rig.addresses("A.test.").await, Ok(vec!["2001:db8::1".into(), "192.0.2.1".into()]));
        let again = rig.dns.addresses("a.test").await.expect("known");
        assert!(again.cached && !again.stale);
        assert_eq!(rig.server.queries_total(), 2);
        assert_eq!((rig.dns.counters().queries, rig.dns.counters().addresses.hits), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_hundred_lookups_of_one_name_are_one() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.host("a.test", &[A.into()], 300);
        let all = futures_util::future::join_all((0..100).map(|_| rig.addresses("a.test"))).await;
        assert!(all.iter().all(|one| one.as_ref().is_ok_and(|addresses| addresses.len() == 1)));
        assert_eq!(rig.server.queries_total(), 2);
    })
    .await;
}

/// Whoever asked gives up; the answer is kept for the next one all the same.
#[tokio::test]
async fn a_lookup_outlives_the_caller_that_gave_up() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.set("a.test", RecordType::AAAA, Says::NoData { ttl: Some(60) });
        let late = Says::Late(Duration::from_millis(50), Box::new(one(A, 300)));
        rig.server.set("a.test", RecordType::A, late);
        let gave_up = tokio::time::timeout(Duration::from_millis(1), rig.addresses("a.test")).await;
        assert!(gave_up.is_err());
        assert_eq!(rig.addresses("a.test").await, Ok(vec!["192.0.2.1".into()]));
        assert_eq!(rig.server.queries("a.test", RecordType::A), 1);
    })
    .await;
}

#[tokio::test]
async fn absence_is_an_answer_and_ends_with_the_time_of_its_soa() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.set("_matrix._tcp.a.test", RecordType::SRV, Says::NxDomain { ttl: Some(20) });
        rig.server.set("_matrix._tcp.b.test", RecordType::SRV, Says::NoData { ttl: Some(1_000_000) });
        rig.server.set("_matrix._tcp.c.test", RecordType::SRV, Says::NoData { ttl: None });
        for (name, seconds) in [("a", 20), ("b", 3600), ("c", 60)] {
            let answer = rig.srv(&format!("_matrix._tcp.{name}.test")).await.expect("an answer");
            assert!(answer.value.is_empty());
            let fresh = answer.fresh_until.saturating_since(rig.dns.inner.clock.now());
            assert_eq!(fresh.as_secs_f64().round() as u64, seconds, "{name}");
        }
        assert_eq!(rig.addresses("nowhere.test").await, Ok(Vec::new()));
    })
    .await;
}

/// SERVFAIL for SRV is an error, never "no record"; and while a record is at hand it stands in, for a day.
#[tokio::test]
async fn a_server_failure_is_no_absence_and_what_was_known_stands_in() {
    on_one_thread(async {
        let rig = Rig::start().await;
        let name = "_matrix-fed._tcp.a.test";
        rig.server.set(name, RecordType::SRV, Says::ServFail);
        assert_eq!(rig.srv(name).await.err(), Some(LookupFailure::ServFail));
        wait(HOUR).await;
        rig.server.srv(name, &[(10, 5, 8448, "m.test")], 60);
        assert!(!rig.srv(name).await.expect("a record").stale);
        rig.server.set(name, RecordType::SRV, Says::ServFail);
        wait(HOUR).await;
        let standing_in = rig.srv(name).await.expect("what was known");
        assert!(standing_in.stale && standing_in.value[0].port == 8448);
        wait(HOUR * 25).await;
        assert_eq!(rig.srv(name).await.err(), Some(LookupFailure::ServFail));
    })
    .await;
}

#[tokio::test]
async fn failures_are_told_apart_and_remembered_for_a_moment() {
    on_one_thread(async {
        let rig = Rig::start_with(|config| config.timeout = Duration::from_millis(100)).await;
        for (name, says, failure) in [
            ("servfail.test", Says::ServFail, LookupFailure::ServFail),
            ("refused.test", Says::Refused, LookupFailure::Refused),
            ("silent.test", Says::Silence, LookupFailure::TimedOut),
        ] {
            rig.server.set_all(name, says);
            assert_eq!(rig.addresses(name).await, Err(failure));
        }
        let asked = rig.server.queries_total();
        assert_eq!(rig.addresses("servfail.test").await, Err(LookupFailure::ServFail));
        assert_eq!(rig.server.queries_total(), asked);
        let error = rig.dns.addresses("refused.test").await.expect_err("remembered").to_string();
        assert_eq!(
            error,
            "looking up the addresses of refused.test failed: the name server refused to answer"
        );
    })
    .await;
}

/// Answers that are no message at all count as silence or as unreadable, never as an absence.
#[tokio::test]
async fn garbage_is_no_absence() {
    on_one_thread(async {
        let rig = Rig::start_with(|config| config.timeout = Duration::from_millis(100)).await;
        rig.server.set_all("a.test", Says::Garbage(vec![0xff; 40]));
        assert!(rig.addresses("a.test").await.is_err());
        assert!(rig.srv("_matrix._tcp.a.test").await.is_ok_and(|answer| answer.value.is_empty()));
    })
    .await;
}

#[tokio::test]
async fn one_family_may_fail_if_the_other_is_there() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.set("a.test", RecordType::A, one(A, 3600));
        rig.server.set("a.test", RecordType::AAAA, Says::ServFail);
        let answer = rig.dns.addresses("a.test").await.expect("one family");
        let fresh = answer.fresh_until.saturating_since(rig.dns.inner.clock.now());
        assert!(answer.value.len() == 1 && fresh <= HALF_KNOWN);
        rig.server.set("b.test", RecordType::A, Says::NoData { ttl: Some(60) });
        rig.server.set("b.test", RecordType::AAAA, Says::ServFail);
        assert_eq!(rig.addresses("b.test").await, Err(LookupFailure::ServFail));
    })
    .await;
}

#[tokio::test]
async fn times_to_live_of_zero_and_of_a_lifetime_are_fitted_in() {
    on_one_thread(async {
        let rig = Rig::start().await;
        for (name, ttl, seconds) in
            [("zero.test", 0, 5), ("huge.test", 1 << 31, 86_400), ("min.test", 300, 300)]
        {
            rig.server.host(name, &[A.into()], ttl);
            let answer = rig.dns.addresses(name).await.expect("an address");
            let fresh = answer.fresh_until.saturating_since(rig.dns.inner.clock.now());
            assert_eq!(fresh.as_secs_f64().round() as u64, seconds, "{name}");
        }
    })
    .await;
}

/// In the last fifth of its time a name that is in use is looked up again, and nobody waits for it.
#[tokio::test]
async fn names_in_use_are_refreshed_ahead() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.host("a.test", &[A.into()], 100);
        rig.addresses("a.test").await.expect("an address");
        rig.server.host("a.test", &[[192, 0, 2, 2].into()], 100);
        wait(Duration::from_secs(85)).await;
        assert_eq!(rig.addresses("a.test").await, Ok(vec!["192.0.2.1".into()]));
        while rig.dns.counters().queries < 4 || rig.dns.counters().idle < 256 {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        assert_eq!(rig.addresses("a.test").await, Ok(vec!["192.0.2.2".into()]));
    })
    .await;
}

#[tokio::test]
async fn truncated_and_huge_answers_are_told_over_tcp_and_bounded() {
    on_one_thread(async {
        let rig = Rig::start_with(|config| config.timeout = Duration::from_secs(5)).await;
        rig.server.set("cut.test", RecordType::A, Says::Truncated(Box::new(one(A, 60))));
        assert_eq!(rig.addresses("cut.test").await, Ok(vec!["192.0.2.1".into()]));
        assert_eq!(rig.server.queries_over_tcp(), 1);
        let many: Vec<IpAddr> = (0..10_000_u32).map(|n| Ipv4Addr::from(n).into()).collect();
        rig.server.set("many.test", RecordType::A, Says::addresses(&many, 60));
        assert_eq!(rig.addresses("many.test").await.map(|addresses| addresses.len()), Ok(32));
    })
    .await;
}

/// A forger guesses wrong, and another slips in records that nobody asked for: neither is believed.
#[tokio::test]
async fn forged_answers_are_not_believed() {
    on_one_thread(async {
        let rig = Rig::start().await;
        let forged = vec![Data::Address([198, 51, 100, 66].into())];
        rig.server.set("bank.test", RecordType::A, Says::Spoofed { forged, genuine: Box::new(one(A, 60)) });
        assert_eq!(rig.addresses("bank.test").await, Ok(vec!["192.0.2.1".into()]));
        let extra = vec![("victim.test".to_owned(), [198, 51, 100, 66].into())];
        rig.server.set("evil.test", RecordType::A, Says::Poisoned { extra, genuine: Box::new(one(A, 60)) });
        assert_eq!(rig.addresses("evil.test").await, Ok(vec!["192.0.2.1".into()]));
        assert_eq!(rig.addresses("victim.test").await, Ok(Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn aliases_are_followed_and_circles_are_errors() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.cname("www.test", "a.test", 30);
        rig.server.host("a.test", &[A.into()], 300);
        assert_eq!(rig.addresses("www.test").await, Ok(vec!["192.0.2.1".into()]));
        rig.server.cname("x.test", "y.test", 30);
        rig.server.cname("y.test", "x.test", 30);
        assert_eq!(rig.addresses("x.test").await, Err(LookupFailure::Malformed));
        rig.server.cname("_matrix._tcp.alias.test", "_matrix._tcp.a.test", 30);
        rig.server.srv("_matrix._tcp.a.test", &[(1, 2, 3, "M.test")], 30);
        let answer = rig.srv("_matrix._tcp.alias.test").await.expect("records behind an alias");
        assert_eq!(&*answer.value[0].target, "m.test");
    })
    .await;
}

/// SRV answers come as they are, the odd ones included: what they mean is the asker's business.
#[tokio::test]
async fn srv_records_come_as_they_are() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.srv("_matrix._tcp.a.test", &[(1, 2, 0, "."), (20, 7, 8448, "m.test")], 30);
        let answer = rig.srv("_matrix._tcp.a.test").await.expect("records");
        let mut seen: Vec<_> =
            answer.value.iter().map(|r| (r.priority, r.weight, r.port, &*r.target)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [(1, 2, 0, "."), (20, 7, 8448, "m.test")]);
    })
    .await;
}

/// The first server of the list is dead: the second one answers, and is asked first from then on.
#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    on_one_thread(async {
        let dead = DnsServer::start().await.expect("a loopback port");
        for name in ["a.test", "b.test"] {
            dead.set_all(name, Says::ServFail);
        }
        let rig = Rig::start_with(|config| config.servers.insert(0, dead.address())).await;
        rig.server.host("a.test", &[A.into()], 300);
        rig.server.host("b.test", &[A.into()], 300);
        rig.addresses("a.test").await.expect("the second server knows");
        let asked = dead.queries_total();
        rig.addresses("b.test").await.expect("the second server knows");
        assert_eq!((asked, dead.queries_total()), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn literals_and_special_names_ask_nobody() {
    on_one_thread(async {
        let rig = Rig::start().await;
        assert_eq!(rig.addresses("192.0.2.7").await, Ok(vec!["192.0.2.7".into()]));
        assert_eq!(rig.addresses("2001:db8::7").await, Ok(vec!["2001:db8::7".into()]));
        let local = rig.addresses("localhost").await.expect("every machine has one");
        assert!(local.iter().all(|address| address == "127.0.0.1" || address == "::1"));
        assert!(rig.addresses("hs1.localhost").await.is_ok_and(|addresses| addresses.len() == 2));
        assert_eq!(rig.addresses("a.invalid").await, Ok(Vec::new()));
        assert_eq!(rig.server.queries_total(), 0);
    })
    .await;
}

/// Five hundred names at once, with sixteen questions at a time: all are answered, none is lost.
#[tokio::test]
async fn questions_under_way_are_bounded() {
    on_one_thread(async {
        let rig = Rig::start_with(|config| {
            config.queries_max = 16;
            config.timeout = Duration::from_secs(5);
            config.attempts = 2;
        })
        .await;
        rig.server.otherwise(|_, kind| (kind == RecordType::A).then(|| one(A, 60)));
        let all = (0..500).map(|number| {
            let dns = rig.dns.clone();
            async move { dns.addresses(&format!("hs{number}.test")).await.map(|answer| answer.value.len()) }
        });
        let all = futures_util::future::join_all(all).await;
        assert!(all.iter().all(|one| *one == Ok(1)), "{all:?}");
        assert_eq!((rig.dns.counters().names, rig.dns.counters().idle), (500, 16));
    })
    .await;
}

/// Nobody listens at the server's port: told at once, without waiting for the timeout.
#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    on_one_thread(async {
        let rig = Rig::start_with(|config| {
            let nobody = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            config.servers = vec![nobody.expect("a loopback port")];
            config.timeout = Duration::from_secs(30);
        })
        .await;
        assert_eq!(rig.addresses("a.test").await, Err(LookupFailure::Refused));
    })
    .await;
}

/// The first datagram is lost, the second is answered.
#[tokio::test]
async fn a_question_that_got_lost_is_sent_again() {
    on_one_thread(async {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = socket.local_addr().expect("it is bound");
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 512];
            let mut seen = Vec::new();
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let question = buffer[..length].to_vec();
                if seen.contains(&question) {
                    let message = hickory_proto::op::Message::from_vec(&question).expect("a question");
                    let answer = message.into_response().to_vec().expect("an answer");
                    socket.send_to(&answer, peer).await.expect("sent");
                }
                seen.push(question);
            }
        });
        let rig = Rig::start_with(|config| {
            config.servers = vec![address];
            config.timeout = Duration::from_secs(2);
        })
        .await;
        assert!(rig.srv("_matrix._tcp.a.test").await.is_ok_and(|answer| answer.value.is_empty()));
    })
    .await;
}

#[tokio::test]
async fn a_distrusted_name_is_looked_up_anew() {
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.host("a.test", &[A.into()], 3600);
        rig.addresses("a.test").await.expect("an address");
        rig.server.host("a.test", &[[192, 0, 2, 2].into()], 3600);
        rig.dns.distrust("A.test");
        assert_eq!(rig.addresses("a.test").await, Ok(vec!["192.0.2.2".into()]));
    })
    .await;
}

/// A lookup meets a bug of ours. All who wait for it are told, and the next one is a lookup of its own.
#[tokio::test]
async fn a_lookup_that_meets_a_bug_ends() {
    async fn broken(_: Rc<Inner>, name: Arc<str>) -> Result<Fetched<Addresses>, LookupFailure> {
        panic!("as the test wants it: {name}")
    }
    on_one_thread(async {
        let rig = Rig::start().await;
        rig.server.host("a.test", &[A.into()], 3600);
        let inner = &rig.dns.inner;
        let get = || inner.addresses.get(Asking::Passing("a.test"), inner, |inner| &inner.addresses, broken);
        let (one, other) = tokio::join!(get(), get());
        assert_eq!(one.unwrap_err().failure, LookupFailure::Overloaded);
        assert_eq!(other.unwrap_err().failure, LookupFailure::Overloaded);
        assert_eq!(rig.addresses("a.test").await, Ok(vec!["192.0.2.1".into()]));
    })
    .await;
}

#[test]
fn a_server_on_any_port_will_do() {
    let servers = vec![SocketAddr::from(([127, 0, 0, 1], 5353)), "[::1]:53".parse().unwrap()];
    let config = DnsConfig { servers, ..DnsConfig::default() };
    assert!(Dns::new(&config, &Surroundings::real()).is_ok());
}
