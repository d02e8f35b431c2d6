//! Live progress while the demo works; plain lines where nobody watches a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Tells what is going on, on standard error.
pub struct Progress {
    is_terminal: bool,
}

/// The progress of one part.
#[derive(Clone)]
pub struct Part {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    /// Progress for a terminal, or for a file.
    pub fn new(is_terminal: bool) -> Self {
        Self { is_terminal }
    }

    /// Says `what` in a line of its own.
    pub fn say(&self, what: &str) {
        eprintln!("{what}");
    }

    /// Begins a part of `steps`.
    pub fn begin(&self, title: &'static str, steps: usize) -> Part {
        let target =
            if self.is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{prefix:14} {bar:40} {pos}/{len} {elapsed_precise}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::with_draw_target(Some(steps as u64), target).with_style(style).with_prefix(title);
        bar.enable_steady_tick(Duration::from_millis(100));
        if !self.is_terminal {
            eprintln!("{title}: {steps} to do");
        }
        Part { bar, is_terminal: self.is_terminal }
    }

    /// Prints a result to standard output, on lines of its own.
    pub fn print(&self, result: &str) {
        println!("{result}");
    }

    /// Nothing more is to come.
    pub fn finish(&self) {
        eprintln!();
    }
}

impl Part {
    /// So many steps are done.
    pub fn reach(&self, steps: usize) {
        self.bar.set_position(steps as u64);
    }

    /// The part is done; its result takes the place of its bar.
    pub fn finish(&self) {
        let (done, all, took) = (self.bar.position(), self.bar.length().unwrap_or(0), self.bar.elapsed());
        if self.is_terminal {
            self.bar.finish_and_clear();
        } else {
            eprintln!("  {done}/{all} in {:.2} s", took.as_secs_f64());
        }
    }
}
