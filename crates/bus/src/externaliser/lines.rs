//! Who may ask for a connection next.
//!
//! Queues that want to send stand in one of six lines. At most so many sends are asked for or under way at once:
//! hosts that answered last time go first, hosts that did not (or were never asked) have a part that they cannot
//! outgrow, and so have backlogs, each with a page of items in memory (faults rows 25 and 27, F15). Who has nothing but
//! volatile EDUs comes last, and at a pace: while he waits, more of them gather.
//!
//! | line | for | its part |
//! | --- | --- | --- |
//! | live | fresh items for hosts that answered last time | all but that of backlogs |
//! | doubtful | fresh items for all other hosts | `doubtful_sends_max` |
//! | catch-up | backlogs | `catch_up_sends_max`, kept free for them |
//! | doubtful catch-up | backlogs of hosts that did not answer last time | both parts, and three quarters of that of backlogs |
//! | volatile | nothing but volatile EDUs | a quarter of the first, and `volatile_sends_per_second` |
//! | doubtful volatile | the same, for hosts that did not answer last time | both parts, and three quarters of that of volatile EDUs |

use std::collections::VecDeque;
use std::time::Duration;

use southbridge_words::Instant;

use super::limits::ExternaliserLimits;
use super::pace::Pace;
use super::queues::QueueKey;

/// One of the lines, the first to be served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Live,
    Doubtful,
    CatchUp,
    DoubtfulCatchUp,
    Volatile,
    DoubtfulVolatile,
}

/// What a queue wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Items that were accepted just now.
    Fresh,
    /// Items that have been waiting.
    Backlog,
    /// Nothing but volatile EDUs.
    Volatile,
}

impl Line {
    /// The line for what it is.
    pub(crate) const fn new(urgency: Urgency, is_good: bool) -> Self {
        match (urgency, is_good) {
            (Urgency::Fresh, true) => Self::Live,
            (Urgency::Fresh, false) => Self::Doubtful,
            (Urgency::Backlog, true) => Self::CatchUp,
            (Urgency::Backlog, false) => Self::DoubtfulCatchUp,
            (Urgency::Volatile, true) => Self::Volatile,
            (Urgency::Volatile, false) => Self::DoubtfulVolatile,
        }
    }

    const ALL: [Self; 6] = [
        Self::Live,
        Self::Doubtful,
        Self::CatchUp,
        Self::DoubtfulCatchUp,
        Self::Volatile,
        Self::DoubtfulVolatile,
    ];

    const fn is_volatile(self) -> bool {
        matches!(self, Self::Volatile | Self::DoubtfulVolatile)
    }

    /// Its bit in a set of lines.
    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Lines {
    waiting: [VecDeque<QueueKey>; 6],
    sends: [usize; 6],
    volatile: Pace,
}

impl Lines {
    /// Nobody waits.
    pub(crate) fn new(limits: &ExternaliserLimits) -> Self {
        let volatile = Pace::new(limits.volatile_sends_per_second, VOLATILE_AHEAD);
        Self { waiting: Default::default(), sends: [0; 6], volatile }
    }

    /// `queue` lines up.
    pub(crate) fn push(&mut self, line: Line, queue: QueueKey) {
        self.waiting[line as usize].push_back(queue);
    }

    /// Whose turn it is, if there is room. Whoever has left the line meanwhile is still named.
    pub(crate) fn pop(&mut self, limits: &ExternaliserLimits, now: Instant) -> Option<(Line, QueueKey)> {
        let line = Line::ALL.into_iter().find(|line| {
            let is_time = !line.is_volatile() || self.volatile.is_open(now);
            is_time && self.has_turn(*line, limits)
        })?;
        self.waiting[line as usize].pop_front().map(|queue| (line, queue))
    }

