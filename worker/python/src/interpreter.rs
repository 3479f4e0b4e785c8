//! Starting CPython inside the template, and letting its other threads run. Knows nothing of requests.
#![expect(unsafe_code, reason = "interpreter start-up and the allocator have no safe interface")]

use pyo3::ffi;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_void};

/// CPython ≥ 3.11 takes the first stack chunk of every fresh greenlet straight from the arena allocator, which maps and
/// unmaps 16 KiB each time. A free list for exactly this size makes a request 2.5-3 times cheaper.
const CHUNK: usize = 16 * 1024;
/// Chunks kept for reuse, 64 MiB at most: as many as greenlets that ended at once.
const KEPT_CHUNKS: usize = 4096;

#[repr(C)]
#[derive(Clone, Copy)]
struct ArenaAllocator {
    context: *mut c_void,
    alloc: Option<unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void>,
    free: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize)>,
}

struct Arena {
    original: ArenaAllocator,
    free: Vec<*mut c_void>,
}

struct ArenaCell(UnsafeCell<Arena>);

// SAFETY: CPython calls its arena allocator only with the GIL held, or before there is a second thread.
unsafe impl Sync for ArenaCell {}

static ARENA: ArenaCell = ArenaCell(UnsafeCell::new(Arena {
    original: ArenaAllocator { context: std::ptr::null_mut(), alloc: None, free: None },
    free: Vec::new(),
}));

unsafe extern "C" fn arena_alloc(_: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: one caller at a time (see `ArenaCell`); `original` was filled in before this function was installed.
    unsafe {
        let arena = &mut *ARENA.0.get();
        if size == CHUNK
            && let Some(chunk) = arena.free.pop()
        {
            return chunk;
        }
        arena.original.alloc.map_or(std::ptr::null_mut(), |alloc| alloc(arena.original.context, size))
    }
}

unsafe extern "C" fn arena_free(_: *mut c_void, chunk: *mut c_void, size: usize) {
    // SAFETY: as above; the list never grows beyond its reserved capacity, so it never allocates in here.
    unsafe {
        let arena = &mut *ARENA.0.get();
        if size == CHUNK && arena.free.len() < arena.free.capacity() {
            arena.free.push(chunk);
        } else if let Some(free) = arena.original.free {
            free(arena.original.context, chunk, size);
        }
    }
}

/// A function of the running libpython that is outside the stable ABI.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: looks a C string up among the libraries that are loaded globally; libpython is one of them.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

type ArenaFn = unsafe extern "C" fn(*mut ArenaAllocator);

fn install_arena_cache() {
    let (Some(get), Some(set)) =
        (symbol(c"PyObject_GetArenaAllocator"), symbol(c"PyObject_SetArenaAllocator"))
    else {
        return;
    };
    // SAFETY: both symbols have had this signature since CPython 3.4; nothing else runs yet.
    unsafe {
        let (get, set) = (
            std::mem::transmute::<*mut c_void, ArenaFn>(get),
            std::mem::transmute::<*mut c_void, ArenaFn>(set),
        );
        let arena = &mut *ARENA.0.get();
        arena.free.reserve_exact(KEPT_CHUNKS);
        get(&raw mut arena.original);
        let mut ours = ArenaAllocator {
            context: std::ptr::null_mut(),
            alloc: Some(arena_alloc),
            free: Some(arena_free),
        };
        set(&raw mut ours);
    }
}

/// glibc gives freed memory back to the kernel too eagerly for asyncio's 256 KiB read buffers: 3x on its streams.
fn tune_malloc() {
    const MIB: c_int = 1 << 20;
    // SAFETY: plain settings of the C library.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 * MIB);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * MIB);
        libc::mallopt(libc::M_TOP_PAD, MIB);
    }
}

/// Starts CPython on this thread and leaves it detached. The virtual environment is found through `PATH`. Once only.
pub fn start() {
    tune_malloc();
    install_arena_cache();
    // SAFETY: libpython is loaded and not yet initialised; 0 = CPython installs no signal handlers, the loop has them.
    unsafe {
        ffi::Py_InitializeEx(0);
        ffi::PyEval_SaveThread();
    }
}

/// Runs `wait` with the GIL released. It must not touch Python.
pub fn detached(wait: impl FnOnce()) {
    // SAFETY: called attached, in the hub; the same thread state comes back. Nothing in `wait` uses Python.
    let state = unsafe { ffi::PyEval_SaveThread() };
    wait();
    // SAFETY: the state that was just saved on this thread.
    unsafe { ffi::PyEval_RestoreThread(state) };
}

/// Sends a signal to a thread of this process.
pub fn signal_thread(thread: libc::pthread_t, signal: c_int) {
    // SAFETY: the number is that of the loop's thread, which lives as long as the process.
    unsafe { libc::pthread_kill(thread, signal) };
}

/// CPython's part of a fork, before and after it.
pub mod fork {
    use super::ffi;
    use std::cell::Cell;

    thread_local! {
        static ATTACHED: Cell<Option<ffi::PyGILState_STATE>> = const { Cell::new(None) };
    }

    /// In the template, just before: attaches and takes CPython's own locks.
    pub fn before() {
        // SAFETY: CPython is initialised; the matching release is in `parent` or `child`.
        unsafe {
            ATTACHED.set(Some(ffi::PyGILState_Ensure()));
            ffi::PyOS_BeforeFork();
        }
    }

    /// In the template, just after.
    pub fn parent() {
        // SAFETY: after `before`, on the same thread.
        unsafe { ffi::PyOS_AfterFork_Parent() };
        release();
    }

    /// In the child, just after.
    pub fn child() {
        // SAFETY: after `before`, on the copy of the same thread.
        unsafe { ffi::PyOS_AfterFork_Child() };
        release();
    }

    fn release() {
        if let Some(state) = ATTACHED.take() {
            // SAFETY: the state that `before` got on this thread.
            unsafe { ffi::PyGILState_Release(state) };
        }
    }
}
