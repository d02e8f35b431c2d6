//! Says what is going on while it goes on: a line that changes on a terminal, and lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Does `work` while a line shows `what` and for how long.
pub async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    showing(work, || what.to_owned()).await
}

/// Does `work` while a line shows what `line` says.
pub async fn showing<T>(work: impl Future<Output = T>, line: impl Fn() -> String) -> T {
    let started = Instant::now();
    let is_terminal = stderr().is_terminal();
    let mut ticks = tokio::time::interval(if is_terminal { REDRAWN } else { REPEATED });
    ticks.tick().await;
    let show = |end: &str| {
        let begin = if is_terminal { "\r\x1b[K" } else { "" };
        // Whoever watches may have gone.
        let _ = write!(stderr(), "{begin}{:6.1} s  {}{end}", started.elapsed().as_secs_f64(), line());
        let _ = stderr().flush();
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                show("\n");
                return done;
            }
            _ = ticks.tick() => show(if is_terminal { "" } else { "\n" }),
        }
    }
}

const REDRAWN: Duration = Duration::from_millis(200);
const REPEATED: Duration = Duration::from_secs(5);
