//! What the pool may hold at once, and what makes no sense as a limit.

use std::time::Duration;

use southbridge_words::{Class, PerClass};

/// What the pool may hold at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections in all, from dial to close. Default 4096: about 128 MiB at 32 KiB each when all are in use,
    /// enough to keep those of a fan-out to several thousand hosts, and with one descriptor each far below
    /// the 65,536 that service managers commonly allow.
    pub connections_max: u32,
    /// Connections whose TCP handshake is in progress: cheap, but each holds a descriptor. Default 1024:
    /// while it waits a dial costs a socket and no CPU, and those that nobody answers last for seconds.
    pub dials_max: u32,
    /// Connections whose TLS handshake is in progress. Default 128: each waits for some hundred milliseconds and
    /// costs a third of one of CPU, so that they make a thousand handshakes a second with a third of the
    /// thread; what completes together delays everything else on it by some 40 ms at most.
    pub handshakes_max: u32,
    /// How many of the dials may be for the limited lane. Default 768: three quarters, because hosts
    /// that do not answer are most of a cold start, and healthy hosts seldom dial. With `dial_patience`
    /// that makes 256 a second at the least, even if nobody answers.
    pub limited_dials_max: u32,
    /// How many of the TLS handshakes may be for the limited lane. Default 96: three quarters,
    /// because on a cold start everybody is a stranger. With half, a fan-out to 5,000 strangers took longer
    /// than the 8 s that the delegation of one may take.
    pub limited_handshakes_max: u32,
    /// How many of the connections may be lent to, or opened for, the limited lane. Default 2048: half.
    pub limited_connections_max: u32,
    /// Connections that carry one request at a time (HTTP/1.1), for one peer. Default 8: a little more
    /// than browsers use, and far below what common servers allow one client.
    pub exclusive_per_peer_max: u32,
    /// Connections that carry many requests at a time (HTTP/2), for one peer. Default 2: one saturates
    /// when its streams or its window are used up, and more than a few are unkind.
    pub shared_per_peer_max: u32,
    /// Requests waiting in all. Default 20,000: about 4 MiB, and five for each connection. The lower
    /// classes may fill only a part of it, so that they are shed first (F19).
    pub waiting_max: u32,
    /// Requests waiting for one peer. Default 2,000: a tenth. Shared out among the classes likewise.
    pub waiting_per_peer_max: u32,
    /// Idle connections kept for one peer for longer than [`SURPLUS_AFTER`](super::SURPLUS_AFTER); zero keeps none at all.
    /// Default 4: half of what a burst opens.
    pub idle_per_peer_max: u32,
    /// How long an idle connection is kept. Default 90 s: servers commonly close after 60 to 120 s.
    pub idle_max: Duration,
    /// How long a dial may take while somebody waits for its place; without, it lasts for as long as whoever
    /// dials lets it. Default 3 s: a SYN that was lost is sent again after one second (RFC 6298), and that
    /// leaves two for the answer.
    pub dial_patience: Duration,
    /// The same for a TLS handshake, which takes two round trips and little work on the far side. Default 3 s.
    pub handshake_patience: Duration,
    /// How long a lease lasts before it is revoked, if somebody else waits for what it holds. Default
    /// 75 s: how long a call may take altogether.
    pub lease_max: Duration,
    /// The share of each class in what is scarce, 1 to 65,536. Default 16, 12, 8, 6, 3, 1 from
    /// interactive to backfill: who waits for a person goes first, and the last still moves.
    pub weights: PerClass<u32>,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            dials_max: 1024,
            handshakes_max: 128,
            limited_dials_max: 768,
            limited_handshakes_max: 96,
            limited_connections_max: 2048,
            exclusive_per_peer_max: 8,
            shared_per_peer_max: 2,
            waiting_max: 20_000,
            waiting_per_peer_max: 2_000,
            idle_per_peer_max: 4,
            idle_max: Duration::from_secs(90),
            dial_patience: Duration::from_secs(3),
            handshake_patience: Duration::from_secs(3),
            lease_max: Duration::from_secs(75),
            weights: PerClass([16, 12, 8, 6, 3, 1]),
        }
    }
}

/// Why limits make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPoolLimits {
    /// A limit of nothing: nobody would ever be served.
    #[error("{field} is zero")]
    Zero {
        /// Which.
        field: &'static str,
    },
    /// A part that is larger than the whole.
    #[error("{field} is {value}, more than {bound_field}, which is {bound}")]
    Contradiction {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it must not exceed.
        bound_field: &'static str,
        /// What that is.
        bound: u64,
    },
}

impl PoolLimits {
    /// Whether these limits make sense together.
    ///
    /// # Errors
    /// [`InvalidPoolLimits`] names the first field that does not, in the order of declaration.
    pub fn validate(&self) -> Result<(), InvalidPoolLimits> {
        for (field, is_zero) in self.zeros() {
            if is_zero {
                return Err(InvalidPoolLimits::Zero { field });
            }
        }
        for (field, value, bound_field, bound) in self.bounds() {
            if value > bound {
                let (value, bound) = (value.into(), bound.into());
                return Err(InvalidPoolLimits::Contradiction { field, value, bound_field, bound });
            }
        }
        for class in Class::ALL {
            let (value, bound) = (self.weights[class].into(), WEIGHT_MAX.into());
            if value > bound {
                let (field, bound_field) = (weight_field(class), "the largest weight");
                return Err(InvalidPoolLimits::Contradiction { field, value, bound_field, bound });
            }
        }
        Ok(())
    }

