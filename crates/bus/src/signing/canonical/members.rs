//! Brings the members of objects into order.
//!
//! Members are written as they come. Those of an object that came in order, as most do that went through a
//! canonicaliser before, stay where they are; otherwise they are moved once, when the object ends. With the depth
//! bounded, so is the work: at worst every byte is moved once for each level above it.

use std::cmp::Ordering;

/// The members of all objects that are open.
#[derive(Default)]
pub(super) struct Members {
    spans: Vec<Span>,
    /// Whether the innermost open object is in order so far.
    ordered: bool,
    moved: Vec<u8>,
}

/// Where a member lies in what has been written: `"key":value,`.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    key_end: usize,
    end: usize,
}

/// An object that was opened, and what is to be restored when it ends.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    first: usize,
    outer_ordered: bool,
}

impl Members {
    pub(super) fn open(&mut self) -> Opened {
        let opened = Opened { first: self.spans.len(), outer_ordered: self.ordered };
        self.ordered = true;
        opened
    }

    /// Notes the member of the innermost object that ends where `out` ends.
    pub(super) fn add(&mut self, start: usize, key_end: usize, out: &[u8]) {
        let span = Span { start, key_end, end: out.len() };
        // The member before this one ends where it starts, if it belongs to the same object.
        if let Some(before) = self.spans.last()
            && before.end == start
        {
            self.ordered &= compare(before, &span, out) == Ordering::Less;
        }
        self.spans.push(span);
    }

    /// Ends the innermost object, whose members begin at `start`: in order, each key once, no comma at the end.
    pub(super) fn close(&mut self, opened: Opened, start: usize, out: &mut Vec<u8>) {
        if !self.ordered {
            self.reorder(opened.first, start, out);
        }
        if self.spans.len() > opened.first {
            out.pop();
        }
        self.spans.truncate(opened.first);
        self.ordered = opened.outer_ordered;
    }

    fn reorder(&mut self, first: usize, start: usize, out: &mut Vec<u8>) {
        let spans = &mut self.spans[first..];
        spans.sort_by(|a, b| compare(a, b, out));
        self.moved.clear();
        for (index, span) in spans.iter().enumerate() {
            // The sort is stable: of equal keys the last one written comes last, and it counts.
            let again = spans.get(index + 1).is_some_and(|next| compare(span, next, out) == Ordering::Equal);
            if !again {
                self.moved.extend_from_slice(&out[span.start..span.end]);
            }
        }
        out.truncate(start);
        out.extend_from_slice(&self.moved);
    }
}

/// By code points, which is how UTF-8 sorts, too.
fn compare(a: &Span, b: &Span, out: &[u8]) -> Ordering {
    let (a, b) = (&out[a.start + 1..a.key_end - 1], &out[b.start + 1..b.key_end - 1]);
    if a.contains(&b'\\') || b.contains(&b'\\') { unescaped(a).cmp(unescaped(b)) } else { a.cmp(b) }
}

/// The bytes that a key in canonical form stands for.
fn unescaped(key: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = key;
    std::iter::from_fn(move || {
        let (byte, length) = match *rest {
            [] => return None,
            [b'\\', b'u', _, _, high, low, ..] => (hex(high) << 4 | hex(low), 6),
            [b'\\', short, ..] => (unescape(short), 2),
            [byte, ..] => (byte, 1),
        };
        rest = &rest[length..];
        Some(byte)
    })
}

fn unescape(short: u8) -> u8 {
    match short {
        b'b' => 0x8,
        b'f' => 0xc,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        itself => itself,
    }
}

fn hex(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 }
}
