//! How many descriptors this process may hold, and whether the limits of the configuration fit in.
//!
//! # Source
//! `reference/faults.md` row 26: out of descriptors, the lowest are shed and the doors stay open. That is easier when
//! the bounds of the pool and of the doors together stay below the system's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Raises the limit as far as this process may, and gives it.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(UNLIMITED).min(UNLIMITED);
    if current.is_some_and(|current| current < wanted) {
        // Where even this is refused the old limit holds, and is what `limit` says.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// The limit that [`raise`] would come to.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(UNLIMITED).min(UNLIMITED)
}

/// Makes the bounds of `config` fit into `limit` descriptors. Bounds that somebody wrote down are not touched;
/// defaults are lowered alike, and then the text says so.
///
/// # Errors
/// Says what is needed and what there is, when it does not fit.
pub fn fit(config: &mut Config, limit: u64) -> Result<Option<String>, String> {
    let needed = OWN + bounds(config).iter().map(Bound::cost).sum::<u64>();
    if needed <= limit {
        return Ok(None);
    }
    let was = config.synapse.connections_max;
    if !config.explicit.synapse {
        // The default leaves room for a thundering herd; where room is scarce the pool needs it more.
        config.synapse.connections_max = was.min(config.pool.connections_max.saturating_mul(2));
    }
    let needed = OWN + bounds(config).iter().map(Bound::cost).sum::<u64>();
    let written: u64 = bounds(config).iter().filter(|bound| bound.written).map(Bound::cost).sum();
    let room = limit.saturating_sub(OWN + written + u64::from(USEFUL_MIN) * 4);
    let wanted = needed.saturating_sub(OWN + written);
    let mut lowered = Vec::new();
    for bound in bounds(config).into_iter().filter(|bound| !bound.written) {
        let share = u128::from(bound.value) * u128::from(room) / u128::from(wanted.max(1));
        let share = u32::try_from(share).unwrap_or(bound.value).max(USEFUL_MIN).min(bound.value);
        lowered.push(format!("{} is {share}", bound.key));
        (bound.set)(config, share);
    }
    let pool = &mut config.pool;
    pool.limited_connections_max = pool.limited_connections_max.min(pool.connections_max.div_ceil(2));
    let needed = OWN + bounds(config).iter().map(Bound::cost).sum::<u64>();
    let raise = "raise LimitNOFILE= in the unit (`ulimit -n` in a shell)";
    if needed > limit {
        let values =
            bounds(config).iter().map(|bound| format!("{} = {}", bound.key, bound.value)).collect::<Vec<_>>();
        let values = values.join(", ");
        return Err(format!(
            "the limits need {needed} descriptors ({values}), and this process may hold {limit}; lower them, or {raise}"
        ));
    }
    Ok(Some(format!("this process may hold {limit} descriptors only, so {}; {raise}", lowered.join(", "))))
}

/// A bound on something that holds descriptors.
struct Bound {
    key: &'static str,
    value: u32,
    /// Descriptors for each.
    each: u64,
    /// Whether it stands in the file.
    written: bool,
    set: fn(&mut Config, u32),
}

impl Bound {
    fn cost(&self) -> u64 {
        u64::from(self.value) * self.each
    }
}

fn bounds(config: &Config) -> [Bound; 5] {
    let door = u64::from(!config.synapse.listen.is_empty());
    // A tunnel has two ends.
    let proxy = if config.forward_proxy.listen.is_empty() { 0 } else { 2 };
    [
        Bound {
            key: "pool.connections_max",
            value: config.pool.connections_max,
            each: 1,
            written: config.explicit.pool,
            set: |config, value| config.pool.connections_max = value,
        },
        Bound {
            key: "synapse.connections_max",
            value: config.synapse.connections_max,
            each: door,
            written: config.explicit.synapse,
            set: |config, value| config.synapse.connections_max = value,
        },
        Bound {
            key: "forward_proxy.tunnels_max",
            value: config.forward_proxy.tunnels_max,
            each: proxy,
            written: config.explicit.forward_proxy,
            set: |config, value| config.forward_proxy.tunnels_max = value,
        },
        Bound {
            key: "bus.connections_max",
            value: config.bus.connections_max,
            each: u64::from(!config.bus.listen.is_empty()),
            written: config.explicit.bus,
            set: |config, value| config.bus.connections_max = value,
        },
        Bound {
            key: "dns.queries_max",
            value: u32::try_from(config.dns.queries_max).unwrap_or(u32::MAX),
            each: 1,
            written: config.explicit.dns,
            set: |config, value| config.dns.queries_max = value as usize,
        },
    ]
}

/// Standard streams, listeners, the database and its log, timers, the successor's pipe.
const OWN: u64 = 48 + ADMIN;
/// Connections that the admin socket takes.
const ADMIN: u64 = 64;
/// Fewer than these are of no use.
const USEFUL_MIN: u32 = 8;
/// More than any machine has memory for, and what Linux allows by default (`fs.nr_open`).
const UNLIMITED: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn config(text: &str) -> Config {
        Config::parse(
            text,
            None,
            &Environment { secret: None, postgres_password: None, state_dir: "/nonexistent".into() },
        )
        .unwrap()
    }

    #[test]
    fn defaults_shrink_to_what_the_system_allows() {
        for limit in [256, 1024, 4096, 10_000] {
            let mut config = config("");
            let warning = fit(&mut config, limit).unwrap().unwrap();
            assert!(
                warning.contains(&limit.to_string()) && fit(&mut config, limit) == Ok(None),
                "{limit}: {warning}"
            );
            assert!(config.pool.limited_connections_max <= config.pool.connections_max);
        }
        assert_eq!(fit(&mut config(""), 1 << 20), Ok(None));
    }

    /// Somebody wrote the number down and relies on it.
    #[test]
    fn a_written_bound_that_does_not_fit_is_refused_with_the_numbers() {
        let mut config = config("[pool]\nconnections_max = 50000\n");
        let error = fit(&mut config, 4096).unwrap_err();
        assert!(error.contains("pool.connections_max = 50000") && error.contains("may hold 4096"), "{error}");
        assert_eq!(config.pool.connections_max, 50_000);
    }
}