    /// A send in `line` begins.
    pub(crate) fn begin(&mut self, line: Line, now: Instant) {
        self.sends[line as usize] += 1;
        if line.is_volatile() {
            self.volatile.spend(1, now);
        }
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

    /// When somebody has his turn who waits for nothing but the time.
    pub(crate) fn poll_timeout(&self, limits: &ExternaliserLimits) -> Option<Instant> {
        let mut volatile = Line::ALL.into_iter().filter(|line| line.is_volatile());
        volatile.any(|line| self.has_turn(line, limits)).then(|| self.volatile.opens_at())
    }

    fn has_turn(&self, line: Line, limits: &ExternaliserLimits) -> bool {
        !self.waiting[line as usize].is_empty() && self.has_room(line, limits)
    }

    fn has_room(&self, line: Line, limits: &ExternaliserLimits) -> bool {
        let [live, doubtful, catch_up, doubtful_catch_up, volatile, doubtful_volatile] = self.sends;
        let fresh_max = (limits.sends_max - limits.catch_up_sends_max).max(1);
        let volatile_max = (fresh_max / 4).max(1);
        let is_fresh_free = live + doubtful + volatile + doubtful_volatile < fresh_max;
        let is_doubt_free = doubtful + doubtful_catch_up + doubtful_volatile < limits.doubtful_sends_max;
        let is_backlog_free = catch_up + doubtful_catch_up < limits.catch_up_sends_max;
        let is_volatile_free = is_fresh_free && volatile + doubtful_volatile < volatile_max;
        match line {
            Line::Live => is_fresh_free,
            Line::Doubtful => is_fresh_free && is_doubt_free,
            Line::CatchUp => is_backlog_free,
            Line::DoubtfulCatchUp => {
                let most = (limits.catch_up_sends_max / 4 * 3).max(1);
                is_backlog_free && is_doubt_free && doubtful_catch_up < most
            }
            Line::Volatile => is_volatile_free,
            Line::DoubtfulVolatile => {
                let most = (volatile_max / 4 * 3).max(1);
                is_volatile_free && is_doubt_free && doubtful_volatile < most
            }
        }
    }
}

// After a rest, a room of a hundred servers hears of it at once.
const VOLATILE_AHEAD: Duration = Duration::from_millis(100);

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

    const NOW: Instant = Instant::ZERO;

    fn lines() -> Lines {
        Lines::new(&limits())
    }

    fn begun(lines: &mut Lines, line: Line) -> usize {
        begun_at(lines, line, NOW)
    }

    fn begun_at(lines: &mut Lines, line: Line, now: Instant) -> usize {
        (0..20).for_each(|index| lines.push(line, QueueKey { index, generation: 0 }));
        let begun =
            std::iter::from_fn(|| lines.pop(&limits(), now).inspect(|(line, _)| lines.begin(*line, now)));
        let begun = begun.count();
        lines.waiting = Default::default();
        begun
    }

    /// Dead hosts take three places of ten, backlogs four, and the rest stays free for live traffic.
    #[test]
    fn nobody_outgrows_his_part() {
        let mut lines = lines();
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
        let mut lines = lines();
        assert_eq!(begun(&mut lines, Line::Live), 6);
        assert_eq!(begun(&mut lines, Line::DoubtfulCatchUp), 3);
        assert_eq!(begun(&mut lines, Line::CatchUp), 1);
    }
    /// Typing for everybody: it has a place of six, and goes no faster than it may; a message passes it.
    #[test]
    fn volatile_edus_come_last_and_at_a_pace() {
        let limits = ExternaliserLimits { sends_max: 4000, volatile_sends_per_second: 100, ..limits() };
        let mut lines = Lines::new(&limits);
        let key = |index| QueueKey { index, generation: 0 };
        (0..50).for_each(|index| lines.push(Line::Volatile, key(index)));
        lines.push(Line::Live, key(99));
        assert_eq!(lines.pop(&limits, NOW), Some((Line::Live, key(99))));
        let mut begin = |now| {
            let next =
                std::iter::from_fn(|| lines.pop(&limits, now).inspect(|(line, _)| lines.begin(*line, now)));
            (next.count(), lines.poll_timeout(&limits))
        };
        let (count, then) = begin(NOW);
        assert_eq!((count, then), (11, Some(NOW + Duration::from_millis(10))));
        assert_eq!(begin(NOW + Duration::from_millis(10)).0, 1);
        assert_eq!(begun(&mut self::lines(), Line::Volatile), 1, "a quarter of six");
    }
}
