//! What happens when a fiber needs more stack than it has: it touches its guard page, the kernel says SIGSEGV, and the handler
//! here ends that fiber alone. Every other fault goes to whoever handled it before (Rust's message, Python's `faulthandler`, or
//! the end of the process with a core). The handler runs on a signal stack of its own and calls nothing but what says so.
#![expect(
    unsafe_code,
    reason = "handles a signal on a stack of its own and changes where the thread goes on"
)]

use super::fiber::{self, End};
use corosensei::trap::TrapHandlerRegs;
use nix::libc;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of the signal stack: the frame of a signal takes up to 11 KiB (AMX), other handlers may run on it too.
const SIGNAL_STACK: usize = 64 * 1024;

/// The thread whose fibers are looked after; 0: none. The handler must not touch thread-local storage of other threads, which
/// may not be there yet.
static THREAD: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a page of memory, and so of a guard page.
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// What handled the signal before.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written once, before the handler that reads it can run.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::uninit()));

/// Looks after the fibers of this thread from now on; once in a process, in the worker.
pub fn install() -> io::Result<()> {
    // SAFETY: takes no arguments.
    let me = unsafe { libc::pthread_self() } as usize;
    if THREAD.swap(me, Relaxed) != 0 {
        return Ok(());
    }
    // SAFETY: asks for a number.
    if let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) {
        PAGE.store(page, Relaxed);
    }
    let stack = Box::leak(vec![0u8; SIGNAL_STACK].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIGNAL_STACK };
    // SAFETY: the stack lives as long as the process.
    check(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) })?;
    // SAFETY: all zeros is a valid action; the handler has the signature that SA_SIGINFO asks for.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_fault;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both point to actions that live during the call, and nobody reads `BEFORE` yet.
    check(unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, BEFORE.0.get().cast()) })
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs in the signal: no allocation, no lock, no unwinding.
///
/// A handler that the application has put in our place since, such as that of Python's `faulthandler`, says what it has to
/// say, puts ours back and raises the signal again from where it runs. The fault itself then comes once more, to us.
extern "C" fn on_fault(_signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: takes no arguments.
    let is_ours = unsafe { libc::pthread_self() } as usize == THREAD.load(Relaxed);
    let running = if is_ours { fiber::running() } else { None };
    // SAFETY: the kernel hands over a context of the interrupted thread, and says which address was touched.
    let (context, address) =
        unsafe { (&mut *context.cast::<libc::ucontext_t>(), (*info).si_addr() as usize) };
    let pointer = stack_pointer(context);
    // SAFETY: as above.
    if unsafe { (*info).si_code } <= 0 {
        if !is_in_signal(context, pointer) {
            die();
        }
        return;
    }
    // An overflow touches the stack near its pointer; a wild pointer in a fiber is a fault like any other.
    let is_overflow = |trap: &corosensei::trap::CoroutineTrapHandler<End>| {
        trap.stack_ptr_in_bounds(pointer) && trap.stack_ptr_in_bounds(address) && is_guarded(trap, address)
    };
    match running.map(|running| running.trap).filter(is_overflow) {
        // SAFETY: the fiber that runs has overflowed: its stack pointer is within it, and the thread goes on as is said.
        Some(trap) => go_on(context, unsafe { trap.setup_trap_handler(|| End::Overflowed) }),
        // It faults again at once, for whoever handled it before.
        // SAFETY: `install` has written it before this handler could run.
        None => unsafe {
            libc::sigaction(libc::SIGSEGV, BEFORE.0.get().cast(), std::ptr::null_mut());
        },
    }
}

/// Somebody has sent the signal (`kill -SEGV`), and nothing is wrong with us: whoever handled it before may say something, and then
/// the process ends by it, as every other one does. What went on instead would have nobody to catch its overflows.
fn die() {
    // SAFETY: these may be called in a handler (POSIX, "async-signal-safe"); `install` has written `BEFORE`, and zeros are the
    // default action.
    unsafe {
        let mut signals = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGSEGV);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, signals.as_ptr(), std::ptr::null_mut());
        let default = MaybeUninit::<libc::sigaction>::zeroed();
        for action in [BEFORE.0.get().cast::<libc::sigaction>(), default.as_ptr()] {
            libc::sigaction(libc::SIGSEGV, action, std::ptr::null_mut());
            libc::raise(libc::SIGSEGV);
        }
    }
}

/// Whether a stack pointer is that of a handler, on the signal stack of its thread.
fn is_in_signal(context: &libc::ucontext_t, pointer: usize) -> bool {
    let stack = &context.uc_stack;
    let is_used = stack.ss_flags & libc::SS_DISABLE == 0;
    is_used && pointer.checked_sub(stack.ss_sp.addr()).is_some_and(|above| above <= stack.ss_size)
}

/// Whether an address lies in the guard page, the lowest one of the stack.
fn is_guarded(trap: &corosensei::trap::CoroutineTrapHandler<End>, address: usize) -> bool {
    address.checked_sub(PAGE.load(Relaxed)).is_none_or(|below| !trap.stack_ptr_in_bounds(below))
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize
}

#[cfg(target_arch = "x86_64")]
fn go_on(context: &mut libc::ucontext_t, to: TrapHandlerRegs) {
    let TrapHandlerRegs { rip, rsp, rbp, rdi, rsi } = to;
    let registers = [
        (libc::REG_RIP, rip),
        (libc::REG_RSP, rsp),
        (libc::REG_RBP, rbp),
        (libc::REG_RDI, rdi),
        (libc::REG_RSI, rsi),
    ];
    for (register, value) in registers {
        context.uc_mcontext.gregs[register as usize] = value as i64;
    }
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.sp as usize
}

#[cfg(target_arch = "aarch64")]
fn go_on(context: &mut libc::ucontext_t, to: TrapHandlerRegs) {
    let TrapHandlerRegs { pc, sp, x0, x1, x29, lr } = to;
    context.uc_mcontext.pc = pc;
    context.uc_mcontext.sp = sp;
    context.uc_mcontext.regs[0] = x0;
    context.uc_mcontext.regs[1] = x1;
    context.uc_mcontext.regs[29] = x29;
    context.uc_mcontext.regs[30] = lr;
}
