//! Which addresses may be dialled, and which not.

use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

/// What Synapse blocks by default, one by one and merged, is denied here as well; what can be dialled in part is not.
#[test]
fn a_network_is_denied_when_no_address_of_it_can_be_dialled() {
    let default = AddressPolicy::default();
    let denies = |policy: &AddressPolicy, text: &str| policy.denies(&text.parse().expect(text));
    for network in [
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "169.254.0.0/16",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "::1/128",
        "fe80::/10",
        "fe80::/9",
        "fc00::/7",
        "2001:db8::/32",
        "ff00::/8",
        "fec0::/10",
        "::ffff:10.0.0.0/104",
        "2002:7f00::/24",
        "224.0.0.0/3",
        "10.1.2.3/32",
    ] {
        assert!(denies(&default, network), "{network}");
    }
    for network in ["0.0.0.0/0", "::/0", "8.8.8.0/24", "8.8.8.8/32", "10.0.0.0/7", "192.168.0.0/15"] {
        assert!(!denies(&default, network), "{network}");
    }
    let policy = AddressPolicy::new(nets(&["10.7.0.0/16"]), nets(&["8.8.8.0/24", "10.7.7.0/24"]));
    for (network, is_denied) in [
        ("10.0.0.0/8", false),
        ("10.7.7.0/25", true),
        ("10.8.0.0/16", true),
        ("8.8.8.8/32", true),
        ("8.8.8.0/23", false),
    ] {
        assert_eq!(denies(&policy, network), is_denied, "{network}");
    }
}

