//! The graph of states, as a snapshot: a change of the protocol is reviewed as a changed table.

use std::fmt::Write;

use super::*;

const GRAPH: &str = "
           answered  answered   busy     busy×15   refused   refused×2  refused×8  abandoned  woken
           quickly   slowly
healthy    healthy   slow       healthy  down      healthy   failing    down       healthy    healthy
slow       slow      slow       slow     down      slow      failing    down       slow       slow
unknown    healthy   slow       unknown  down      unknown   failing    down       unknown    unknown
failing    healthy   slow       failing  down      failing   failing    down       failing    failing
down       healthy   slow       failing  down      down      down       down       down       failing
";

/// From each state, what each fact leads to. Requests are half a second apart.
#[test]
fn the_states_follow_their_graph() {
    let mut table = String::from("\n");
    table.push_str(GRAPH.split_inclusive('\n').skip(1).take(2).collect::<String>().as_str());
    for state in HostState::ALL {
        write!(table, "{:<11}", state.name()).unwrap();
        for (at, width) in WIDTHS.into_iter().enumerate() {
            let next = after(state, at).name();
            write!(table, "{next:<width$}").unwrap();
        }
        table.push('\n');
    }
    assert_eq!(table, GRAPH);
}

const WIDTHS: [usize; 9] = [10, 11, 9, 10, 10, 11, 11, 11, 0];

fn after(state: HostState, fact: usize) -> HostState {
    let mut ranker = ranker();
    let now = enter(&mut ranker, state);
    assert_eq!(ranker.state(now), state);
    let (outcome, times) = match fact {
        0 => (QUICK, 1),
        1 => (LAZY, 1),
        2 => (BUSY, 1),
        3 => (BUSY, 15),
        4 => (REFUSED, 1),
        5 => (REFUSED, 2),
        6 => (REFUSED, 8),
        7 => (Outcome::Abandoned, 1),
        _ => {
            ranker.handle_wake(&host(), now);
            return ranker.state(now);
        }
    };
    for step in 0..times {
        ranker.handle_outcome(&host(), outcome, now + millis(500) * step);
    }
    ranker.state(now)
}

fn enter(ranker: &mut Ranker, state: HostState) -> Instant {
    match state {
        HostState::Healthy => ranker.live_through(QUICK, 1, seconds(1), T0),
        HostState::Slow => ranker.live_through(LAZY, 1, seconds(1), T0),
        HostState::Unknown => T0,
        HostState::Failing => ranker.live_through(REFUSED, 2, seconds(1), T0),
        HostState::Down => ranker.live_through(REFUSED, 5, seconds(1), T0),
    }
}
