//! A piece of memory that threads share, and perhaps a file: words, read and written as atomics only.
//!
//! # Invariants
//! The address of a mapping never changes and it is never shorter than it was made, so a pointer into it holds as
//! long as the mapping. What lies behind the address can be replaced ([`Mapping::replace`]): that is how a region
//! moves into a file, and how a forked child leaves its parent's. Every access is an atomic one, so whatever else
//! writes, in this process or another, there is no data race.
#![allow(unsafe_code, reason = "memory that is shared with other processes is mapped by hand")]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Memory of a fixed size at a fixed address.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u64>,
    bytes: usize,
}

// SAFETY: a mapping is an address and a length; the memory there is touched by atomic operations only, and is
// unmapped when the last owner is gone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// What is to lie behind the address of a mapping.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind<'a> {
    /// Memory of this process alone, all zero. A forked child has its own.
    Memory,
    /// The beginning of a file, which must be as long as the mapping.
    File(BorrowedFd<'a>),
}

impl Mapping {
    /// Memory of this process, all zero. `bytes` is a multiple of the page size.
    ///
    /// # Errors
    /// When the system gives no address space.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: the system chooses a free place, so nothing that exists is touched.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, PROTECTION, IN_MEMORY)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes })
    }

    /// Puts something else behind the same address. What other threads write meanwhile may be lost, no more.
    ///
    /// # Errors
    /// When the system refuses; what was there then is there still.
    pub(super) fn replace(&self, behind: Behind<'_>) -> io::Result<()> {
        let base = self.base.as_ptr().cast();
        match behind {
            Behind::Memory => {
                // SAFETY: exactly the range of this mapping is replaced, which nothing else owns, and the system
                // does so at once: a word is the old one or the new one. No references to plain memory exist in it.
                unsafe { mmap_anonymous(base, self.bytes, PROTECTION, IN_MEMORY | MapFlags::FIXED)? };
            }
            Behind::File(file) => {
                let flags = MapFlags::SHARED | MapFlags::FIXED;
                // SAFETY: as above. The file is as long as the mapping, and nobody shortens it: it is ours alone.
                unsafe { mmap(base, self.bytes, PROTECTION, flags, file, 0)? };
            }
        }
        Ok(())
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The word that begins at byte `at`.
    ///
    /// # Panics
    /// When there is none: offsets come from this module's neighbours and never out of the file.
    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: `word_at` checks the range; the memory is initialised (the system fills it with zeros) and lives
        // as long as `self`.
        unsafe { self.word_at(at).as_ref() }
    }

    /// The same as a pointer, for cells, which keep the mapping.
    pub(super) fn word_at(&self, at: usize) -> NonNull<AtomicU64> {
        assert!(at.is_multiple_of(8) && at < self.bytes, "no word of the region begins at byte {at}");
        // SAFETY: `at` is within the mapping, which is one allocation. An AtomicU64 has the layout of a u64, and
        // `at` is a multiple of its alignment.
        unsafe { self.base.byte_add(at).cast() }
    }

    /// Writes `bytes` from byte `at` on, and zeros up to the end of the last word.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(at + 8 * index).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// The first `bytes`, as they are.
    pub(super) fn copy(&self, bytes: usize) -> Vec<u8> {
        let words = bytes.min(self.bytes) / 8;
        let mut copy = Vec::with_capacity(8 * words);
        for index in 0..words {
            copy.extend_from_slice(&self.word(8 * index).load(Ordering::Relaxed).to_ne_bytes());
        }
        copy
    }

    /// Writes the first `bytes` of `from` here.
    pub(super) fn copy_from(&self, from: &Self, bytes: usize) {
        for at in (0..bytes.min(self.bytes).min(from.bytes)).step_by(8) {
            self.word(at).store(from.word(at).load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's, and with its last owner goes whoever could point into it.
        let _nothing_to_do = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

const PROTECTION: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
const IN_MEMORY: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);
