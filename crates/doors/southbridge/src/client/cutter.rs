//! Finds where the content of a part ends, in a body that comes in pieces.
//!
//! Everything from the first likeness of a delimiter on is left to whoever reads parts, whether it turns out to be one or
//! not: that reader has the last word on what belongs to the content.
//!
//! # Source
//! RFC 2046 §5.1.1. A delimiter has one carriage return, at its beginning, so that where one breaks off none has begun.

use bytes::Bytes;

/// Cuts the content off what follows it.
#[derive(Debug)]
pub struct Cutter {
    /// Empty when there is none, and all is content.
    delimiter: Bytes,
    /// How much of the delimiter what came so far ends with.
    held: usize,
}

/// A piece, cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Of what came before, and is content after all.
    pub before: Bytes,
    /// Content.
    pub content: Bytes,
    /// The delimiter, and whatever came behind it.
    pub rest: Option<Bytes>,
}

impl Cutter {
    /// Looks for `delimiter`, which begins with its line end; for nothing where that is empty.
    pub fn new(delimiter: Bytes) -> Self {
        Self { delimiter, held: 0 }
    }

    /// Cuts what comes next.
    pub fn cut(&mut self, piece: Bytes) -> Cut {
        if self.delimiter.is_empty() {
            return Cut { content: piece, ..Cut::default() };
        }
        let mut before = Bytes::new();
        if self.held > 0 {
            let wanted = &self.delimiter[self.held..];
            let like = wanted.iter().zip(&piece).take_while(|(one, other)| one == other).count();
            if like == wanted.len() {
                self.held = 0;
                let rest = [&self.delimiter, &piece[like..]].concat().into();
                return Cut { rest: Some(rest), ..Cut::default() };
            }
            if like == piece.len() {
                self.held += like;
                return Cut::default();
            }
            before = self.finish();
        }
        if let Some(at) = memchr::memmem::find(&piece, &self.delimiter) {
            return Cut { before, content: piece.slice(..at), rest: Some(piece.slice(at..)) };
        }
        let reach = piece.len().saturating_sub(self.delimiter.len() - 1);
        let begins_at = memchr::memrchr(b'\r', &piece[reach..]).map(|at| reach + at);
        let begins_at = begins_at.filter(|at| self.delimiter.starts_with(&piece[*at..]));
        let end = begins_at.unwrap_or(piece.len());
        self.held = piece.len() - end;
        Cut { before, content: piece.slice(..end), rest: None }
    }

    /// Nothing more comes: what was held is content.
    pub fn finish(&mut self) -> Bytes {
        self.delimiter.slice(..std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `body` into pieces at `cuts`, and those where the delimiter is.
    fn cut(body: &'static [u8], cuts: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let mut cutter = Cutter::new(Bytes::from_static(b"\r\n--bound"));
        let (mut content, mut rest) = (Vec::new(), Vec::new());
        let mut from = 0;
        for to in cuts.iter().copied().chain([body.len()]) {
            let piece = Bytes::from_static(&body[from..to]);
            from = to;
            if !rest.is_empty() {
                rest.extend_from_slice(&piece);
                continue;
            }
            let cut = cutter.cut(piece);
            content.extend_from_slice(&cut.before);
            content.extend_from_slice(&cut.content);
            rest.extend(cut.rest.into_iter().flatten());
        }
        content.extend_from_slice(&cutter.finish());
        (content, rest)
    }

    #[test]
    fn content_ends_at_the_first_likeness_of_a_delimiter_wherever_the_wire_cuts_it() {
        let bodies: [(&[u8], &[u8]); 5] = [
            (b"a file", b"\r\n--bound--\r\n"),
            (b"", b"\r\n--bound--"),
            (b"\r\n\r\n--boun\r\r\n--bou\r\n-\r", b"\r\n--boundary, and not the end"),
            (b"nothing ends it\r\n--boun", b""),
            (b"\r\n--bo\r\n--bo", b"\r\n--bound\r\nLocation: x\r\n\r\n"),
        ];
        for (content, rest) in bodies {
            let body: &'static [u8] = [content, rest].concat().leak();
            for first in 0..=body.len() {
                for second in first..=body.len() {
                    let (kept, left) = cut(body, &[first, second]);
                    assert_eq!((&kept[..], &left[..]), (content, rest), "cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn without_a_delimiter_all_is_content() {
        let mut cutter = Cutter::new(Bytes::new());
        let piece = Bytes::from_static(b"\r\n--");
        assert_eq!(cutter.cut(piece.clone()), Cut { content: piece, ..Cut::default() });
        assert!(cutter.finish().is_empty());
    }
}
