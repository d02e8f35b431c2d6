//! One rendering for all destinations that are sent the same.

use std::collections::VecDeque;

use bytes::Bytes;
use southbridge_words::{Item, Seq, ServerName, WallTime};

use super::body::{body_hash, render};

/// Renders bodies, and remembers the latest: a message to ten thousand destinations is rendered, hashed and made
/// canonical once, and they share its bytes.
#[derive(Debug, Default)]
pub struct Press {
    latest: VecDeque<Printed>,
}

/// A rendered body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// Its bytes.
    pub body: Bytes,
    /// Their [`body_hash`].
    pub hash: u64,
}

#[derive(Debug)]
struct Printed {
    origin_server_ts: WallTime,
    seqs: Vec<Seq>,
    volatile_edus: Bytes,
    rendering: Rendering,
}

impl Press {
    /// As [`render`]; what was rendered a moment ago from the same is not rendered again. All calls are for the
    /// same `origin`, and of one outbox.
    pub fn render<'a, I>(
        &mut self,
        origin: &ServerName,
        origin_server_ts: WallTime,
        items: I,
        volatile_edus: &Bytes,
    ) -> Rendering
    where
        I: IntoIterator<Item = &'a Item>,
        I::IntoIter: Clone,
    {
        let items = items.into_iter();
        let is_same = |printed: &&Printed| {
            printed.origin_server_ts == origin_server_ts
                && printed.volatile_edus == *volatile_edus
                && printed.seqs.iter().copied().eq(items.clone().map(|item| item.seq))
        };
        if let Some(printed) = self.latest.iter().find(is_same) {
            return printed.rendering.clone();
        }
        let body = render(origin, origin_server_ts, items.clone(), volatile_edus);
        let rendering = Rendering { hash: body_hash(&body), body };
        self.keep(Printed {
            origin_server_ts,
            seqs: items.map(|item| item.seq).collect(),
            volatile_edus: volatile_edus.clone(),
            rendering: rendering.clone(),
        });
        rendering
    }

    /// Forgets everything: nobody is sending.
    pub fn clear(&mut self) {
        self.latest.clear();
    }

    fn keep(&mut self, printed: Printed) {
        self.latest.truncate(LATEST_MAX - 1);
        self.latest.push_front(printed);
        let mut bytes = 0;
        let is_within = |printed: &&Printed| {
            bytes += printed.rendering.body.len();
            bytes <= BYTES_MAX
        };
        self.latest.truncate(self.latest.iter().take_while(is_within).count().max(1));
    }
}

// A fan-out is of one kind or two at a time, with typing along, and without; destinations that are behind send a few
// different ones at a time.
const LATEST_MAX: usize = 16;
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use southbridge_words::ItemKind;

    use super::*;

    fn item(seq: u64) -> Item {
        let bytes = Bytes::from(format!("{{\"n\":{seq}}}"));
        Item { seq: Seq(seq), kind: ItemKind::Pdu, bytes, accepted_at: WallTime::default() }
    }

    /// Two destinations with the same items share one body; with others, at another time or with typing along they
    /// do not, and each is as if it had been rendered alone.
    #[test]
    fn only_what_is_the_same_is_shared() {
        let origin = ServerName::parse("a.example").unwrap();
        let mut press = Press::default();
        let typing = Bytes::from_static(b"{\"edu_type\":\"m.typing\"}");
        let at = WallTime::from_unix_millis;
        let stories: [(u64, &[u64], &Bytes); 7] = [
            (1, &[1, 2], &Bytes::new()),
            (1, &[1, 2], &typing),
            (1, &[1, 3], &Bytes::new()),
            (1, &[1], &Bytes::new()),
            (2, &[1, 2], &Bytes::new()),
            (1, &[], &typing),
            (1, &[1, 2], &Bytes::new()),
        ];
        for (ts, seqs, edus) in stories {
            let items: Vec<Item> = seqs.iter().map(|seq| item(*seq)).collect();
            let first = press.render(&origin, at(ts), &items, edus);
            let second = press.render(&origin, at(ts), &items, edus);
            assert_eq!(first.body.as_ptr(), second.body.as_ptr(), "shared");
            assert_eq!(first.body, render(&origin, at(ts), &items, edus));
            assert!(press.latest.len() <= LATEST_MAX);
        }
    }
}
