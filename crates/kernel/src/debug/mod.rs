//! The debug socket: a program that holds a kernel is asked what it is doing, by its user, also while it hangs.
//!
//! A unix socket for each process, in a directory of this user alone, served by the I/O thread. It has the pages of the
//! admin socket, and four more:
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /debug/process` | which process this is, its ports and how many submissions wait at each |
//! | `GET /debug/marks` | the marks that the program is in |
//! | `GET /debug/stack` | the stack of the main thread |
//! | `GET /debug/stacks` | those of all threads |
//!
//! # Architecture Invariant
//! What the program says (marks) is read out of atomics, and its stacks are read from beside it: nothing that answers here
//! waits for the program.
//!
//! # Source
//! K13; DESIGN decision 12.

mod house;
mod marks;
mod process;
mod stack;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use crate::admin::{Admin, Readiness};
use crate::kernel::Kernel;
use crate::net::{ListenAddress, ListenOptions, Listener};

pub use house::{DebugError, DebugSocket, directories, directory, sockets};
pub use marks::{MarkId, MarkView, Marks, NAME_BYTES_MAX};
pub use process::{ProcessView, thread_id};
pub use stack::{Frame, Look, LookAt, StackError, StackSource, StackView, StacksView, Thread, Threads};

/// What a program is asked about.
#[derive(Clone, Default)]
pub struct DebugConfig {
    /// The directory of the socket.
    pub directory: PathBuf,
    /// What else there is to say of the program: `("python", "3.11.7")`.
    pub facts: Vec<(&'static str, String)>,
    /// Its marks.
    pub marks: Arc<Marks>,
    /// How the stacks of its threads are read, or why that cannot be done; empty until it is known.
    pub stack: Arc<OnceLock<Result<StackSource, String>>>,
}

/// What the pages show.
pub(crate) struct Debug {
    config: DebugConfig,
    started_at: southbridge_words::Instant,
    stacks: stack::Stacks,
}

impl Debug {
    pub(crate) fn marks(&self) -> &Marks {
        &self.config.marks
    }

    pub(crate) fn process(&self, kernel: &Kernel) -> ProcessView {
        process::view(&self.config, kernel, self.started_at)
    }

    /// The stack of the main thread.
    pub(crate) async fn stack(&self) -> Result<StackView, StackError> {
        self.stacks.main(&self.config.stack).await
    }

    /// Those of all threads.
    pub(crate) async fn stacks(&self) -> Result<StacksView, StackError> {
        self.stacks.all(&self.config.stack).await
    }
}

/// Opens the debug socket of this process, says where it lies, and serves it on the I/O thread for as long as the kernel is there. The
/// socket is removed at the end. Must be called on the I/O thread.
///
/// # Errors
/// [`DebugError`] when the directory is not this user's alone, or cannot be used.
pub fn open(kernel: &Kernel, config: DebugConfig) -> Result<PathBuf, DebugError> {
    let path = house::path_of_this(&config.directory, kernel.clock().wall())?;
    let options = ListenOptions { unix_mode: 0o600, backlog: BACKLOG, ..ListenOptions::default() };
    let listener = Listener::bind(&ListenAddress::Unix(path.clone()), &options)?;
    let file = Removed(path.clone());
    let debug = Debug { config, started_at: kernel.clock().now(), stacks: stack::Stacks::default() };
    let readiness = Readiness::default();
    readiness.set(true);
    let uid = rustix::process::geteuid().as_raw();
    let admin = Admin::new(kernel.clone(), readiness, Vec::new()).for_user(uid).with_debug(Rc::new(debug));
    tokio::task::spawn_local(async move {
        let _file = file;
        admin.serve(&listener).await;
    });
    Ok(path)
}

/// The file of a socket, which goes with its kernel.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}

/// Those who ask while the I/O thread is busy with others.
const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests;
