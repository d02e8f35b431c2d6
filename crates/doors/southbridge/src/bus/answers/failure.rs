//! What an error of the kernel means for a queue: was anything sent, and when may it be tried again.
//!
//! # Source
//! DESIGN decision 7 (immutable transactions); K16.

use southbridge_bus::externaliser::Failure;
use southbridge_kernel::discovery::DiscoveryError;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_words::Step;

/// What `error` says of a transaction; `made` when a request was made of it. The kernel may have tried more than
/// once, and the last error says nothing of the attempts before it: what was made once has perhaps been sent.
pub(in crate::bus) fn of_transaction(error: &ExchangeError, made: bool) -> Failure {
    if made { perhaps_sent(error) } else { unsent(error) }
}

/// What `error` says of a query. One that may not be repeated is not tried again after it has perhaps been
/// sent, so here the last attempt says all.
pub(in crate::bus) fn of_query(error: &ExchangeError) -> Failure {
    if error.is_repeatable() { unsent(error) } else { perhaps_sent(error) }
}

/// What is said of a task that ended without a word.
pub(in crate::bus) fn cut_off(made: bool) -> Failure {
    let reason = "the task that carried it has ended early".to_owned();
    if made {
        Failure::PerhapsSent { step: Step::Response, reason }
    } else {
        Failure::NotSent { step: Step::Admission, reason }
    }
}

fn perhaps_sent(error: &ExchangeError) -> Failure {
    Failure::PerhapsSent { step: error.step(), reason: super::super::words(error) }
}

fn unsent(error: &ExchangeError) -> Failure {
    match error {
        ExchangeError::HostDown { down, .. } => Failure::Down { retry_in: down.retry_in },
        ExchangeError::Overloaded { what } => Failure::Overloaded { reason: what.clone() },
        ExchangeError::BadRequest { reason } => Failure::Unfit { reason: reason.clone() },
        error if is_ours(error) => Failure::Overloaded { reason: super::super::words(error) },
        error => Failure::NotSent { step: error.step(), reason: super::super::words(error) },
    }
}

/// Whether the lack was on our side.
fn is_ours(error: &ExchangeError) -> bool {
    match error {
        ExchangeError::Discovery(DiscoveryError::Overloaded { .. })
        | ExchangeError::DeadlinePassed { step: Step::Admission, .. } => true,
        ExchangeError::Connect { source, .. } => source.is_ours(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use southbridge_kernel::net::ConnectError;
    use southbridge_policy::ranker::Down;
    use southbridge_words::ServiceName;

    use super::*;

    fn cut(step: Step) -> ExchangeError {
        ExchangeError::Cut { service: ServiceName::new("a.test"), step, reason: "reset".to_owned() }
    }

    /// A first attempt got no answer on an old connection, the second found the host gone: whether the first was
    /// read nobody knows.
    #[test]
    fn what_was_made_once_has_perhaps_been_sent() {
        let late = cut(Step::Connect);
        assert!(of_transaction(&late, false).is_unsent());
        assert!(!of_transaction(&late, true).is_unsent());
        assert!(!of_query(&cut(Step::Response)).is_unsent());
        assert!(of_query(&cut(Step::Connect)).is_unsent());
    }

    #[test]
    fn a_lack_on_our_side_is_not_held_against_the_host() {
        let service = ServiceName::new("a.test");
        let exhausted = ConnectError::Exhausted { reason: "descriptors".to_owned() };
        let errors = [
            ExchangeError::Overloaded { what: "queue".to_owned() },
            ExchangeError::Connect { service: service.clone(), source: Rc::new(exhausted) },
            DiscoveryError::Overloaded { name: "a.test".to_owned() }.into(),
            ExchangeError::DeadlinePassed { service, step: Step::Admission, waited: Duration::ZERO },
        ];
        for error in errors {
            assert!(matches!(of_transaction(&error, false), Failure::Overloaded { .. }), "{error}");
        }
    }

    #[test]
    fn a_host_that_is_down_comes_with_its_time() {
        let minute = Duration::from_secs(60);
        let down = Down { failures: 8, failing_for: minute, last: None, retry_in: minute };
        let error = ExchangeError::HostDown { service: ServiceName::new("a.test"), down };
        assert_eq!(of_transaction(&error, false), Failure::Down { retry_in: minute });
    }
}
