//! The memory of this process, read in a way that cannot fail badly: an address that is none is an error, not a fault.
//!
//! It is read through `/proc/self/mem`, which the system serves as it serves a file: it copies what is there, and says
//! so when nothing is. A process may always read itself; no right to trace is needed.
//!
//! # Units
//! Pages of 4 KiB, each read once until they are forgotten. So what lies close together is of one moment.
//!
//! # Source
//! proc_pid_mem(5).

use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustc_hash::FxHashMap;

/// What is not what it seemed: it was changing, or has gone.
#[derive(Debug)]
pub struct Torn;

/// The memory of this process, as it was when it was first looked at.
pub struct Memory {
    file: File,
    pages: FxHashMap<usize, Box<[u8; PAGE]>>,
}

impl Memory {
    /// # Errors
    /// The system does not let the process read itself: only one that has given up its privileges, or been given some
    /// by its file, is refused.
    pub fn of_this_process() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/self/mem")?, pages: FxHashMap::default() })
    }

    /// Looks again from now on.
    pub fn forget(&mut self) {
        self.pages.clear();
    }

    /// The pointer at `at`, which must be one, and point to where a structure can be.
    pub fn pointer(&mut self, at: usize) -> Result<usize, Torn> {
        let pointer = self.word(at)?;
        if pointer.is_multiple_of(size_of::<usize>()) { Ok(pointer) } else { Err(Torn) }
    }

    /// The word at `at`.
    pub fn word(&mut self, at: usize) -> Result<usize, Torn> {
        self.array(at).map(usize::from_ne_bytes)
    }

    /// The number of 32 bits at `at`.
    pub fn number(&mut self, at: usize) -> Result<i32, Torn> {
        self.array(at).map(i32::from_ne_bytes)
    }

    /// The byte at `at`.
    pub fn byte(&mut self, at: usize) -> Result<u8, Torn> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    /// The `count` bytes at `at`.
    pub fn bytes(&mut self, at: usize, count: usize) -> Result<Vec<u8>, Torn> {
        let mut bytes = vec![0; count];
        self.copy(at, &mut bytes)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, at: usize) -> Result<[u8; N], Torn> {
        let mut array = [0; N];
        self.copy(at, &mut array)?;
        Ok(array)
    }

    fn copy(&mut self, mut at: usize, mut to: &mut [u8]) -> Result<(), Torn> {
        while !to.is_empty() {
            let inside = at % PAGE;
            let count = to.len().min(PAGE - inside);
            let (now, later) = to.split_at_mut(count);
            now.copy_from_slice(&self.page(at - inside)?[inside..inside + count]);
            to = later;
            at = at.checked_add(count).ok_or(Torn)?;
        }
        Ok(())
    }

    fn page(&mut self, begin: usize) -> Result<&[u8; PAGE], Torn> {
        if self.pages.len() >= PAGES_MAX && !self.pages.contains_key(&begin) {
            self.pages.clear();
        }
        match self.pages.entry(begin) {
            Entry::Occupied(page) => Ok(page.into_mut()),
            Entry::Vacant(place) => {
                let mut page = Box::new([0; PAGE]);
                self.file.read_exact_at(&mut page[..], begin as u64).map_err(|_| Torn)?;
                Ok(place.insert(page))
            }
        }
    }
}

/// No system has smaller ones, and it divides those that are larger.
const PAGE: usize = 4096;
/// 4 MiB: a thousand frames in a hundred modules.
const PAGES_MAX: usize = 1024;
