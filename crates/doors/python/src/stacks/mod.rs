//! Reads the Python stacks of this process from beside it: without the interpreter's lock, and without interrupting it.
//!
//! The I/O thread follows the pointers from a thread's state to its frames and their code, in memory that it reads as
//! one reads a file. What runs on changes meanwhile: each thing is known by its type before it is believed, and the
//! frames are looked for a second time after they have been described. What is the same both times was there.
//!
//! # Architecture Invariant
//! Nothing here attaches to the interpreter but [`source`], which a thread of the program calls.
//!
//! # Source
//! K13; decision 0015.

mod code;
mod layout;
mod memory;
mod probe;
mod walk;

use std::collections::hash_map::Entry;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use rustc_hash::FxHashMap;
use southbridge_kernel::debug::{Frame, Look, StackSource, Thread, thread_id};

use crate::ffi;
use code::{Code, Types};
use layout::Layout;
use memory::{Memory, Torn};

/// The state of the main thread, and its ident, once it has been here.
static MAIN: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// What reads the stacks of one process.
#[derive(Clone, Copy)]
struct Reader {
    layout: &'static Layout,
    types: Types,
    /// The thread that made it, from which one gets to the others while it is there.
    maker: (usize, usize),
}

/// Takes note of who the main thread is, if it is this one.
pub fn note(py: Python<'_>) {
    let (state, ident) = ffi::thread_state(py);
    if MAIN[0].load(Ordering::Relaxed) != state && thread_id() == process::id() {
        MAIN[0].store(state, Ordering::Relaxed);
        MAIN[1].store(ident, Ordering::Relaxed);
    }
}

/// What the kernel looks at stacks with, once it has shown that it reads this interpreter rightly.
///
/// # Errors
/// Why stacks cannot be read here.
pub fn source(py: Python<'_>) -> Result<StackSource, String> {
    let reader = probe::reader(py)?;
    Ok(StackSource {
        threads: Box::new(move || reader.threads()),
        look: Box::new(move |thread| reader.look(thread)),
    })
}

impl Reader {
    /// The threads that the interpreter knows.
    fn threads(&self) -> Result<Vec<Thread>, String> {
        let mut memory = open()?;
        let main = (MAIN[0].load(Ordering::Relaxed), MAIN[1].load(Ordering::Relaxed));
        for _ in 0..LOOKS_AT_THREADS {
            for anchor in [main, self.maker] {
                memory.forget();
                if anchor.0 != 0
                    && let Ok(found) = self.neighbours(&mut memory, anchor, main)
                {
                    return Ok(found);
                }
            }
        }
        Err("the threads that it had when the kernel started are no more".to_owned())
    }

    /// `anchor` and all that are linked with it. The newest comes first there.
    fn neighbours(
        &self,
        memory: &mut Memory,
        anchor: (usize, usize),
        main: (usize, usize),
    ) -> Result<Vec<Thread>, Torn> {
        let mut at = anchor.0;
        if memory.word(at.checked_add(self.layout.thread.ident).ok_or(Torn)?)? != anchor.1 {
            return Err(Torn);
        }
        for _ in 0..THREADS_MAX {
            let newer = memory.pointer(at)?;
            if newer == 0 {
                break;
            }
            at = newer;
        }
        let (mut threads, mut before) = (Vec::new(), 0);
        while at != 0 && threads.len() < THREADS_MAX {
            if memory.pointer(at)? != before {
                return Err(Torn);
            }
            threads.push(self.thread(memory, at, main)?);
            (before, at) = (at, memory.pointer(at + 8)?);
        }
        let has_anchor = threads.iter().any(|thread| thread.key == anchor);
        if has_anchor || threads.len() == THREADS_MAX { Ok(threads) } else { Err(Torn) }
    }

    fn thread(&self, memory: &mut Memory, at: usize, main: (usize, usize)) -> Result<Thread, Torn> {
        let key = (at, memory.word(at.checked_add(self.layout.thread.ident).ok_or(Torn)?)?);
        let tid = self.layout.thread.tid.map(|tid| memory.word(at + tid)).transpose()?;
        let tid = tid.and_then(|tid| u32::try_from(tid).ok());
        let is_main = if main.0 == 0 { tid == Some(process::id()) } else { key == main };
        // In a child that was forked off, the interpreter may still have the parent's number of it.
        Ok(Thread { key, tid: if is_main { Some(process::id()) } else { tid }, is_main })
    }

    /// One look at the stack of `thread`.
    fn look(&self, thread: &Thread) -> Result<Option<Look>, String> {
        Ok(self.look_in(&mut open()?, thread).ok())
    }

    fn look_in(&self, memory: &mut Memory, thread: &Thread) -> Result<Look, Torn> {
        let (state, ident) = thread.key;
        let (found, is_cut) = walk::frames(memory, self.layout, self.types, state)?;
        let mut codes = FxHashMap::default();
        let mut frames = Vec::with_capacity(found.len());
        for one in &found {
            let code: &Code = match codes.entry(one.code) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(Code::read(memory, self.layout, self.types, one.code)?),
            };
            frames.push(Frame {
                file: code.file.clone(),
                line: one.line.or_else(|| code.line(one.byte)),
                function: code.function.clone(),
            });
        }
        memory.forget();
        let (again, _) = walk::frames(memory, self.layout, self.types, state)?;
        if memory.word(state + self.layout.thread.ident)? != ident {
            return Err(Torn);
        }
        Ok(Look { moving: walk::moving(&found, &again), frames, is_cut })
    }
}

fn open() -> Result<Memory, String> {
    Memory::of_this_process()
        .map_err(|error| format!("the system does not let the process read /proc/self/mem: {error}"))
}

/// How often the links between threads are followed, which change while threads come and go.
const LOOKS_AT_THREADS: usize = 16;
/// More are not looked for.
const THREADS_MAX: usize = 4096;