    /// How much of `waiting_max` requests `class` may fill. The lower the class, the earlier it is shed.
    pub(super) fn waiting_share(class: Class, waiting_max: u32) -> u32 {
        let percent = WAITING_PERCENT[class];
        u32::try_from((u64::from(waiting_max) * percent).div_ceil(100)).unwrap_or(waiting_max)
    }

    fn zeros(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let counts = [
            ("connections_max", self.connections_max),
            ("dials_max", self.dials_max),
            ("handshakes_max", self.handshakes_max),
            ("limited_dials_max", self.limited_dials_max),
            ("limited_handshakes_max", self.limited_handshakes_max),
            ("limited_connections_max", self.limited_connections_max),
            ("exclusive_per_peer_max", self.exclusive_per_peer_max),
            ("shared_per_peer_max", self.shared_per_peer_max),
            ("waiting_max", self.waiting_max),
            ("waiting_per_peer_max", self.waiting_per_peer_max),
        ];
        let times = [
            ("idle_max", self.idle_max),
            ("dial_patience", self.dial_patience),
            ("handshake_patience", self.handshake_patience),
            ("lease_max", self.lease_max),
        ];
        let weights = Class::ALL.map(|class| (weight_field(class), self.weights[class]));
        let counts = counts.into_iter().chain(weights).map(|(field, count)| (field, count == 0));
        counts.chain(times.into_iter().map(|(field, time)| (field, time.is_zero())))
    }

    fn bounds(&self) -> [(&'static str, u32, &'static str, u32); 8] {
        let whole = ("connections_max", self.connections_max);
        [
            ("dials_max", self.dials_max, whole.0, whole.1),
            ("handshakes_max", self.handshakes_max, whole.0, whole.1),
            ("limited_dials_max", self.limited_dials_max, "dials_max", self.dials_max),
            ("limited_handshakes_max", self.limited_handshakes_max, "handshakes_max", self.handshakes_max),
            ("limited_connections_max", self.limited_connections_max, whole.0, whole.1),
            ("exclusive_per_peer_max", self.exclusive_per_peer_max, whole.0, whole.1),
            ("shared_per_peer_max", self.shared_per_peer_max, whole.0, whole.1),
            ("waiting_per_peer_max", self.waiting_per_peer_max, "waiting_max", self.waiting_max),
        ]
    }
}

const fn weight_field(class: Class) -> &'static str {
    match class {
        Class::Interactive => "weights.interactive",
        Class::Join => "weights.join",
        Class::Live => "weights.live",
        Class::Repair => "weights.repair",
        Class::Media => "weights.media",
        Class::Backfill => "weights.backfill",
    }
}

/// The largest weight: as fine as the shares are counted.
pub(super) const WEIGHT_MAX: u32 = 1 << 16;

// Who waits for a person may fill the waiting room; each class below leaves a part of it to those above.
const WAITING_PERCENT: PerClass<u64> = PerClass([100, 100, 95, 90, 80, 70]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(PoolLimits::default().validate(), Ok(()));
    }

    /// Every field that may not be zero is named when it is.
    #[test]
    fn a_zero_is_named() {
        let zero = PoolLimits { handshakes_max: 0, ..PoolLimits::default() };
        assert_eq!(zero.validate(), Err(InvalidPoolLimits::Zero { field: "handshakes_max" }));
        let zero = PoolLimits { lease_max: Duration::ZERO, ..PoolLimits::default() };
        assert_eq!(zero.validate(), Err(InvalidPoolLimits::Zero { field: "lease_max" }));
        let zero = PoolLimits { dial_patience: Duration::ZERO, ..PoolLimits::default() };
        assert_eq!(zero.validate(), Err(InvalidPoolLimits::Zero { field: "dial_patience" }));
        let zero = PoolLimits { weights: PerClass([1, 1, 1, 1, 1, 0]), ..PoolLimits::default() };
        assert_eq!(zero.validate(), Err(InvalidPoolLimits::Zero { field: "weights.backfill" }));
        let zero = PoolLimits { idle_per_peer_max: 0, ..PoolLimits::default() };
        assert_eq!(zero.validate(), Ok(()), "keeping nothing idle is a choice");
    }

    /// A part larger than its whole is named, with both numbers.
    #[test]
    fn a_contradiction_is_named() {
        let limits = PoolLimits { limited_dials_max: 1100, ..PoolLimits::default() };
        let error = limits.validate().expect_err("1100 of 1024");
        assert_eq!(error.to_string(), "limited_dials_max is 1100, more than dials_max, which is 1024");
        let limits = PoolLimits { weights: PerClass([1 << 20, 1, 1, 1, 1, 1]), ..PoolLimits::default() };
        let error = limits.validate().expect_err("too large");
        assert!(error.to_string().starts_with("weights.interactive is 1048576"), "{error}");
    }

    #[test]
    fn the_lowest_classes_are_shed_first() {
        let shares = Class::ALL.map(|class| PoolLimits::waiting_share(class, 200));
        assert_eq!(shares, [200, 200, 190, 180, 160, 140]);
        assert_eq!(PoolLimits::waiting_share(Class::Backfill, 1), 1);
    }
}
