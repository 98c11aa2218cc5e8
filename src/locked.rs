//! Memory for secrets: neither swapped, nor dumped, nor left behind.
//!
//! ```text
//! Locked<T> ── a slot of an arena (32 KiB: mmap, MADV_DONTDUMP, mlock) ── or pages of its own, if it is long
//!    drop ──> T is dropped, its octets are overwritten, the slot is free
//! ```
//!
//! A value passes over the stack before it is here; what it leaves there is overwritten in time. Values that point
//! elsewhere ([`String`], [`Vec`]) gain nothing.
#![allow(unsafe_code, reason = "pages are mapped and given out by hand; no other module touches them")]

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroize as _;

/// Octets of a slot: a key pair of either algorithm fits.
const SLOT: usize = 256;
/// Slots of an arena: more than a gateway has keys; and arenas, for programs that hold many.
const SLOTS: usize = 128;
const MAX_ARENAS: usize = 8;
/// Slots that one word of the map stands for.
const WORD: usize = u64::BITS as usize;

/// A value in locked memory; wiped when dropped. Read through [`Deref`]; nothing prints it.
pub struct Locked<T> {
    at: NonNull<T>,
    home: Home,
}

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Slot(usize),
    /// Pages of its own.
    Pages,
}

impl<T> Locked<T> {
    /// Moves a value into locked memory.
    pub fn new(value: T) -> Self {
        let layout = Layout::new::<T>();
        assert!(layout.align() <= SLOT, "secrets are not aligned to more than a slot");
        let (at, home) = match claim(layout.size()) {
            Some((slot, at)) => (at, Home::Slot(slot)),
            None => (map(layout.size()).unwrap_or_else(|| handle_alloc_error(layout)), Home::Pages),
        };
        let at = at.cast::<T>();
        // SAFETY: the slot, or the pages, are this value's alone, long enough, and aligned to a slot or a page.
        unsafe { at.write(value) };
        Self { at, home }
    }
}

impl<T> From<T> for Locked<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: written by `new`, and nobody has a mutable reference before `drop`.
        unsafe { self.at.as_ref() }
    }
}

impl<T: Clone> Clone for Locked<T> {
    fn clone(&self) -> Self {
        Self::new(T::clone(self))
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value was written by `new` and is dropped once; its octets are this value's until `free`.
        let octets = unsafe {
            self.at.drop_in_place();
            slice::from_raw_parts_mut(self.at.cast::<MaybeUninit<u8>>().as_ptr(), size_of::<T>())
        };
        octets.zeroize();
        match self.home {
            Home::Slot(slot) => release(slot),
            // SAFETY: `map` mapped so many octets there, and nothing refers to them any more.
            Home::Pages => drop(unsafe { munmap(self.at.as_ptr().cast(), size_of::<T>().max(1)) }),
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(..)")
    }
}

// SAFETY: it owns its value and gives shared references only, as a `Box` does.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Locked<T> {}

/// So many slots, mapped once and never given back.
struct Arena {
    base: NonNull<u8>,
    /// A bit for each slot that is taken.
    taken: [AtomicU64; SLOTS / WORD],
}

// SAFETY: the address is only that of slots, each of which has one owner by `taken`.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// Made when those before are full.
static ARENAS: [OnceLock<Option<Arena>>; MAX_ARENAS] = [const { OnceLock::new() }; MAX_ARENAS];

impl Arena {
    fn new() -> Option<Self> {
        Some(Self { base: map(SLOT * SLOTS)?, taken: Default::default() })
    }

    /// Takes a slot that is free.
    fn claim(&self) -> Option<usize> {
        let lowest = |word: u64| word.trailing_ones() as usize;
        self.taken.iter().enumerate().find_map(|(at, word)| {
            let claim = |word: u64| (lowest(word) < WORD).then(|| word | 1 << lowest(word));
            let before = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).ok()?;
            Some(at * WORD + lowest(before))
        })
    }
}

