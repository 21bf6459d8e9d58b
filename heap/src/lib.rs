//! Gives back what a thread has freed.
//!
//! mimalloc gives freed memory back to the kernel some milliseconds after it was freed, but looks for what is due only
//! where it allocates or frees again in the same 32 MiB. A thread that falls idle after a burst never comes by there,
//! and would keep the burst's memory for as long as it idles. mimalloc's call for it is a C function, which is why this
//! crate exists: it holds the only `unsafe` of the workspace.

use libmimalloc_sys::mi_collect;

/// Gives back to the kernel what the current thread has freed, at once.
///
/// It looks at each page of the thread's heap: some tens of microseconds for a thread that has little.
pub fn give_back() {
    // SAFETY: `mi_collect` takes no pointer and has no precondition. It works on the heap of the thread that calls it,
    // which mimalloc makes if there is none, and on memory that all threads have given up, under mimalloc's own locks.
    unsafe { mi_collect(true) };
}
