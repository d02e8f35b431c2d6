//! `GET /bus/v1/results`: what happens, as lines.
//!
//! # Units
//! A heartbeat comes when there was nothing to tell for 15 s: often enough to notice a connection that is no more,
//! and to bring its token up to date.

use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::unfold;

use super::Inside;
use super::answer::{self, Answer};
use super::api::{BusApi, Reading};
use super::failure::Failure;
use super::views::{Happened, ResultLine};

/// The results behind `from`, or from now on.
///
/// # Errors
/// [`Failure`] when `from` is no token.
pub(super) fn results<B: BusApi>(door: &Rc<Inside<B>>, from: Option<&str>) -> Result<Answer, Failure> {
    let reading = door.bus.results(from)?;
    let state = State::Begins(Teller { door: Rc::clone(door), reading });
    Ok(answer::lines(unfold(state, |state| async move {
        match state {
            // At once, so that the caller has a head, and a token, before anything happens.
            State::Begins(teller) => {
                let line = teller.line(Happened::Heartbeat);
                Some((line, State::Goes(teller)))
            }
            State::Goes(teller) => Some(teller.next().await),
            State::Ended => None,
        }
    })))
}

enum State<B> {
    Begins(Teller<B>),
    Goes(Teller<B>),
    Ended,
}

struct Teller<B> {
    door: Rc<Inside<B>>,
    reading: Reading,
}

impl<B: BusApi> Teller<B> {
    async fn next(mut self) -> (Bytes, State<B>) {
        let door = Rc::clone(&self.door);
        tokio::select! {
            biased;
            line = self.reading.lines.next() => match line {
                Some(line) => {
                    self.reading.token.clone_from(&line.token);
                    (self.gather(&line), State::Goes(self))
                }
                None => (self.line(Happened::End), State::Ended),
            },
            () = door.closing.pass() => (self.line(Happened::End), State::Ended),
            () = tokio::time::sleep(HEARTBEAT_EVERY) => (self.line(Happened::Heartbeat), State::Goes(self)),
        }
    }

    /// `line`, and what else is there already: ten thousand deliveries in a second are not ten thousand writes.
    fn gather(&mut self, line: &ResultLine) -> Bytes {
        use futures_util::FutureExt;
        let mut gathered = BytesMut::new();
        write(line, &mut gathered);
        while gathered.len() < GATHERED_BYTES
            && let Some(Some(line)) = self.reading.lines.next().now_or_never()
        {
            self.reading.token.clone_from(&line.token);
            write(&line, &mut gathered);
        }
        gathered.freeze()
    }

    fn line(&self, what: Happened) -> Bytes {
        let mut line = BytesMut::new();
        write(&ResultLine { what, token: self.reading.token.clone() }, &mut line);
        line.freeze()
    }
}

fn write(line: &ResultLine, out: &mut BytesMut) {
    serde_json::to_writer(out.writer(), line).expect("a line has string keys and finite numbers");
    out.put_u8(b'\n');
}

const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// As much as goes out in one write.
const GATHERED_BYTES: usize = 32 * 1024;
