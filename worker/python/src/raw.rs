//! The few things of CPython's C interface that PyO3 does not offer safely. First of all strings between HTTP (latin-1
//! bytes) and Python, where PEP 3333 wants "native strings" that hold bytes as code points 0-255.
#![expect(unsafe_code, reason = "PyO3 has no safe interface for these")]

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString, PyType};
use std::borrow::Cow;
use std::sync::atomic::AtomicU8;

/// `PyBUF_WRITE` of CPython's stable interface.
const BUFFER_WRITE: i32 = 0x200;

/// A `str` with one code point per byte.
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    // SAFETY: pointer and length describe a live slice, the GIL is held, and the result is a new reference or null,
    // which can only mean that memory ran out; PyO3 panics on that as it does for every other string.
    unsafe {
        let text =
            ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len().cast_signed(), std::ptr::null());
        Bound::from_owned_ptr(py, text)
    }
}

/// The bytes of a native string; an error if it holds a code point above 255, which no HTTP field can carry.
pub fn latin1_bytes<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    let utf8 = text.to_str()?;
    if utf8.is_ascii() {
        return Ok(Cow::Borrowed(utf8.as_bytes()));
    }
    let bytes: Bound<'_, PyBytes> = text.call_method1("encode", ("latin-1",))?.cast_into()?;
    Ok(Cow::Owned(bytes.as_bytes().to_vec()))
}

/// An object as `bytes`: it is that, or a `bytearray` or `memoryview` whose bytes are copied.
pub fn bytes_of<'py>(object: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    object.cast_into::<PyBytes>().or_else(|error| {
        let object = error.into_inner();
        let is_buffer = object.is_instance_of::<PyByteArray>() || object.is_instance_of::<PyMemoryView>();
        if is_buffer {
            return Ok(object.py().get_type::<PyBytes>().call1((object,))?.cast_into()?);
        }
        Err(PyTypeError::new_err(format!("bytes are needed, not {}", object.get_type().name()?)))
    })
}

/// A `memoryview` of memory that is never taken away, through which it can be written.
pub fn view<'py>(py: Python<'py>, bytes: &'static [AtomicU8]) -> PyResult<Bound<'py, PyAny>> {
    let start = bytes.as_ptr().cast_mut().cast();
    // SAFETY: the bytes live as long as the process and may be written by anybody at any time, as all who read them know. The
    // GIL is held; the result is a new reference, or null with an exception.
    unsafe {
        let view = ffi::PyMemoryView_FromMemory(start, bytes.len().cast_signed(), BUFFER_WRITE);
        Bound::from_owned_ptr_or_err(py, view)
    }
}

/// How many references an object has; 1 means that only the caller's is left.
pub fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: a live object, with the GIL held.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Whether the object is of this class. `isinstance` would also ask for its `__class__`, at which lazy objects (Django's
/// `request.user`) go and fetch what they stand for.
pub fn is_of(object: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> bool {
    // SAFETY: two live objects, the second a class, with the GIL held.
    unsafe { ffi::PyType_IsSubtype(ffi::Py_TYPE(object.as_ptr()), class.as_type_ptr()) != 0 }
}

/// Has `class` raised in the thread of that number (`threading.get_ident()`) as soon as it runs Python code; `None` takes back
/// what has not been raised yet.
pub fn set_exception_of(_: Python<'_>, thread: u64, class: Option<&Bound<'_, PyType>>) {
    let class = class.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: the GIL is held, and the class is a live object of which CPython takes a reference of its own. A number that is
    // no thread's changes nothing.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.cast_signed(), class) };
}
