//! From a thread to its frames, from the innermost outwards.
//!
//! # Source
//! CPython `Include/internal/pycore_frame.h` (`_PyFrame_IsIncomplete`), `Include/cpython/frameobject.h`
//! (`PyFrameState`), `Python/traceback.c` (`dump_traceback`).

use super::code::{Types, type_of};
use super::layout::{Layout, Place};
use super::memory::{Memory, Torn};

/// A frame, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    at: usize,
    pub code: usize,
    /// Which byte of the code it is at.
    pub byte: i64,
    /// Its line, if somebody traces it.
    pub line: Option<u32>,
}

impl Found {
    /// Whether it is the same call.
    fn is_same_call(&self, other: &Self) -> bool {
        (self.at, self.code) == (other.at, other.code)
    }
}

/// The frames of the thread whose state is at `state`, and whether there are more.
pub fn frames(
    memory: &mut Memory,
    layout: &Layout,
    types: Types,
    state: usize,
) -> Result<(Vec<Found>, bool), Torn> {
    let mut at = state;
    for step in layout.thread.to_frame {
        at = memory.pointer(at.checked_add(*step).ok_or(Torn)?)?;
    }
    let mut found = Vec::new();
    let (mut steps, mut met): (usize, usize) = (0, 0);
    while at != 0 {
        // Frames that are used again while one follows them may lead in a circle.
        if at == met {
            return Err(Torn);
        }
        steps += 1;
        if steps.is_power_of_two() {
            met = at;
        }
        if found.len() == FRAMES_MAX || steps > STEPS_MAX {
            return Ok((found, true));
        }
        found.extend(frame(memory, layout, types, at)?);
        at = memory.pointer(at.checked_add(layout.frame.previous).ok_or(Torn)?)?;
    }
    match found.last() {
        Some(last) if !is_outermost(memory, layout, last)? => Err(Torn),
        _ => Ok((found, false)),
    }
}

/// Whether nobody has called `last`, behind which there is no frame. One that has just returned has none either, and so has
/// a generator that waits: a program that calls and returns all the time would seem to consist of them.
fn is_outermost(memory: &mut Memory, layout: &Layout, last: &Found) -> Result<bool, Torn> {
    match layout.frame.place {
        Place::Counted { state, .. } => Ok(matches!(memory.byte(last.at + state)?, EXECUTING | UNWINDING)),
        Place::Pointed { owner, .. } => Ok(memory.byte(last.at + owner)? != OWNED_BY_GENERATOR
            || memory.pointer(last.at + layout.frame.previous)? != 0),
    }
}

/// The one at `at`; none if it has not begun, or is no Python.
fn frame(memory: &mut Memory, layout: &Layout, types: Types, at: usize) -> Result<Option<Found>, Torn> {
    let owner = match layout.frame.place {
        Place::Counted { .. } => 0,
        Place::Pointed { owner, .. } => memory.byte(at.checked_add(owner).ok_or(Torn)?)?,
    };
    if owner == OWNED_BY_C {
        return Ok(None);
    }
    let code = memory.pointer(at.checked_add(layout.frame.code).ok_or(Torn)?)?;
    if owner > OWNED_BY_C || type_of(memory, code)? != types.code {
        return Err(Torn);
    }
    let (byte, line) = match layout.frame.place {
        Place::Counted { instruction, line, .. } => {
            let line = u32::try_from(memory.number(at + line)?).ok().filter(|line| *line > 0);
            (i64::from(memory.number(at + instruction)?) * 2, line)
        }
        Place::Pointed { instruction, .. } => {
            let (_, begin) = layout.code.traceable_first.ok_or(Torn)?;
            let instruction = memory.word(at + instruction)?;
            (instruction.wrapping_sub(code + begin).cast_signed() as i64, None)
        }
    };
    if let Some((first, _)) = layout.code.traceable_first
        && owner != OWNED_BY_GENERATOR
        && byte < i64::from(memory.number(code + first)?) * 2
    {
        return Ok(None);
    }
    Ok(Some(Found { at, code, byte, line }))
}

/// How many of the innermost frames of `before` are not in `after` as they were. The innermost of all may go on in its
/// code, as long as it is the same call.
pub fn moving(before: &[Found], after: &[Found]) -> usize {
    let still = before.iter().rev().zip(after.iter().rev());
    let (mut count, all) = (0, before.len().max(after.len()));
    for (one, other) in still {
        let is_innermost = count + 1 == all;
        if one != other && !(is_innermost && one.is_same_call(other)) {
            break;
        }
        count += 1;
    }
    before.len() - count
}

/// `FRAME_EXECUTING` and `FRAME_UNWINDING`, in 3.10: one that has been called and has not returned.
const EXECUTING: u8 = 0;
const UNWINDING: u8 = 2;
/// `FRAME_OWNED_BY_GENERATOR`.
const OWNED_BY_GENERATOR: u8 = 1;
/// `FRAME_OWNED_BY_CSTACK`, since 3.12: where C has called Python.
const OWNED_BY_C: u8 = 3;
/// What Python allows, unless a program says otherwise.
const FRAMES_MAX: usize = 1000;
/// Each may have one between it and the next that is none.
const STEPS_MAX: usize = 3 * FRAMES_MAX;
