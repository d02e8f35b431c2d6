//! The stacks of the program's threads, read from beside them: no thread is interrupted, or waited for.
//!
//! What runs on changes while it is looked at, so each look says which of the innermost frames were changing. A thread that
//! hangs holds still, and the first look is enough. How a look is taken is the door's business; here is how often, in
//! what order, and what is made of it.
//!
//! # Units
//! A look takes some ten microseconds of the I/O thread, which turns to others between two of them. Who can make nothing of
//! a thread pauses as well, for some 30 ms in all: the system may have taken the processor from it in the middle of a call, and
//! until it goes on it shows the same.
//!
//! # Source
//! K13; DESIGN decision 12; decision 0015.

use std::fmt;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;

/// How the stacks of the program's threads are read. Neither function may wait for one of them.
pub struct StackSource {
    /// The threads there are now; or why that cannot be known.
    pub threads: Box<Threads>,
    /// One look at one of them: none if it was changing too much to be read, or has ended.
    pub look: Box<LookAt>,
}

/// See [`StackSource::threads`].
pub type Threads = dyn Fn() -> Result<Vec<Thread>, String> + Send + Sync;
/// See [`StackSource::look`].
pub type LookAt = dyn Fn(&Thread) -> Result<Option<Look>, String> + Send + Sync;

/// A thread of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// What its source knows it by.
    pub key: (usize, usize),
    /// The system's number, where it is known.
    pub tid: Option<u32>,
    /// Whether it is the one that the process began with.
    pub is_main: bool,
}

/// What was seen of a thread at one moment, or nearly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Where it is, the innermost first. Empty when it runs nothing that its source knows.
    pub frames: Vec<Frame>,
    /// How many of the innermost were changing meanwhile.
    pub moving: usize,
    /// Whether there were more frames than are told.
    pub is_cut: bool,
}

/// The stack of one thread, as `/debug/stack` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct StackView {
    /// The system's number of the thread, where it is known.
    pub thread: Option<u32>,
    /// Whether it is the main thread.
    pub is_main: bool,
    /// What the thread does, as the system sees it: `running`, `sleeping`, `waiting for a device` and so on.
    pub state: &'static str,
    /// Microseconds from the first look to the end of the last.
    pub took_us: u64,
    /// How often it was looked at.
    pub looks: u32,
    /// Where it is, the innermost first. Empty when it runs no Python.
    pub frames: Vec<Frame>,
    /// So many of the innermost frames were changing at every look: they are told as they were at some moment, and need
    /// not have been there together. The others held still.
    pub moving: usize,
    /// Whether there were more frames than are told.
    pub is_cut: bool,
}

/// The stacks of all threads, as `/debug/stacks` shows them.
#[derive(Clone, Debug, Serialize)]
pub struct StacksView {
    /// The main thread first.
    pub threads: Vec<StackView>,
    /// How many more there are.
    pub unlisted: usize,
}

/// One line of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// The file.
    pub file: String,
    /// The line in it, where that is known.
    pub line: Option<u32>,
    /// The function.
    pub function: String,
}

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The threads cannot be read.
    #[error("the stacks of its threads cannot be read: {0}")]
    CannotLook(String),
    /// There is no such thread, or its source does not know it.
    #[error("its main thread runs no Python that is known of")]
    NoMain,
    /// It changed at every look.
    #[error(
        "the stack of its main thread changed at each of {LOOKS_MAX} looks, so that nothing is known; ask again"
    )]
    Restless,
}

/// Looks at threads, for one who asks at a time.
#[derive(Default)]
pub(super) struct Stacks {
    turn: Mutex<()>,
}

impl Stacks {
    /// The stack of the main thread.
    pub(super) async fn main(
        &self,
        source: &OnceLock<Result<StackSource, String>>,
    ) -> Result<StackView, StackError> {
        let source = ready(source)?;
        let _turn = self.turn.lock().await;
        let threads = (source.threads)().map_err(StackError::CannotLook)?;
        let main = threads.into_iter().find(|thread| thread.is_main).ok_or(StackError::NoMain)?;
        stack_of(source, &main, &mut PAUSES.iter()).await?.ok_or(StackError::Restless)
    }

    /// Those of all threads, without those that ended meanwhile.
    pub(super) async fn all(
        &self,
        source: &OnceLock<Result<StackSource, String>>,
    ) -> Result<StacksView, StackError> {
        let source = ready(source)?;
        let _turn = self.turn.lock().await;
        let mut known = (source.threads)().map_err(StackError::CannotLook)?;
        known.sort_by_key(|thread| !thread.is_main);
        let mut threads = Vec::new();
        // For all of them together: those that have ended meanwhile show nothing ever again.
        let mut pauses = PAUSES.iter();
        for thread in known.iter().take(THREADS_MAX) {
            threads.extend(stack_of(source, thread, &mut pauses).await?);
        }
        Ok(StacksView { threads, unlisted: known.len().saturating_sub(THREADS_MAX) })
    }
}

