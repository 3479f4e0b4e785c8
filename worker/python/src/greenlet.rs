//! greenlet's C interface: the only place where one greenlet gives the thread to another.
//!
//! Rules for everybody who calls [`switch`], directly or not:
//! * greenlet copies parts of the C stack away, so no pointer into a stack may be reachable from the heap, a thread or the
//!   kernel across a switch; owned heap data only;
//! * no borrow and no lock is held across a switch (`RefCell`, `PyRefMut`, `MutexGuard`);
//! * a switch may come back early or late, so whoever waits looks again at what it waits for;
//! * never in `Drop`.
#![expect(unsafe_code, reason = "greenlet is reached through a table of C functions in a capsule")]

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_void;
use std::sync::OnceLock;

type NewFn = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;
type CurrentFn = unsafe extern "C" fn() -> *mut ffi::PyObject;
type SwitchFn =
    unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;
type ThrowFn = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// Slots of the table, as greenlet.h has numbered them since 0.3 (`PyGreenlet_*_NUM`).
const EXIT_SLOT: usize = 2;
const NEW_SLOT: usize = 3;
const CURRENT_SLOT: usize = 4;
const THROW_SLOT: usize = 5;
const SWITCH_SLOT: usize = 6;

struct Table {
    exit: usize,
    new: NewFn,
    current: CurrentFn,
    throw: ThrowFn,
    switch: SwitchFn,
}

static TABLE: OnceLock<Table> = OnceLock::new();

/// Imports greenlet and its C functions. Must succeed before anything else here is called.
pub fn import(py: Python<'_>) -> PyResult<()> {
    if TABLE.get().is_some() {
        return Ok(());
    }
    // Importing the package first is what makes the dotted name of the capsule resolvable.
    py.import("greenlet")?;
    // SAFETY: the name is a C string and the GIL is held; a null answer comes with an exception set.
    let table = unsafe { ffi::PyCapsule_Import(c"greenlet._C_API".as_ptr(), 0) }.cast::<*mut c_void>();
    if table.is_null() {
        return Err(PyErr::take(py).unwrap_or_else(|| PyImportError::new_err("greenlet has no C interface")));
    }
    // SAFETY: the capsule holds greenlet's table of at least 12 pointers; these have had these slots and signatures
    // since greenlet 0.3, and the version was checked to be 1.0 or later.
    let table = unsafe {
        Table {
            exit: *table.add(EXIT_SLOT) as usize,
            new: std::mem::transmute::<*mut c_void, NewFn>(*table.add(NEW_SLOT)),
            current: std::mem::transmute::<*mut c_void, CurrentFn>(*table.add(CURRENT_SLOT)),
            throw: std::mem::transmute::<*mut c_void, ThrowFn>(*table.add(THROW_SLOT)),
            switch: std::mem::transmute::<*mut c_void, SwitchFn>(*table.add(SWITCH_SLOT)),
        }
    };
    let _ = TABLE.set(table);
    Ok(())
}

fn table() -> &'static Table {
    TABLE.get().expect("greenlet was imported when the engine was loaded")
}

/// A greenlet that will call `run` without arguments when it is first switched to; its parent is the current one.
pub fn new<'py>(py: Python<'py>, run: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `run` is a live object, a null parent means the current greenlet; the result is a new reference or null.
    unsafe { Bound::from_owned_ptr_or_err(py, (table().new)(run.as_ptr(), std::ptr::null_mut())) }
}

/// The running greenlet.
pub fn current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held; the result is a new reference or null.
    unsafe { Bound::from_owned_ptr_or_err(py, (table().current)()) }
}

/// Gives the thread to `target` and returns what is passed when somebody switches back; `Err` is an exception that was
/// thrown in here meanwhile, or (in the hub) one that ended the target.
pub fn switch<'py>(py: Python<'py>, target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `target` is a live greenlet that this frame holds; null arguments mean none; the result is a new reference
    // or null with an exception set. What may be on the stack meanwhile is the rule of this file.
    unsafe {
        let value = (table().switch)(target.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, value)
    }
}

/// Gives the thread to `target`, in which `exception` is raised where it waits. Comes back as [`switch`] does.
pub fn throw<'py>(
    py: Python<'py>,
    target: &Bound<'py, PyAny>,
    exception: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let kind = exception.get_type();
    // SAFETY: all three are live objects that this frame holds, no traceback is passed; otherwise as for `switch`.
    unsafe {
        let (kind, value) = (kind.as_ptr(), exception.as_ptr());
        let value = (table().throw)(target.as_ptr(), kind, value, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, value)
    }
}

/// The class of the exceptions that end a greenlet; `None` where greenlet is not used.
pub fn exit(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let table = TABLE.get()?;
    // SAFETY: the exception type lives as long as the greenlet module, which is never unloaded.
    Some(unsafe { Bound::from_borrowed_ptr(py, table.exit as *mut ffi::PyObject) })
}

/// Whether an exception is greenlet's order to end.
pub fn is_exit(py: Python<'_>, error: &PyErr) -> bool {
    exit(py).is_some_and(|exit| error.matches(py, exit).unwrap_or(false))
}
