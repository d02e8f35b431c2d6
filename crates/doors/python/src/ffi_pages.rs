//! Gives back those pages of this module's file that only the loader needed.
//!
//! The table of relocations (0.9 MB) is read once, while the module is loaded, and stays mapped for as long as the process
//! lives, which counts as its memory. The mapping stays as it is: whoever reads there gets the same from the file.
//!
//! # Source
//! M1; the System V ABI, chapter 5 (program header, dynamic section); madvise(2).
#![allow(
    unsafe_code,
    reason = "reads what the loader has mapped, and tells the system what is not needed of it"
)]

use std::ffi::{c_int, c_void};
use std::ops::Range;

/// Lets go of the table of relocations. Nothing is lost, and nothing happens where it is not found.
pub fn let_go_of_relocations() {
    let mut found = None::<Range<usize>>;
    // SAFETY: the callback has the signature that is asked for, and is given `found`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look_at), (&raw mut found).cast()) };
    let Some(table) = found else { return };
    // SAFETY: sysconf has no conditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    if page == 0 {
        return;
    }
    let (start, end) = (table.start.next_multiple_of(page), table.end / page * page);
    if start < end {
        // SAFETY: whole pages within a mapping of a file that nobody can write to, as `look_at` has seen to: what is let go
        // of is what is in the file. That it may fail does no harm.
        let _kept = unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Notes in `found` where the relocations of the module in `info` lie, if that is this one.
///
/// # Safety
/// As `dl_iterate_phdr` calls it, with a `*mut Option<Range<usize>>` for `found`.
unsafe extern "C" fn look_at(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: the loader gives a description that is good for this call, with as many headers as it says.
    let (base, headers) = unsafe {
        let info = &*info;
        let count = usize::from(info.dlpi_phnum);
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, count))
    };
    let span = |header: &Header| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start.saturating_add(header.p_memsz as usize)
    };
    let loaded = |header: &&Header| header.p_type == libc::PT_LOAD;
    let own = look_at as *const () as usize;
    if !headers.iter().filter(loaded).any(|header| span(header).contains(&own)) {
        return 0;
    }
    let table = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC).and_then(|header| {
        // SAFETY: the loader has mapped and read the dynamic section of this module, which stays loaded.
        let entries = unsafe {
            &*std::ptr::slice_from_raw_parts(
                span(header).start as *const Entry,
                span(header).len() / size_of::<Entry>(),
            )
        };
        relocations(entries, base)
    });
    let is_read_only = |table: &Range<usize>| {
        headers.iter().filter(loaded).any(|header| {
            let span = span(header);
            header.p_flags & libc::PF_W == 0 && span.start <= table.start && table.end <= span.end
        })
    };
    // SAFETY: `found` is what `let_go_of_relocations` passes.
    unsafe { *found.cast() = table.filter(is_read_only) };
    1
}

/// Where the dynamic section says that the table lies. Some loaders leave the address in it as it is in the file.
fn relocations(entries: &[Entry], base: usize) -> Option<Range<usize>> {
    let value = |tag| entries.iter().take_while(|entry| entry.tag != DT_NULL).find(|entry| entry.tag == tag);
    let (at, bytes) = (value(DT_RELA)?.value, value(DT_RELASZ)?.value);
    let start = if at < base { base.wrapping_add(at) } else { at };
    Some(start..start.saturating_add(bytes))
}

#[cfg(target_pointer_width = "64")]
type Header = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type Header = libc::Elf32_Phdr;

/// One entry of the dynamic section: `Elf64_Dyn`, or `Elf32_Dyn`.
#[repr(C)]
struct Entry {
    tag: usize,
    value: usize,
}

const DT_NULL: usize = 0;
const DT_RELA: usize = 7;
const DT_RELASZ: usize = 8;
