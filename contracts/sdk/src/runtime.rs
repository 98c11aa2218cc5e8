//! What a wasm module without std needs: memory, and an end when something panics.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;
use core::cell::Cell;

const PAGE: usize = 64 * 1024;

/// Hands out memory from `__heap_base` upwards and takes none back: the instance lives for one question.
struct Bump {
    /// First free octet; 0 before the first allocation.
    next: Cell<usize>,
    /// End of the linear memory.
    end: Cell<usize>,
}

// SAFETY: contracts have no threads.
unsafe impl Sync for Bump {}

#[global_allocator]
static HEAP: Bump = Bump { next: Cell::new(0), end: Cell::new(0) };

unsafe extern "C" {
    /// Placed by the linker behind data and stack; only its address means something.
    static __heap_base: u8;
}

impl Bump {
    fn start(&self) -> usize {
        if self.next.get() == 0 {
            self.next.set(&raw const __heap_base as usize);
            self.end.set(wasm32::memory_size(0) * PAGE);
        }
        self.next.get()
    }

    /// Moves the first free octet to `next`, growing the memory when it has to; false if it cannot.
    fn advance(&self, next: usize) -> bool {
        if next > self.end.get() {
            let pages = (next - self.end.get()).div_ceil(PAGE);
            if wasm32::memory_grow(0, pages) == usize::MAX {
                return false;
            }
            self.end.set(self.end.get() + pages * PAGE);
        }
        self.next.set(next);
        true
    }
}

// SAFETY: blocks are cut from the free part and never overlap; `dealloc` gives nothing back.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = self.start().next_multiple_of(layout.align());
        match at.checked_add(layout.size()) {
            Some(next) if self.advance(next) => at as *mut u8,
            _ => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

    /// The newest block grows in place: that is how a `Vec` is filled.
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size <= layout.size() {
            return old;
        }
        if old as usize + layout.size() == self.next.get() {
            return match (old as usize).checked_add(size) {
                Some(next) if self.advance(next) => old,
                _ => core::ptr::null_mut(),
            };
        }
        // SAFETY: the alignment is the one the caller allocated with; the old block stays readable.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(old, new, layout.size());
            }
            new
        }
    }
}

/// The canonical ABI's allocator: the host calls it to put arguments and results into our memory.
///
/// # Safety
/// `align` is a power of two, and `old` was given out for `old_size` octets or `old_size` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    // SAFETY: as above.
    let new = unsafe {
        let layout = Layout::from_size_align_unchecked(old_size, align);
        if old_size == 0 {
            HEAP.alloc(Layout::from_size_align_unchecked(size, align))
        } else {
            HEAP.realloc(old, layout, size)
        }
    };
    if new.is_null() { wasm32::unreachable() } else { new }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    wasm32::unreachable()
}