/// A free slot and its address; `None` if there is none, or so many octets are too long for one.
fn claim(octets: usize) -> Option<(usize, NonNull<u8>)> {
    if octets > SLOT {
        return None;
    }
    ARENAS.iter().enumerate().find_map(|(number, arena)| {
        let arena = arena.get_or_init(Arena::new).as_ref()?;
        let slot = arena.claim()?;
        // SAFETY: a slot of the arena lies in the arena.
        Some((number * SLOTS + slot, unsafe { arena.base.add(slot * SLOT) }))
    })
}

fn release(slot: usize) {
    let (arena, slot) = (&ARENAS[slot / SLOTS], slot % SLOTS);
    if let Some(Some(arena)) = arena.get() {
        arena.taken[slot / WORD].fetch_and(!(1 << (slot % WORD)), Ordering::AcqRel);
    }
}

/// The system's error when memory could not be locked; 0 if it always could.
static REFUSED: AtomicI32 = AtomicI32::new(0);

/// Maps whole pages; `None` if there is no memory. Pages that cannot be locked are as good as any other.
fn map(octets: usize) -> Option<NonNull<u8>> {
    let octets = octets.max(1);
    let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping, at an address that the kernel chooses, affects no other; the advice and the lock are for it.
    let (at, locked) = unsafe {
        let at = mmap_anonymous(ptr::null_mut(), octets, read_write, private).ok()?;
        // Dumps are forbidden to the process, too.
        let _ = madvise(at, octets, Advice::LinuxDontDump);
        (at, mlock(at, octets))
    };
    if let Err(error) = locked {
        REFUSED.store(error.raw_os_error(), Ordering::Relaxed);
    }
    NonNull::new(at.cast())
}

/// Why some secret may be swapped to disk: the system would not lock its memory. `None` if all are locked.
pub fn fault() -> Option<io::Error> {
    match REFUSED.load(Ordering::Relaxed) {
        0 => None,
        error => Some(io::Error::from_raw_os_error(error)),
    }
}

/// Forbids core dumps of this process, and other processes of the same user to read its memory (ptrace, `/proc/PID/mem`).
///
/// # Errors
/// The system's.
pub fn shut_process() -> io::Result<()> {
    let shut = || {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
    };
    shut().map_err(|error: Errno| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of a line of `/proc/self/status`.
    fn status(key: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").trim().parse().unwrap()
    }

    #[test]
    fn secrets_lie_in_locked_memory_and_are_wiped() {
        let long = Locked::new([7_u8; 5_000]);
        assert_eq!((long.home, &*long), (Home::Pages, &[7; 5_000]));
        let short = Locked::new([9_u8; 32]);
        assert!(matches!(short.home, Home::Slot(_)));
        if fault().is_none() {
            // The arena, and the long one's two pages.
            assert!(status("VmLck") >= 32 + 8, "{} KiB", status("VmLck"));
        }
        let (at, copy) = (short.at.as_ptr() as usize, short.clone());
        assert_ne!(copy.at, short.at);
        drop(short);
        // SAFETY: the arena is never unmapped, and tests that take the slot meanwhile write other octets.
        let left = unsafe { ptr::read_volatile(at as *const [u8; 32]) };
        assert_ne!(left, [9; 32]);
        assert_eq!((*copy, format!("{copy:?}")), ([9; 32], "Locked(..)".to_owned()));
    }

    #[test]
    fn slots_are_given_out_once_and_there_is_always_room() {
        let many: Vec<_> = (0..(MAX_ARENAS + 1) * SLOTS).map(|n| Locked::new([n; SLOT / size_of::<usize>()])).collect();
        let mut addresses: Vec<_> = many.iter().map(|locked| locked.at).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), many.len());
        assert!(many.iter().enumerate().all(|(n, locked)| locked.iter().all(|word| *word == n)));
        assert!(many.iter().any(|locked| locked.home == Home::Pages));
    }

    #[test]
    fn what_is_in_it_is_dropped_once() {
        let counted = std::sync::Arc::new(());
        let locked = Locked::new(counted.clone());
        assert_eq!(std::sync::Arc::strong_count(&counted), 2);
        drop(locked);
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }
}
