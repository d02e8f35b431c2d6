//! Every step and case of "Resolving server names", as one table.

use southbridge_words::{CertificateName, LookupFailure};

use super::world::{World, summary};
use crate::resolver::{StepSource, WellKnownFailure};

struct Case {
    /// The step of the specification, and what is special.
    story: &'static str,
    name: &'static str,
    world: fn(&mut World),
    expected: &'static str,
    asked: &'static [&'static str],
}

fn nothing(_: &mut World) {}

const LITERALS_AND_PORTS: &[Case] = &[
    Case {
        story: "1: an IPv4 literal, port 8448",
        name: "192.0.2.1",
        world: nothing,
        expected: "192.0.2.1:8448 as 192.0.2.1 verified as 192.0.2.1 key 192.0.2.1|8448",
        asked: &[],
    },
    Case {
        story: "1: an IPv6 literal with a port",
        name: "[2001:DB8::1]:443",
        world: nothing,
        expected: "[2001:db8::1]:443 as [2001:DB8::1]:443 verified as 2001:db8::1 key 2001:db8::1|443",
        asked: &[],
    },
    Case {
        story: "2: a name with a port is looked up at once; Host keeps its case, the certificate does not",
        name: "Example.ORG:443",
        world: |world| {
            world.host("example.org", &["192.0.2.1", "2001:db8::1"]);
        },
        expected: "192.0.2.1:443 [2001:db8::1]:443 as Example.ORG:443 verified as example.org key example.org|443",
        asked: &["addresses example.org"],
    },
    Case {
        story: "2: without addresses there is nowhere to go",
        name: "example.org:443",
        world: nothing,
        expected: "example.org has no address",
        asked: &["addresses example.org"],
    },
    Case {
        story: "2: a failed lookup is not an absence",
        name: "example.org:443",
        world: |world| {
            world.addresses_fail("example.org", LookupFailure::TimedOut);
        },
        expected: "looking up the addresses of example.org failed: no name server answered in time",
        asked: &["addresses example.org"],
    },
];

