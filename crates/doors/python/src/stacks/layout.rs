//! Where CPython keeps what a stack is made of: offsets within its structures, by minor version.
//!
//! They do not change between the releases of one minor version, whose ABI is frozen. Nobody need believe that: before
//! a process shows its stacks, it reads its own and compares it with what Python says (`probe`).
//!
//! # Units
//! Bytes, on systems where a pointer has eight of them.
//!
//! # Source
//! CPython `Include/cpython/{pystate,code,frameobject,unicodeobject}.h` and `Include/internal/pycore_frame.h` of 3.10 to
//! 3.13. Those who have a debug build, or one without the interpreter's lock, have other offsets.

/// One minor version of CPython.
#[derive(Debug)]
pub struct Layout {
    pub thread: ThreadLayout,
    pub frame: FrameLayout,
    pub code: CodeLayout,
    /// Where the characters of a string begin: one of ASCII alone, and any other.
    pub characters: (usize, usize),
}

/// `PyThreadState`. The links to its neighbours come first in every version.
#[derive(Debug)]
pub struct ThreadLayout {
    /// What `pthread_self` says.
    pub ident: usize,
    /// What `gettid` says.
    pub tid: Option<usize>,
    /// How one gets to the innermost frame: the pointers to be followed, one after another.
    pub to_frame: &'static [usize],
}

/// `_PyInterpreterFrame`, which was `PyFrameObject`.
#[derive(Debug)]
pub struct FrameLayout {
    pub previous: usize,
    pub code: usize,
    pub place: Place,
}

/// How a frame says where it is in its code.
#[derive(Debug)]
pub enum Place {
    /// By a number of instructions, of two bytes each; and by a line, while somebody traces it. It knows whether it runs.
    Counted { instruction: usize, line: usize, state: usize },
    /// By the address of an instruction; and somebody owns it.
    Pointed { instruction: usize, owner: usize },
}

/// `PyCodeObject`.
#[derive(Debug)]
pub struct CodeLayout {
    pub file: usize,
    /// The qualified name, where there is one.
    pub function: usize,
    pub line_first: usize,
    pub lines: usize,
    pub lines_form: LinesForm,
    /// How many instructions there are before those that were written, and where the first of all is.
    pub traceable_first: Option<(usize, usize)>,
}

/// How instructions are said to belong to lines.
#[derive(Clone, Copy, Debug)]
pub enum LinesForm {
    /// PEP 626: pairs of differences.
    Pairs,
    /// Since 3.11: `Objects/locations.md`.
    Locations,
}

impl Layout {
    /// That of CPython 3.`minor`, if it is known.
    pub fn of(minor: u8) -> Option<&'static Self> {
        match minor {
            _ if size_of::<usize>() != 8 => None,
            10 => Some(&CPYTHON_3_10),
            11 => Some(&CPYTHON_3_11),
            12 => Some(&CPYTHON_3_12),
            13 => Some(&CPYTHON_3_13),
            _ => None,
        }
    }
}

static CPYTHON_3_10: Layout = Layout {
    thread: ThreadLayout { ident: 176, tid: None, to_frame: &[24] },
    frame: FrameLayout {
        previous: 24,
        code: 32,
        place: Place::Counted { instruction: 96, line: 100, state: 108 },
    },
    code: CodeLayout {
        file: 104,
        function: 112,
        line_first: 40,
        lines: 120,
        lines_form: LinesForm::Pairs,
        traceable_first: None,
    },
    characters: (48, 72),
};

static CPYTHON_3_11: Layout = Layout {
    thread: ThreadLayout { ident: 152, tid: Some(160), to_frame: &[56, 8] },
    frame: FrameLayout { previous: 48, code: 32, place: Place::Pointed { instruction: 56, owner: 69 } },
    code: CodeLayout {
        file: 112,
        function: 128,
        line_first: 72,
        lines: 136,
        lines_form: LinesForm::Locations,
        traceable_first: Some((168, 184)),
    },
    characters: (48, 72),
};

static CPYTHON_3_12: Layout = Layout {
    thread: ThreadLayout { ident: 136, tid: Some(144), to_frame: &[56, 0] },
    frame: FrameLayout { previous: 8, code: 0, place: Place::Pointed { instruction: 56, owner: 70 } },
    code: CodeLayout {
        file: 112,
        function: 128,
        line_first: 68,
        lines: 136,
        lines_form: LinesForm::Locations,
        traceable_first: Some((176, 192)),
    },
    characters: (40, 56),
};

static CPYTHON_3_13: Layout = Layout {
    thread: ThreadLayout { ident: 152, tid: Some(160), to_frame: &[72] },
    frame: FrameLayout { previous: 8, code: 0, place: Place::Pointed { instruction: 56, owner: 70 } },
    code: CodeLayout {
        file: 112,
        function: 128,
        line_first: 68,
        lines: 136,
        lines_form: LinesForm::Locations,
        traceable_first: Some((184, 200)),
    },
    characters: (40, 56),
};
