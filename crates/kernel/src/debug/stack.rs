//! The stack of the main thread: it is interrupted, and writes it into a pipe itself.
//!
//! Nobody else can read it: the thread may be in the midst of changing it. How a thread is interrupted, and what it
//! writes, is the door's business; here is the reading, its bounds, and taking the text apart.
//!
//! # Units
//! An answer takes at most [`STACK_MAX`] and [`BYTES_MAX`]; one is asked for at a time.
//!
//! # Source
//! DESIGN decision 12. The text is that of CPython's `faulthandler` (`Python/traceback.c`, `dump_frame`).

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

use serde::Serialize;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

/// How the main thread is asked for its stack.
pub struct StackSource {
    /// Where it arrives. Non-blocking.
    pub pipe: OwnedFd,
    /// Interrupts the main thread. It then writes its stack, and behind it [`end_mark`] of the number; or the reason why
    /// it will not.
    pub ask: Box<dyn Fn(u32) -> Result<(), String> + Send + Sync>,
}

/// The stack, as `/debug/stack` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct StackView {
    /// What the thread does, as the system sees it: `running`, `sleeping`, `waiting for a device` and so on.
    pub state: &'static str,
    /// Microseconds from asking to the end of the answer.
    pub took_us: u64,
    /// Where it is, the innermost first. Empty when it runs no Python.
    pub frames: Vec<Frame>,
    /// Whether there were more frames than are told.
    pub is_cut: bool,
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
    /// The main thread cannot be asked.
    #[error("the main thread cannot be asked for its stack: {0}")]
    CannotAsk(String),
    /// It does not answer.
    #[error(
        "the main thread has not answered within {STACK_MAX:?}; the system says that it is {state}. It may have been \
         stopped, wait for a device, or run no Python"
    )]
    Silent {
        /// What it does, as the system sees it.
        state: &'static str,
    },
    /// The pipe broke.
    #[error("the stack cannot be read")]
    Broken(#[from] io::Error),
}

/// What the main thread writes behind its stack: the end of the answer to `number`.
pub fn end_mark(number: u32) -> [u8; 10] {
    let mut mark = *b"\0........\n";
    for (place, digit) in mark[1..9].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (28 - 4 * place) & 15) as usize];
    }
    mark
}

/// Asks for stacks, one at a time.
#[derive(Default)]
pub(super) struct Stacks {
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    receiver: Option<pipe::Receiver>,
    number: u32,
}

impl Stacks {
    /// Asks the main thread for its stack.
    pub(super) async fn ask(
        &self,
        source: &OnceLock<Result<StackSource, String>>,
    ) -> Result<StackView, StackError> {
        let source = match source.get() {
            None => return Err(StackError::CannotAsk("the program is just starting; ask again".to_owned())),
            Some(Err(reason)) => return Err(StackError::CannotAsk(reason.clone())),
            Some(Ok(source)) => source,
        };
        let mut turn = self.turn.lock().await;
        if turn.receiver.is_none() {
            turn.receiver = Some(pipe::Receiver::from_owned_fd(source.pipe.try_clone()?)?);
        }
        turn.number = turn.number.wrapping_add(1);
        let number = turn.number;
        let Some(receiver) = &mut turn.receiver else { return Err(io::Error::other("no pipe").into()) };
        discard(receiver);
        let state = state_of_main();
        let asked_at = tokio::time::Instant::now();
        (source.ask)(number).map_err(StackError::CannotAsk)?;
        let read = tokio::time::timeout(STACK_MAX, read_answer(receiver, number)).await;
        let text = read.map_err(|_| StackError::Silent { state: state_of_main() })??;
        let took_us = u64::try_from(asked_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (frames, is_cut) = frames_of(&String::from_utf8_lossy(&text));
        Ok(StackView { state, took_us, frames, is_cut })
    }
}

/// Takes out what a thread that answered too late has written.
fn discard(receiver: &pipe::Receiver) {
    let mut waste = [0; 4096];
    while matches!(receiver.try_read(&mut waste), Ok(count) if count > 0) {}
}

async fn read_answer(receiver: &pipe::Receiver, number: u32) -> io::Result<Vec<u8>> {
    let end = end_mark(number);
    let mut answer = Vec::new();
    loop {
        receiver.readable().await?;
        let mut piece = [0; 4096];
        match receiver.try_read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if let Some(rest) = answer.strip_suffix(&end) {
            // What stands before the end of an earlier answer came too late for whoever had asked.
            let begin =
                rest.iter().rposition(|byte| *byte == 0).map_or(0, |at| (at + end.len()).min(rest.len()));
            return Ok(rest[begin..].to_vec());
        }
        if answer.len() > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stack does not end"));
        }
    }
}