const DELEGATIONS: &[Case] = &[
    Case {
        story: "3.1: delegated to an IPv4 literal",
        name: "example.org",
        world: |world| {
            world.well_known("example.org", r#"{"m.server":"192.0.2.7"}"#);
        },
        expected: "192.0.2.7:8448 as 192.0.2.7 verified as 192.0.2.7 key 192.0.2.7|8448",
        asked: &["well-known example.org"],
    },
    Case {
        story: "3.1: delegated to an IPv6 literal with a port",
        name: "example.org",
        world: |world| {
            world.well_known("example.org", r#"{"m.server":"[2001:db8::7]:80"}"#);
        },
        expected: "[2001:db8::7]:80 as [2001:db8::7]:80 verified as 2001:db8::7 key 2001:db8::7|80",
        asked: &["well-known example.org"],
    },
    Case {
        story: "3.2: delegated to a name with a port",
        name: "Example.org",
        world: |world| {
            world.well_known("example.org", r#"{"m.server":"Matrix.Example.org:443"}"#);
            world.host("matrix.example.org", &["192.0.2.8"]);
        },
        expected: "192.0.2.8:443 as Matrix.Example.org:443 verified as matrix.example.org key matrix.example.org|443",
        asked: &["well-known example.org", "addresses matrix.example.org"],
    },
    Case {
        story: "3.3: delegated to a name with _matrix-fed records; Host and certificate never follow them",
        name: "example.org",
        world: |world| {
            world.well_known("example.org", r#"{"m.server":"delegated.example"}"#);
            world.srv("_matrix-fed._tcp.delegated.example", &[(10, 5, 8443, "target.example")]);
            world.srv("_matrix._tcp.delegated.example", &[(10, 5, 1, "old.example")]);
            world.host("target.example", &["192.0.2.9"]);
        },
        expected: "192.0.2.9:8443/10/5 as delegated.example verified as delegated.example key delegated.example|srv",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.delegated.example",
            "addresses target.example",
        ],
    },
    Case {
        story: "3.4: only the deprecated name has records",
        name: "example.org",
        world: |world| {
            world.well_known("example.org", r#"{"m.server":"delegated.example"}"#);
            world.srv("_matrix._tcp.delegated.example", &[(10, 5, 8443, "target.example")]);
            world.host("target.example", &["192.0.2.9"]);
        },
        expected: "192.0.2.9:8443/10/5 as delegated.example verified as delegated.example key delegated.example|srv",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.delegated.example",
            "srv _matrix._tcp.delegated.example",
            "addresses target.example",
        ],
    },
    Case {
        story: "3.5: no records at all; and one level of delegation only",
        name: "example.org",
        world: |world| {
            world.well_known("example.org", r#"{"m.server":"delegated.example"}"#);
            world.well_known("delegated.example", r#"{"m.server":"further.example:1"}"#);
            world.host("delegated.example", &["192.0.2.10"]);
        },
        expected: "192.0.2.10:8448 as delegated.example verified as delegated.example key delegated.example|8448",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.delegated.example",
            "srv _matrix._tcp.delegated.example",
            "addresses delegated.example",
        ],
    },
    Case {
        story: "3: a punycode name passes",
        name: "xn--bcher-kva.example",
        world: |world| {
            world.well_known("xn--bcher-kva.example", r#"{"m.server":"xn--mnchen-3ya.example:443"}"#);
            world.host("xn--mnchen-3ya.example", &["192.0.2.1"]);
        },
        expected: "192.0.2.1:443 as xn--mnchen-3ya.example:443 verified as xn--mnchen-3ya.example \
                   key xn--mnchen-3ya.example|443",
        asked: &["well-known xn--bcher-kva.example", "addresses xn--mnchen-3ya.example"],
    },
];

const WITHOUT_DELEGATION: &[Case] = &[
    Case {
        story: "4: .well-known answers 404, _matrix-fed has records; priorities and weights are kept",
        name: "example.org",
        world: |world| {
            world.well_known_answer("example.org", 404, "", "");
            world.srv("_matrix-fed._tcp.example.org", &[(20, 1, 2, "b.example"), (10, 70, 1, "a.example")]);
            world.host("a.example", &["192.0.2.1", "192.0.2.2"]).host("b.example", &["192.0.2.3"]);
        },
        expected: "192.0.2.1:1/10/70 192.0.2.2:1/10/70 192.0.2.3:2/20/1 as example.org verified as example.org \
                   key example.org|srv",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.example.org",
            "addresses a.example",
            "addresses b.example",
        ],
    },
    Case {
        story: "5: .well-known cannot be fetched, the deprecated name has records",
        name: "example.org",
        world: |world| {
            world.well_known_fails("example.org", WellKnownFailure::Tls);
            world
                .srv("_matrix._tcp.example.org", &[(0, 0, 9, "a.example")])
                .host("a.example", &["192.0.2.1"]);
        },
        expected: "192.0.2.1:9 as example.org verified as example.org key example.org|srv",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.example.org",
            "srv _matrix._tcp.example.org",
            "addresses a.example",
        ],
    },
    Case {
        story: "6: nothing but addresses",
        name: "example.org",
        world: |world| {
            world.host("example.org", &["192.0.2.1"]);
        },
        expected: "192.0.2.1:8448 as example.org verified as example.org key example.org|8448",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.example.org",
            "srv _matrix._tcp.example.org",
            "addresses example.org",
        ],
    },
];

const SRV_CASES: &[Case] = &[
    Case {
        story: "SERVFAIL is not an absence",
        name: "example.org",
        world: |world| {
            world.srv_fails("_matrix-fed._tcp.example.org", LookupFailure::ServFail);
            world
                .srv("_matrix._tcp.example.org", &[(0, 0, 9, "a.example")])
                .host("a.example", &["192.0.2.1"]);
        },
        expected: "looking up the SRV records _matrix-fed._tcp.example.org failed: the name server failed (SERVFAIL)",
        asked: &["well-known example.org", "srv _matrix-fed._tcp.example.org"],
    },
    Case {
        story: "silence about the deprecated name is not an absence either",
        name: "example.org",
        world: |world| {
            world
                .srv_fails("_matrix._tcp.example.org", LookupFailure::TimedOut)
                .host("example.org", &["192.0.2.1"]);
        },
        expected: "looking up the SRV records _matrix._tcp.example.org failed: no name server answered in time",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.example.org",
            "srv _matrix._tcp.example.org",
        ],
    },
    Case {
        story: "a dot says that the service is not offered",
        name: "example.org",
        world: |world| {
            world.srv("_matrix-fed._tcp.example.org", &[(0, 0, 0, ".")]).host("example.org", &["192.0.2.1"]);
        },
        expected: "the SRV record _matrix-fed._tcp.example.org says that the service is not offered",
        asked: &["well-known example.org", "srv _matrix-fed._tcp.example.org"],
    },
    Case {
        story: "port 0 and targets that are no names are passed over, the rest is used",
        name: "example.org",
        world: |world| {
            let records = [(0, 0, 0, "zero.example"), (1, 0, 9, "192.0.2.66"), (2, 0, 9, "a.example")];
            world.srv("_matrix-fed._tcp.example.org", &records).host("a.example", &["192.0.2.1"]);
        },
        expected: "192.0.2.1:9/2/0 as example.org verified as example.org key example.org|srv",
        asked: &["well-known example.org", "srv _matrix-fed._tcp.example.org", "addresses a.example"],
    },
    Case {
        story: "one target whose lookup fails does not take the others with it",
        name: "example.org",
        world: |world| {
            world.srv("_matrix-fed._tcp.example.org", &[(0, 0, 1, "a.example"), (1, 0, 2, "b.example")]);
            world.addresses_fail("a.example", LookupFailure::ServFail).host("b.example", &["192.0.2.2"]);
        },
        expected: "192.0.2.2:2/1/0 as example.org verified as example.org key example.org|srv",
        asked: &[
            "well-known example.org",
            "srv _matrix-fed._tcp.example.org",
            "addresses a.example",
            "addresses b.example",
        ],
    },
    Case {
        story: "targets without any address lead nowhere: the port of step 6 is not tried instead",
        name: "example.org",
        world: |world| {
            world
                .srv("_matrix-fed._tcp.example.org", &[(0, 0, 1, "a.example")])
                .host("example.org", &["192.0.2.2"]);
        },
        expected: "a.example has no address",
        asked: &["well-known example.org", "srv _matrix-fed._tcp.example.org", "addresses a.example"],
    },
];

#[test]
fn every_step_leads_where_the_specification_says() {
    for case in LITERALS_AND_PORTS.iter().chain(DELEGATIONS).chain(WITHOUT_DELEGATION).chain(SRV_CASES) {
        let mut world = World::new();
        (case.world)(&mut world);
        assert_eq!(summary(&world.resolve(case.name)), case.expected, "{}", case.story);
        assert_eq!(world.take_asked(), case.asked, "{}", case.story);
    }
}

/// Whatever is wrong with the document, step 4 follows: it is never a failure to resolve.
#[test]
fn a_bad_delegation_is_no_delegation() {
    let long = format!(r#"{{"m.server":"{}.example"}}"#, "a".repeat(64));
    let large = " ".repeat(51_300);
    let bodies: &[(u16, &str)] = &[
        (200, "<html>Please sign in</html>"),
        (200, r#"{"m.server":"bücher.example"}"#),
        (200, r#"{"m.server":"delegated.example:0"}"#),
        (200, r#"{"m.server":"delegated.example:123456"}"#),
        (200, r#"{"m.server":"https://delegated.example"}"#),
        (200, r#"{"m.server":17}"#),
        (200, "{}"),
        (200, &long),
        (200, &large),
        (204, ""),
        (206, r#"{"m.server":"delegated.example"}"#),
        (302, r#"{"m.server":"delegated.example"}"#),
        (404, r#"{"m.server":"delegated.example"}"#),
        (503, r#"{"m.server":"delegated.example"}"#),
    ];
    for (status, body) in bodies {
        let mut world = World::new();
        world.well_known_answer("example.org", *status, "", body).host("example.org", &["192.0.2.1"]);
        let expected = "192.0.2.1:8448 as example.org verified as example.org key example.org|8448";
        assert_eq!(summary(&world.resolve("example.org")), expected, "{status} {body:.60}");
    }
}

/// An answer of thousands of records is used within its bounds: 16 targets, 16 addresses each, 32 in all.
#[test]
fn an_answer_of_thousands_of_records_is_bounded() {
    let mut world = World::new();
    let names: Vec<String> = (0..1000).map(|number| format!("t{number}.example")).collect();
    let records: Vec<(u16, u16, u16, &str)> =
        names.iter().enumerate().map(|(at, name)| (at as u16, 0, 8448, name.as_str())).collect();
    let addresses: Vec<String> = (0..250).map(|number| format!("192.0.2.{number}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    world.srv("_matrix-fed._tcp.example.org", &records);
    for name in &names {
        world.host(name, &addresses);
    }
    let resolved = world.resolve("example.org").expect("there are addresses");
    assert_eq!(resolved.endpoints.len(), 32);
    assert_eq!(resolved.endpoints.iter().filter(|endpoint| endpoint.priority == 0).count(), 16);
    assert_eq!(world.asked.iter().filter(|asked| asked.starts_with("addresses")).count(), 16);
}

/// `southbridge resolve example.org`: each step with what came of it and where that came from.
#[test]
fn an_explanation_names_every_step() {
    let mut world = World::new();
    world.well_known("example.org", r#"{"m.server":"delegated.example"}"#);
    world.srv("_matrix._tcp.delegated.example", &[(10, 5, 8443, "target.example")]);
    world.host("target.example", &["192.0.2.9", "2001:db8::9"]);
    let told = |world: &mut World| -> Vec<String> {
        let explanation = world.explain("example.org");
        assert!(matches!(&explanation.outcome, Ok(resolved) if resolved.endpoints.len() == 2
            && resolved.certificate == CertificateName::Dns("delegated.example".into())));
        let line = |step: &crate::resolver::ExplainedStep| {
            format!("{} {} {} [{}]", step.kind, step.subject, step.outcome, step.source)
        };
        explanation.steps.iter().map(line).collect()
    };
    let expected = [
        "name example.org a name without a port [rule]",
        "well-known example.org delegates to delegated.example [asked]",
        "srv _matrix-fed._tcp.delegated.example no usable record [asked]",
        "srv _matrix._tcp.delegated.example target.example:8443 (priority 10, weight 5) [asked]",
        "addresses target.example 192.0.2.9, 2001:db8::9 [asked]",
    ];
    assert_eq!(told(&mut world), expected);
    assert!(told(&mut world)[1].ends_with(&format!("[{}]", StepSource::Cached)));
    let step = &world.explain("192.0.2.1:1").steps[0];
    assert_eq!(step.to_string(), "name       192.0.2.1:1: an IP literal: no lookup (rule, 0.0ns)");
}