fn ready(source: &OnceLock<Result<StackSource, String>>) -> Result<&StackSource, StackError> {
    match source.get() {
        None => Err(StackError::CannotLook("the program is just starting; ask again".to_owned())),
        Some(Err(reason)) => Err(StackError::CannotLook(reason.clone())),
        Some(Ok(source)) => Ok(source),
    }
}

/// Looks until a look holds still, or it is clear that none will.
async fn stack_of(
    source: &StackSource,
    thread: &Thread,
    pauses: &mut std::slice::Iter<'_, Duration>,
) -> Result<Option<StackView>, StackError> {
    let begun_at = tokio::time::Instant::now();
    let state = state_of(thread);
    let mut best: Option<Look> = None;
    let (mut looks, mut since) = (0, 0);
    while looks < LOOKS_MAX {
        looks += 1;
        let look = (source.look)(thread).map_err(StackError::CannotLook)?;
        if let Some(look) = look
            && best.as_ref().is_none_or(|best| still(best) < still(&look) || holds_still(&look))
        {
            best = Some(look);
        }
        let stands = best.as_ref().map_or(0, still);
        since += u32::from(stands > 0);
        let tells = (stands > 1 && looks >= LOOKS_AT_THE_MOVING) || since >= LOOKS_FOR_MORE;
        if tells || best.as_ref().is_some_and(holds_still) {
            break;
        }
        match pauses.as_slice().first() {
            Some(pause) if looks % LOOKS_AT_ONCE == 0 && stands == 0 => {
                pauses.next();
                tokio::time::sleep(*pause).await;
            }
            _ => tokio::task::yield_now().await,
        }
    }
    let took_us = u64::try_from(begun_at.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(best.map(|Look { frames, moving, is_cut }| StackView {
        thread: thread.tid,
        is_main: thread.is_main,
        state,
        took_us,
        looks,
        frames,
        moving,
        is_cut,
    }))
}

fn still(look: &Look) -> usize {
    look.frames.len().saturating_sub(look.moving)
}

/// Whether nothing changed meanwhile. That nothing was found is no such thing: a thread that calls and returns can look so
/// for a moment.
fn holds_still(look: &Look) -> bool {
    look.moving == 0 && !look.frames.is_empty()
}

/// What the system says of a thread (proc_pid_stat(5)).
fn state_of(thread: &Thread) -> &'static str {
    let Some(tid) = thread.tid else { return UNKNOWN };
    let stat = fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('R') => "running",
        Some('S') => "sleeping",
        Some('D') => "waiting for a device",
        Some('T' | 't') => "stopped",
        Some('Z' | 'X') => "dead",
        _ => UNKNOWN,
    }
}

impl fmt::Debug for StackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackSource").finish_non_exhaustive()
    }
}

