//! What a code object says of itself: its file, its function, and which line an instruction is of.
//!
//! # Source
//! CPython `Objects/codeobject.c` (`advance` of 3.10), `Objects/locations.md` (3.11).

use super::layout::{Layout, LinesForm};
use super::memory::{Memory, Torn};

/// The types of what is read, by which it is known for what it is.
#[derive(Clone, Copy, Debug)]
pub struct Types {
    pub code: usize,
    pub text: usize,
    pub bytes: usize,
}

/// A code object, copied.
pub struct Code {
    pub file: String,
    pub function: String,
    line_first: i32,
    lines: Vec<u8>,
    form: LinesForm,
}

impl Code {
    /// The one at `at`, which is known to be a code object.
    pub fn read(memory: &mut Memory, layout: &Layout, types: Types, at: usize) -> Result<Self, Torn> {
        let code = &layout.code;
        let (file, function) = (memory.pointer(at + code.file)?, memory.pointer(at + code.function)?);
        let lines = memory.pointer(at + code.lines)?;
        Ok(Self {
            file: text(memory, layout, types, file)?,
            function: text(memory, layout, types, function)?,
            line_first: memory.number(at + code.line_first)?,
            lines: bytes(memory, types, lines)?,
            form: code.lines_form,
        })
    }

    /// The line of the instruction that begins with byte `at` of the code.
    pub fn line(&self, at: i64) -> Option<u32> {
        let line = match self.form {
            LinesForm::Pairs => line_of_pairs(&self.lines, self.line_first, at),
            LinesForm::Locations => line_of_locations(&self.lines, self.line_first, at),
        };
        line.and_then(|line| u32::try_from(line).ok())
    }
}

/// What the type of the object at `at` is.
pub fn type_of(memory: &mut Memory, at: usize) -> Result<usize, Torn> {
    memory.word(at.checked_add(8).ok_or(Torn)?)
}

/// The length of what has one, bounded.
fn length(memory: &mut Memory, at: usize, max: usize) -> Result<usize, Torn> {
    let length = memory.word(at + 16)?;
    if length <= max { Ok(length) } else { Err(Torn) }
}

fn bytes(memory: &mut Memory, types: Types, at: usize) -> Result<Vec<u8>, Torn> {
    if type_of(memory, at)? != types.bytes {
        return Err(Torn);
    }
    let length = length(memory, at, LINES_BYTES_MAX)?;
    memory.bytes(at + 32, length)
}

/// A string: one, two or four bytes for each character. One of a subclass is not read.
fn text(memory: &mut Memory, layout: &Layout, types: Types, at: usize) -> Result<String, Torn> {
    if type_of(memory, at)? != types.text {
        return Err(Torn);
    }
    let length = length(memory, at, TEXT_MAX)?;
    let state = memory.number(at + 32)?;
    let (kind, is_compact, is_ascii) = (state >> 2 & 7, state >> 5 & 1 == 1, state >> 6 & 1 == 1);
    if !is_compact {
        return Err(Torn);
    }
    let begin = at + if is_ascii { layout.characters.0 } else { layout.characters.1 };
    let character = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    Ok(match kind {
        1 => memory.bytes(begin, length)?.into_iter().map(char::from).collect(),
        2 => memory
            .bytes(begin, length * 2)?
            .chunks_exact(2)
            .map(|two| character(u32::from(u16::from_ne_bytes([two[0], two[1]]))))
            .collect(),
        4 => memory
            .bytes(begin, length * 4)?
            .chunks_exact(4)
            .map(|four| character(u32::from_ne_bytes([four[0], four[1], four[2], four[3]])))
            .collect(),
        _ => return Err(Torn),
    })
}

/// Pairs: how many bytes of code, and how many lines further. -128 is code that is of no line.
fn line_of_pairs(pairs: &[u8], first: i32, at: i64) -> Option<i32> {
    let (mut end, mut line) = (0, first);
    for pair in pairs.chunks_exact(2) {
        end += i64::from(pair[0]);
        let further = pair[1].cast_signed();
        if further != i8::MIN {
            line = line.checked_add(i32::from(further))?;
        }
        if at < end {
            return (further != i8::MIN).then_some(line);
        }
    }
    None
}

/// Entries that begin with a byte whose highest bit is set: a form, and how many instructions. What follows it depends
/// on the form, and its first number may be how many lines further.
fn line_of_locations(locations: &[u8], first: i32, at: i64) -> Option<i32> {
    let (mut end, mut line) = (0, first);
    let mut rest = locations;
    while let [head, body @ ..] = rest {
        let (form, instructions) = (head >> 3 & 15, i64::from(head & 7) + 1);
        end += instructions * 2;
        let further = match form {
            13 | 14 => signed_number(body),
            10..=12 => i32::from(form) - 10,
            _ => 0,
        };
        line = line.checked_add(further)?;
        if at < end {
            return (form != 15).then_some(line);
        }
        let size = body.iter().position(|byte| byte & 0x80 != 0).unwrap_or(body.len());
        rest = &body[size..];
    }
    None
}

/// Six bits in each byte, the lowest first; the lowest bit of all is the sign.
fn signed_number(bytes: &[u8]) -> i32 {
    let mut number = 0_u32;
    for (place, byte) in bytes.iter().take(5).enumerate() {
        number |= u32::from(byte & 63) << (6 * place);
        if byte & 64 == 0 {
            break;
        }
    }
    let size = (number >> 1).cast_signed();
    if number & 1 == 1 { -size } else { size }
}

/// The longest path there is.
const TEXT_MAX: usize = 4096;
/// Modules that a program has written are this long.
const LINES_BYTES_MAX: usize = 1024 * 1024;
