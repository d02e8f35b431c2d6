//! The promises of the bus.

use super::*;

/// One seed tells one story, to the last nanosecond; another seed tells another.
#[test]
fn one_seed_tells_one_story() {
    let report = kept(&BusSpec::of_seed(3));
    assert_eq!(report, kept(&BusSpec::of_seed(3)));
    assert_ne!(report.fingerprint, kept(&BusSpec::of_seed(4)).fingerprint);
}

/// Lives through a story in which all promises must be kept.
pub(super) fn kept(spec: &BusSpec) -> BusReport {
    simulate_bus(spec).unwrap_or_else(|breach| panic!("{}", breach.shortened()))
}

/// Whatever the seed, no promise is broken.
fn seeds(from: u64) {
    for seed in from..from + 128 {
        kept(&BusSpec::of_seed(seed));
    }
}

/// A thousand stories, in parts that run side by side.
macro_rules! parts {
    ($($name:ident: $from:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            seeds($from);
        })*
    };
}

parts! {
    no_seed_from_0_breaks_a_promise: 0,
    no_seed_from_128_breaks_a_promise: 128,
    no_seed_from_256_breaks_a_promise: 256,
    no_seed_from_384_breaks_a_promise: 384,
    no_seed_from_512_breaks_a_promise: 512,
    no_seed_from_640_breaks_a_promise: 640,
    no_seed_from_768_breaks_a_promise: 768,
    no_seed_from_896_breaks_a_promise: 896,
}