/// Faults row 13: a literal into our own network, in every spelling that a socket understands.
#[test]
fn addresses_outside_the_public_internet_are_denied_by_default() {
    let cases: &[(&str, &str)] = &[
        ("0.0.0.0", "this network"),
        ("0.1.2.3", "this network"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "CGNAT"),
        ("100.127.255.255", "CGNAT"),
        ("100.100.100.200", "metadata"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("168.63.129.16", "metadata"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.192", "IETF protocol"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4 relay"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::2", "carries 0.0.0.2: this network"),
        ("::127.0.0.1", "carries 127.0.0.1: loopback"),
        ("::ffff:10.1.2.3", "carries 10.1.2.3: private"),
        ("::ffff:169.254.169.254", "carries 169.254.169.254: metadata"),
        ("::ffff:0:127.0.0.1", "carries 127.0.0.1: loopback"),
        ("64:ff9b::127.0.0.1", "carries 127.0.0.1: loopback"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
        ("64:ff9b:1::8.8.8.8", "local-use NAT64"),
        ("64:ff9b:0:1::8.8.8.8", "not a global unicast"),
        ("2002:7f00:1::", "carries 127.0.0.1: loopback"),
        ("2002:c0a8:101::1", "carries 192.168.1.1: private"),
        // Teredo: a good server with a private client, and the other way round.
        ("2001:0:808:808::3f57:fefe", "carries 192.168.1.1: private"),
        ("2001:0:a00:1::f7f7:f7f7", "carries 10.0.0.1: private"),
        ("2606:4700::5efe:10.0.0.1", "carries 10.0.0.1: private"),
        ("2606:4700::200:5efe:127.0.0.1", "carries 127.0.0.1: loopback"),
        ("100::1", "discard"),
        ("2001:2::1", "benchmarking"),
        ("2001:10::1", "ORCHID"),
        ("2001:2f::1", "ORCHIDv2"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("5f00::1", "segment routing"),
        ("fc00::1", "unique local"),
        ("fd00:ec2::254", "metadata"),
        ("fdff::1", "unique local"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("4000::1", "not a global unicast"),
        ("4000::5efe:8.8.8.8", "not a global unicast"),
        ("1::1", "not a global unicast"),
    ];
    let policy = AddressPolicy::default();
    for (address, reason) in cases {
        let denied = policy.check_ip(ip(address)).expect_err(address).to_string();
        assert!(denied.contains(reason), "{address}: {denied:?} does not mention {reason:?}");
    }
}

#[test]
fn public_addresses_are_allowed() {
    let policy = AddressPolicy::default();
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a01:4f8::1",
        "2001:4860:4860::8888",
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
        "2002:808:808::1",
    ] {
        assert_eq!(policy.check_ip(ip(address)), Ok(()), "{address}");
    }
}

#[test]
fn port_zero_is_never_dialled() {
    let policy = AddressPolicy::new(nets(&["0.0.0.0/0"]), []);
    assert_eq!(policy.check("8.8.8.8:0".parse().expect("an address")), Err(DeniedRange::PortZero));
}

#[test]
fn of_two_configured_ranges_the_more_specific_decides_and_deny_wins_a_tie() {
    let policy = AddressPolicy::new(
        nets(&["10.0.0.0/8", "10.1.1.0/24", "192.168.0.0/16", "fd00::/8"]),
        nets(&["10.1.0.0/16", "192.168.0.0/16", "8.8.8.0/24"]),
    );
    let cases = [
        ("10.2.0.1", true),
        ("10.1.2.1", false),
        ("10.1.1.1", true),
        ("192.168.0.1", false),
        ("8.8.8.8", false),
        ("8.8.9.8", true),
        ("127.0.0.1", false),
        ("fd12::1", true),
        ("fe80::1", false),
        ("::ffff:10.2.0.1", true),
        ("::ffff:10.1.2.1", false),
        ("64:ff9b::8.8.8.8", false),
    ];
    for (address, allowed) in cases {
        assert_eq!(policy.check_ip(ip(address)).is_ok(), allowed, "{address}");
    }
}

/// Someone allows all of IPv6. That is no leave to reach IPv4 loopback through it.
#[test]
fn allowing_the_wrapping_does_not_allow_what_is_carried() {
    let policy = AddressPolicy::new(nets(&["::/0"]), []);
    assert_eq!(policy.check_ip(ip("::1")), Ok(()));
    assert_eq!(policy.check_ip(ip("64:ff9b:1::8.8.8.8")), Ok(()));
    for address in ["::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::"] {
        assert!(policy.check_ip(ip(address)).is_err(), "{address}");
    }
}

proptest! {
    /// However an IPv4 address is wrapped, it is denied when it is denied bare.
    #[test]
    fn wrapping_never_helps(bits: u32) {
        let policy = AddressPolicy::default();
        let bare = Ipv4Addr::from(bits);
        let [high, low] = [(bits >> 16) as u16, bits as u16];
        let wrapped = [
            bare.to_ipv6_mapped(),
            bare.to_ipv6_compatible(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
            Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, high, low),
        ];
        let denied = policy.check_ip(IpAddr::V4(bare)).is_err();
        for address in wrapped {
            prop_assert!(!denied || policy.check_ip(IpAddr::V6(address)).is_err(), "{address}");
        }
    }

    /// The standard library's notion of private places is never wider than ours.
    #[test]
    fn what_the_standard_library_calls_local_is_denied(bits: u128) {
        let policy = AddressPolicy::default();
        let v4 = Ipv4Addr::from(bits as u32);
        if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified()
        {
            prop_assert!(policy.check_ip(IpAddr::V4(v4)).is_err());
        }
        let v6 = Ipv6Addr::from(bits);
        if v6.is_multicast() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback() {
            prop_assert!(policy.check_ip(IpAddr::V6(v6)).is_err());
        }
    }

    /// What is allowed by name is allowed, if nothing more specific says otherwise.
    #[test]
    fn a_host_that_is_allowed_is_allowed(bits: u32) {
        let address = IpAddr::V4(Ipv4Addr::from(bits));
        let policy = AddressPolicy::new([IpNet::from(address)], nets(&["0.0.0.0/0"]));
        prop_assert_eq!(policy.check_ip(address), Ok(()));
    }
}
