//! Who may ask for a connection next.
//!
//! Queues that want to send stand in one of four lines. At most so many sends are asked for or under way at once:
//! hosts that answered last time go first, hosts that did not (or were never asked) have a part that they cannot
//! outgrow, and so have backlogs, each with a page of items in memory (faults rows 25 and 27, F15).
//!
//! | line | for | its part |
//! | --- | --- | --- |
//! | live | fresh traffic to hosts that answered last time | all but that of backlogs |
//! | doubtful | fresh traffic to all other hosts | `doubtful_sends_max` |
//! | catch-up | backlogs | `catch_up_sends_max`, kept free for them |
//! | doubtful catch-up | backlogs of hosts that did not answer last time | both parts, and three quarters of that of backlogs |

use std::collections::VecDeque;

use super::limits::ExternaliserLimits;
use super::queues::QueueKey;

/// One of the lines, the first to be served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Live,
    Doubtful,
    CatchUp,
    DoubtfulCatchUp,
}

impl Line {
    /// The line for what it is.
    pub(crate) const fn new(is_backlog: bool, is_good: bool) -> Self {
        match (is_backlog, is_good) {
            (false, true) => Self::Live,
            (false, false) => Self::Doubtful,
            (true, true) => Self::CatchUp,
            (true, false) => Self::DoubtfulCatchUp,
        }
    }

    const ALL: [Self; 4] = [Self::Live, Self::Doubtful, Self::CatchUp, Self::DoubtfulCatchUp];
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Lines {
    waiting: [VecDeque<QueueKey>; 4],
    sends: [usize; 4],
}

impl Lines {
    /// `queue` lines up.
    pub(crate) fn push(&mut self, line: Line, queue: QueueKey) {
        self.waiting[line as usize].push_back(queue);
    }

    /// Whose turn it is, if there is room. Whoever has left the line meanwhile is still named.
    pub(crate) fn pop(&mut self, limits: &ExternaliserLimits) -> Option<(Line, QueueKey)> {
        let line = Line::ALL
            .into_iter()
            .find(|line| !self.waiting[*line as usize].is_empty() && self.has_room(*line, limits))?;
        self.waiting[line as usize].pop_front().map(|queue| (line, queue))
    }

    /// A send in `line` begins.
    pub(crate) fn begin(&mut self, line: Line) {
        self.sends[line as usize] += 1;
    }

    /// A send in `line` has ended.
    pub(crate) fn end(&mut self, line: Line) {
        self.sends[line as usize] -= 1;
    }

    /// Sends asked for or under way.
    pub(crate) fn sends(&self) -> usize {
        self.sends.iter().sum()
    }

    /// Queues in all the lines; some may have left.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    fn has_room(&self, line: Line, limits: &ExternaliserLimits) -> bool {
        let [live, doubtful, catch_up, doubtful_catch_up] = self.sends;
        let fresh_max = (limits.sends_max - limits.catch_up_sends_max).max(1);
        let is_fresh_free = live + doubtful < fresh_max;
        let is_doubt_free = doubtful + doubtful_catch_up < limits.doubtful_sends_max;
        let is_backlog_free = catch_up + doubtful_catch_up < limits.catch_up_sends_max;
        match line {
            Line::Live => is_fresh_free,
            Line::Doubtful => is_fresh_free && is_doubt_free,
            Line::CatchUp => is_backlog_free,
            Line::DoubtfulCatchUp => {
                let most = (limits.catch_up_sends_max / 4 * 3).max(1);
                is_backlog_free && is_doubt_free && doubtful_catch_up < most
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ExternaliserLimits {
        ExternaliserLimits {
            sends_max: 10,
            doubtful_sends_max: 3,
            catch_up_sends_max: 4,
            ..ExternaliserLimits::default()
        }
    }

    fn begun(lines: &mut Lines, line: Line) -> usize {
        (0..20).for_each(|index| lines.push(line, QueueKey { index, generation: 0 }));
        let begun =
            std::iter::from_fn(|| lines.pop(&limits()).inspect(|(line, _)| lines.begin(*line))).count();
        lines.waiting = Default::default();
        begun
    }

    /// Dead hosts take three places of ten, backlogs four, and the rest stays free for live traffic.
    #[test]
    fn nobody_outgrows_his_part() {
        let mut lines = Lines::default();
        assert_eq!(begun(&mut lines, Line::Doubtful), 3);
        assert_eq!(begun(&mut lines, Line::DoubtfulCatchUp), 0, "all the doubt there may be is under way");
        assert_eq!(begun(&mut lines, Line::CatchUp), 4);
        assert_eq!(begun(&mut lines, Line::Live), 3);
        lines.end(Line::Doubtful);
        assert_eq!(begun(&mut lines, Line::Live), 1);
        assert_eq!(lines.sends(), 10);
    }

    /// However much live traffic there is, a backlog moves.
    #[test]
    fn live_traffic_leaves_room_for_backlogs() {
        let mut lines = Lines::default();
        assert_eq!(begun(&mut lines, Line::Live), 6);
        assert_eq!(begun(&mut lines, Line::DoubtfulCatchUp), 3);
        assert_eq!(begun(&mut lines, Line::CatchUp), 1);
    }
}
