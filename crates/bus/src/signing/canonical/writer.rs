//! Reads JSON and writes it canonically, in one pass.

use super::members::Members;
use super::number::{Number, write_number};
use super::{CanonicalError, DEPTH_MAX, Numbers};

/// One text on its way to its canonical form.
pub(super) struct Writer<'t> {
    text: &'t [u8],
    at: usize,
    out: Vec<u8>,
    members: Members,
    numbers: Numbers,
    omitted: &'t [&'t str],
}

impl<'t> Writer<'t> {
    pub(super) fn new(
        text: &'t [u8],
        numbers: Numbers,
        omitted: &'t [&'t str],
    ) -> Result<Self, CanonicalError> {
        std::str::from_utf8(text).map_err(|error| CanonicalError::NotUtf8 { at: error.valid_up_to() })?;
        let out = Vec::with_capacity(text.len());
        Ok(Self { text, at: 0, out, members: Members::default(), numbers, omitted })
    }

    pub(super) fn write(mut self) -> Result<Vec<u8>, CanonicalError> {
        self.skip_space();
        self.value(0)?;
        self.skip_space();
        if self.at == self.text.len() { Ok(self.out) } else { Err(self.syntax()) }
    }

    fn value(&mut self, depth: u32) -> Result<(), CanonicalError> {
        match self.peek() {
            Some(b'{') => self.object(self.deeper(depth)?),
            Some(b'[') => self.array(self.deeper(depth)?),
            Some(b'"') => self.string(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.syntax()),
        }
    }

    fn deeper(&self, depth: u32) -> Result<u32, CanonicalError> {
        if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(CanonicalError::TooDeep { depth_max: DEPTH_MAX }) }
    }

    fn object(&mut self, depth: u32) -> Result<(), CanonicalError> {
        self.step();
        let opened = self.members.open();
        let start = self.out.len();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            while self.member(depth)? {}
        }
        self.members.close(opened, start, &mut self.out);
        self.out.push(b'}');
        Ok(())
    }

    /// One member, with a comma after it; whether there are more.
    fn member(&mut self, depth: u32) -> Result<bool, CanonicalError> {
        let start = self.out.len();
        if self.peek() != Some(b'"') {
            return Err(self.syntax());
        }
        self.string()?;
        let key_end = self.out.len();
        self.skip_space();
        self.expect(b':')?;
        self.out.push(b':');
        self.skip_space();
        self.value(depth)?;
        self.out.push(b',');
        if depth == 1 && self.is_omitted(start, key_end) {
            self.out.truncate(start);
        } else {
            self.members.add(start, key_end, &self.out);
        }
        self.more(b'}')
    }

    /// Keys that need an escape are never among those left out.
    fn is_omitted(&self, start: usize, key_end: usize) -> bool {
        let key = &self.out[start + 1..key_end - 1];
        self.omitted.iter().any(|omitted| omitted.as_bytes() == key)
    }

    fn array(&mut self, depth: u32) -> Result<(), CanonicalError> {
        self.step();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.step();
            return Ok(());
        }
        loop {
            self.value(depth)?;
            if !self.more(b']')? {
                self.out.push(b']');
                return Ok(());
            }
            self.out.push(b',');
        }
    }

    /// Whether a comma follows, and then stands before what comes after it; otherwise `end` must.
    fn more(&mut self, end: u8) -> Result<bool, CanonicalError> {
        self.skip_space();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.skip_space();
            return Ok(true);
        }
        self.expect(end).map(|()| false)
    }

    fn string(&mut self) -> Result<(), CanonicalError> {
        self.step();
        loop {
            let rest = &self.text[self.at..];
            let run = rest.iter().position(|byte| STOPS[usize::from(*byte)]).unwrap_or(rest.len());
            self.out.extend_from_slice(&rest[..run]);
            self.at += run;
            match self.peek() {
                Some(b'"') => {
                    self.step();
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), CanonicalError> {
        let escaped = self.text.get(self.at + 1).copied();
        match escaped {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.out.extend_from_slice(&self.text[self.at..self.at + 2]);
                self.at += 2;
            }
            Some(b'/') => {
                self.out.push(b'/');
                self.at += 2;
            }
            Some(b'u') => {
                let character = self.code_point()?;
                write_character(character, &mut self.out);
            }
            _ => return Err(self.syntax()),
        }
        Ok(())
    }

    /// `\uXXXX`, or two of them that make one character.
    fn code_point(&mut self) -> Result<char, CanonicalError> {
        let start = self.at;
        let lone = CanonicalError::LoneSurrogate { at: start };
        let first = self.code_unit()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first).ok_or(lone);
        }
        if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(lone);
        }
        let second = self.code_unit()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(lone)
    }

    fn code_unit(&mut self) -> Result<u32, CanonicalError> {
        let digits = self.text.get(self.at + 2..self.at + 6).ok_or_else(|| self.syntax())?;
        let unit = digits
            .iter()
            .try_fold(0, |unit, digit| char::from(*digit).to_digit(16).map(|digit| unit << 4 | digit));
        let unit = unit.ok_or_else(|| self.syntax())?;
        self.at += 6;
        Ok(unit)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), CanonicalError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.syntax());
        }
        self.at += word.len();
        self.out.extend_from_slice(word);
        Ok(())
    }

    fn number(&mut self) -> Result<(), CanonicalError> {
        let number = Number::read(&self.text[self.at..]).ok_or_else(|| self.syntax())?;
        write_number(number, self.numbers, &mut self.out)
            .map_err(|problem| CanonicalError::Number { at: self.at, problem })?;
        self.at += number.text.len();
        Ok(())
    }

    /// Takes one byte over as it is.
    fn step(&mut self) {
        self.out.push(self.text[self.at]);
        self.at += 1;
    }

    fn expect(&mut self, byte: u8) -> Result<(), CanonicalError> {
        if self.peek() != Some(byte) {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn syntax(&self) -> CanonicalError {
        CanonicalError::Syntax { at: self.at }
    }
}

/// Only quote, backslash and control characters are escaped, with the short escape where there is one.
fn write_character(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\0'..='\u{1f}' => {
            let code = u32::from(character) as usize;
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15]]);
            return;
        }
        _ => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The bytes at which copying a string stops.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        stops[control] = true;
        control += 1;
    }
    stops[b'"' as usize] = true;
    stops[b'\\' as usize] = true;
    stops
};