const UNKNOWN: &str = "in an unknown state";
/// How often a thread is looked at of which nothing could be read at all, or nothing that held still. In CPython 3.10 frames lie
/// about in memory: of a program that calls and returns all the time, on a processor of its own, one look of many finds them in
/// one piece, and 64 in a row may not. So many take some five milliseconds.
const LOOKS_MAX: u32 = 512;
/// How often one is looked at whose innermost frames change: more looks at a loop would show it no better.
const LOOKS_AT_THE_MOVING: u32 = 8;
/// How many more are taken when nothing has stood still but the outermost frame, which says next to nothing.
const LOOKS_FOR_MORE: u32 = 128;
/// After so many looks at a thread of which nothing is known, there is a pause.
const LOOKS_AT_ONCE: u32 = 8;
/// Longer and longer, and together within the 50 ms that a stack may take.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
];
/// How many threads are told of.
const THREADS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const MAIN: Thread = Thread { key: (1, 0), tid: None, is_main: true };

    /// A program whose main thread shows itself as `look` says, the first time, the second, and so on.
    fn source(
        look: impl Fn(u32) -> Option<Look> + Send + Sync + 'static,
    ) -> OnceLock<Result<StackSource, String>> {
        let times = AtomicU32::new(0);
        let look = Box::new(move |_: &Thread| Ok(look(times.fetch_add(1, Ordering::Relaxed))));
        let others = (2..600).map(|key| Thread { key: (key, 0), tid: None, is_main: false });
        let threads: Vec<Thread> = others.chain([MAIN]).collect();
        OnceLock::from(Ok(StackSource { threads: Box::new(move || Ok(threads.clone())), look }))
    }

    fn look(functions: &[&str], moving: usize) -> Look {
        let frame = |function: &&str| Frame {
            file: "a.py".to_owned(),
            line: Some(1),
            function: (*function).to_owned(),
        };
        Look { frames: functions.iter().map(frame).collect(), moving, is_cut: false }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn a_thread_that_holds_still_is_looked_at_once() {
        let source = source(|_| Some(look(&["inner", "outer"], 0)));
        let view = run(Stacks::default().main(&source)).unwrap();
        assert_eq!((view.looks, view.moving, view.frames.len(), view.is_main), (1, 0, 2, true));
    }

    #[test]
    fn of_a_thread_that_moves_the_look_that_is_surest_is_told() {
        let source = source(|time| match time {
            0..3 => None,
            3 => Some(look(&["a", "b", "outer"], 1)),
            _ => Some(look(&["c", "d", "outer"], 2)),
        });
        let view = run(Stacks::default().main(&source)).unwrap();
        assert_eq!((view.looks, view.moving), (LOOKS_AT_THE_MOVING, 1));
        assert_eq!(view.frames[0].function, "a");
    }

    /// For a moment it seems to have no frames, or others in all of its stack: neither is what it is doing.
    #[test]
    fn a_look_that_shows_nothing_still_is_not_enough() {
        let source = source(|time| match time {
            0 => Some(look(&[], 0)),
            1..20 => Some(look(&["torn"], 1)),
            _ => Some(look(&["a", "outer"], 1)),
        });
        let view = run(Stacks::default().main(&source)).unwrap();
        assert_eq!((view.looks, view.moving, view.frames.len()), (20 + LOOKS_FOR_MORE, 1, 2));
    }

    /// The first look in one piece shows only where it began still; there is a better one.
    #[test]
    fn of_one_that_is_seldom_in_one_piece_more_is_looked_for() {
        let source = source(|time| match time {
            80 => Some(look(&["a", "b", "outer"], 2)),
            120 => Some(look(&["a", "b", "outer"], 1)),
            _ => None,
        });
        let view = run(Stacks::default().main(&source)).unwrap();
        assert_eq!((view.looks, view.moving), (121, 1));
    }

    /// Nothing is made up, and nobody looks for ever.
    #[test]
    fn a_thread_of_which_nothing_can_be_read_is_said_to_be_restless() {
        let error = run(Stacks::default().main(&source(|_| None))).unwrap_err();
        assert!(matches!(error, StackError::Restless), "{error}");
    }

    /// It lost its processor in the middle of a call, and shows the same until it goes on: 20 ms later.
    #[test]
    fn a_thread_that_stands_in_the_middle_of_a_call_is_given_time() {
        run(async {
            let begun_at = tokio::time::Instant::now();
            let goes_on_at = begun_at + Duration::from_millis(20);
            let view = Stacks::default()
                .main(&source(move |_| {
                    (tokio::time::Instant::now() >= goes_on_at).then(|| look(&["a", "outer"], 0))
                }))
                .await
                .unwrap();
            assert_eq!(view.frames.len(), 2);
            assert!(begun_at.elapsed() <= Duration::from_millis(31), "{:?}", begun_at.elapsed());
        });
    }

    /// However many have ended since they were counted.
    #[test]
    fn the_pauses_are_bounded_for_all_threads_together() {
        run(async {
            let begun_at = tokio::time::Instant::now();
            let view = Stacks::default().all(&source(|_| None)).await.unwrap();
            assert!(view.threads.is_empty());
            assert_eq!(begun_at.elapsed(), PAUSES.iter().sum::<Duration>());
        });
    }

    #[test]
    fn all_threads_are_told_the_main_thread_first_and_not_without_bound() {
        let view = run(Stacks::default().all(&source(|_| Some(look(&["f"], 0))))).unwrap();
        assert_eq!((view.threads.len(), view.unlisted), (THREADS_MAX, 599 - THREADS_MAX));
        let main: Vec<bool> = view.threads.iter().map(|thread| thread.is_main).collect();
        assert!(main[0] && !main[1]);
    }

    #[test]
    fn a_program_that_cannot_be_read_says_why() {
        run(async {
            let stacks = Stacks::default();
            let told = stacks.main(&OnceLock::from(Err("it has no interpreter".to_owned()))).await;
            assert!(told.unwrap_err().to_string().ends_with("it has no interpreter"));
            assert!(matches!(stacks.main(&OnceLock::new()).await, Err(StackError::CannotLook(_))));
        });
    }
}