/// The frames of what faulthandler writes, and whether it left some out.
fn frames_of(text: &str) -> (Vec<Frame>, bool) {
    let frames = text.lines().filter_map(frame_of).collect();
    (frames, text.lines().any(|line| line.trim_start() == "..."))
}

fn frame_of(line: &str) -> Option<Frame> {
    let rest = line.trim_start().strip_prefix("File ")?;
    let (file, rest) = rest.rsplit_once(", line ")?;
    let (number, function) = rest.split_once(" in ").unwrap_or((rest, "???"));
    Some(Frame {
        file: file.trim_matches('"').to_owned(),
        line: number.parse().ok(),
        function: function.to_owned(),
    })
}

/// What the system says of the main thread (proc_pid_stat(5)).
fn state_of_main() -> &'static str {
    let pid = std::process::id();
    let stat = fs::read_to_string(format!("/proc/self/task/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('R') => "running",
        Some('S') => "sleeping",
        Some('D') => "waiting for a device",
        Some('T' | 't') => "stopped",
        Some('Z' | 'X') => "dead",
        _ => "in an unknown state",
    }
}

impl fmt::Debug for StackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackSource").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// How long the main thread may take. It answers within a millisecond, as a rule, unless the machine is very busy.
pub const STACK_MAX: Duration = Duration::from_secs(2);
/// faulthandler tells a hundred frames, of a kilobyte at most.
const BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &str = "Stack (most recent call first):\n  File \"/a/b \\xe9.py\", line 12 in load, line 3\n  \
                        File \"<string>\", line ??? in <module>\n  ...\n";

    /// A thread that answers at once, or as `answer` says.
    fn source(
        answer: impl Fn(u32, &mut io::PipeWriter) + Send + Sync + 'static,
    ) -> OnceLock<Result<StackSource, String>> {
        let (reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).unwrap();
        let writer = std::sync::Mutex::new(writer);
        let ask = Box::new(move |number| {
            answer(number, &mut writer.lock().unwrap());
            Ok(())
        });
        OnceLock::from(Ok(StackSource { pipe: reader.into(), ask }))
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn a_stack_is_taken_apart() {
        let (frames, is_cut) = frames_of(TEXT);
        let told: Vec<_> =
            frames.iter().map(|it| (it.file.as_str(), it.line, it.function.as_str())).collect();
        assert_eq!(told[1], ("<string>", None, "<module>"));
        assert_eq!(frames.len(), 2);
        assert!(is_cut);
        assert_eq!(frames_of("no stack at all\n"), (Vec::new(), false));
    }

    #[test]
    fn a_main_thread_that_answers_is_heard() {
        let source = source(|number, pipe| {
            pipe.write_all(TEXT.as_bytes()).unwrap();
            pipe.write_all(&end_mark(number)).unwrap();
        });
        let stacks = Stacks::default();
        run(async {
            for _ in 0..3 {
                assert_eq!(stacks.ask(&source).await.unwrap().frames.len(), 2);
            }
        });
    }

    /// The thread is stopped. Whoever asks is told so in time; and when the answer comes after all, nobody takes it for
    /// the answer to another question.
    #[test]
    fn an_answer_that_comes_too_late_is_nobodys() {
        let late = std::sync::Mutex::new(None);
        let source = source(move |number, pipe| {
            let mut late = late.lock().unwrap();
            let Some(before) = late.take() else {
                *late = Some(number);
                return;
            };
            for number in [before, number] {
                pipe.write_all(TEXT.as_bytes()).unwrap();
                pipe.write_all(&end_mark(number)).unwrap();
            }
        });
        let stacks = Stacks::default();
        run(async {
            assert!(matches!(stacks.ask(&source).await, Err(StackError::Silent { .. })));
            assert_eq!(stacks.ask(&source).await.unwrap().frames.len(), 2);
        });
    }

    #[test]
    fn a_stack_without_end_is_not_read_to_its_end() {
        let source = source(|_, pipe| {
            let mut pipe = pipe.try_clone().unwrap();
            std::thread::spawn(move || while pipe.write_all(&[b'x'; 4096]).is_ok() {});
        });
        run(async {
            let stacks = Stacks::default();
            let error = stacks.ask(&source).await.unwrap_err();
            assert!(matches!(error, StackError::Broken(_) | StackError::Silent { .. }), "{error}");
        });
    }

    #[test]
    fn a_program_that_cannot_be_asked_says_why() {
        run(async {
            let stacks = Stacks::default();
            let told = stacks.ask(&OnceLock::from(Err("it has no interpreter".to_owned()))).await;
            assert!(told.unwrap_err().to_string().ends_with("it has no interpreter"));
            assert!(matches!(stacks.ask(&OnceLock::new()).await, Err(StackError::CannotAsk(_))));
        });
    }
}
