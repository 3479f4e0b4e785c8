//! Answers from files: `wsgi.file_wrapper` (PEP 3333) and `uwsgi.sendfile`. A regular file whose Python object adds nothing
//! to it is sent by the kernel (`sendfile(2)`), or read from its descriptor where the kernel cannot, and its length is
//! announced. Anything else is asked for its blocks like any iterable. The loop has a turn for the others after each block.
use super::call::{Call, Trouble};
use super::run;
use crate::host::Worker;
use crate::wait;
use appliance_worker::answer::{Answer, TOGETHER};
use appliance_worker::{FileSent, reactor};
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that are read at once, if nobody says how many.
const BLOCK: usize = 64 * 1024;
/// Bytes that the kernel sends at once before the others have their turn (nginx `sendfile_max_chunk`); a client on the same
/// machine may take them without a pause.
const TURN: u64 = 2 * 1024 * 1024;

/// `wsgi.file_wrapper`: iterates over the blocks of a file-like object and closes it.
#[pyclass(frozen, module = "appliance")]
pub struct FileWrapper {
    file: Py<PyAny>,
    block: usize,
    /// Bytes that may still be read; `u64::MAX` = to the end.
    left: AtomicU64,
}

impl FileWrapper {
    /// A part of an open file: at most `size` bytes from where it stands.
    pub fn part(file: Py<PyAny>, block: usize, size: Option<u64>) -> FileWrapper {
        FileWrapper {
            file,
            block: if block == 0 { BLOCK } else { block },
            left: AtomicU64::new(size.unwrap_or(u64::MAX)),
        }
    }
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (file, block_size = BLOCK, /))]
    fn new(file: Py<PyAny>, block_size: usize) -> FileWrapper {
        FileWrapper::part(file, block_size, None)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let left = self.left.load(Relaxed);
        let size = self.block.min(usize::try_from(left).unwrap_or(usize::MAX));
        if size == 0 {
            return Ok(None);
        }
        let block = self.file.bind(py).call_method1(intern!(py, "read"), (size,))?;
        let length = block.len()?;
        if left != u64::MAX {
            self.left.store(left.saturating_sub(length as u64), Relaxed);
        }
        Ok((length > 0).then_some(block))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let file = self.file.bind(py);
        if file.hasattr("close")? {
            file.call_method0("close")?;
        }
        Ok(())
    }
}

/// Sends what a wrapper holds as the body, or as the rest of it, and closes it however that ends.
pub(super) fn send(
    py: Python<'_>,
    worker: &Worker,
    call: &Call,
    wrapper: &Bound<'_, FileWrapper>,
) -> Result<(), Trouble> {
    let sent = match Plain::of(py, wrapper.get()) {
        Ok(Some(plain)) => plain.send(py, worker, call),
        Ok(None) => run::stream(py, worker, call, wrapper.as_any()),
        Err(error) => Err(error.into()),
    };
    run::first_of(py, sent, wrapper.get().close(py))
}

/// What is left of a regular file, behind a descriptor of our own: the application may close its own meanwhile.
struct Plain {
    file: Arc<File>,
    offset: u64,
    /// At least 1.
    left: u64,
    block: usize,
    /// The kernel has not refused to send it.
    by_kernel: bool,
}

impl Plain {
    /// The file in a wrapper, if reading it through its object would give the same bytes. A file that says it is empty need
    /// not be (those in `/proc` do), so that one is read.
    fn of(py: Python<'_>, wrapper: &FileWrapper) -> PyResult<Option<Plain>> {
        let Some((fd, offset)) = descriptor(py, wrapper.file.bind(py))? else { return Ok(None) };
        let file = File::from(reactor::duplicate(fd)?);
        let facts = file.metadata()?;
        let left = facts.len().saturating_sub(offset).min(wrapper.left.load(Relaxed));
        let plain = Plain { file: Arc::new(file), offset, left, block: wrapper.block, by_kernel: true };
        Ok((facts.is_file() && left > 0).then_some(plain))
    }

    fn send(mut self, py: Python<'_>, worker: &Worker, call: &Call) -> Result<(), Trouble> {
        if self.left <= TOGETHER as u64 {
            let whole = self.whole()?;
            return call.send_piece(py, worker, &whole, Some(whole.len() as u64));
        }
        let head = call.head(py, worker, Some(self.left))?;
        call.send_behind(py, worker, head, b"")?;
        while self.left > 0 && !call.answer.borrow().as_ref().is_some_and(Answer::is_full) {
            let count = self.left.min(TURN);
            // The borrow ends before anything can switch.
            let piece = call.answer.borrow_mut().as_mut().map(|answer| answer.piece_of(count as usize));
            let Some(piece) = piece else { break };
            call.send(py, worker, &piece.before, false)?;
            self.send_part(py, worker, call, piece.content, piece.last)?;
            call.send(py, worker, piece.after, false)?;
            self.left -= count;
            if self.left > 0 {
                wait::again(py, worker, call)?;
            }
        }
        Ok(())
    }

    /// All that is left, which is little: it leaves with the head, and with the length that it has, whatever was said.
    fn whole(&self) -> PyResult<Vec<u8>> {
        let mut whole = vec![0; self.left as usize];
        let mut filled = 0;
        while filled < whole.len() {
            match read_at(&self.file, &mut whole[filled..], self.offset + filled as u64)? {
                0 => whole.truncate(filled),
                n => filled += n,
            }
        }
        Ok(whole)
    }

    /// Sends the next `count` bytes; `last`: they end the answer.
    fn send_part(
        &mut self,
        py: Python<'_>,
        worker: &Worker,
        call: &Call,
        count: usize,
        last: bool,
    ) -> Result<(), Trouble> {
        let end = self.offset + count as u64;
        while self.offset < end && self.by_kernel {
            let wanted = (end - self.offset) as usize;
            match worker.engine.send_file(call.core, Arc::clone(&self.file), self.offset, wanted) {
                FileSent::Part(n) => self.offset += n as u64,
                FileSent::Wait => call.wait_for_room(py, worker)?,
                FileSent::End => return Err(shorter().into()),
                FileSent::Unsupported => self.by_kernel = false,
                FileSent::Gone => return Err(Trouble::Gone),
            }
        }
        let mut block = vec![0; self.block.min((end - self.offset) as usize)];
        while self.offset < end {
            let most = block.len().min((end - self.offset) as usize);
            let n = read_at(&self.file, &mut block[..most], self.offset)?;
            if n == 0 {
                return Err(shorter().into());
            }
            self.offset += n as u64;
            call.send(py, worker, &block[..n], last && self.offset == end)?;
        }
        Ok(())
    }
}

fn read_at(file: &File, into: &mut [u8], offset: u64) -> PyResult<usize> {
    loop {
        match file.read_at(into, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return Ok(other?),
        }
    }
}

fn shorter() -> PyErr {
    PyOSError::new_err("the file became shorter while it was sent; the client sees that the answer is cut")
}

/// The descriptor behind a file object and where the object stands, if it is one of those that hand out the bytes of their
/// descriptor as they are: made by `open()` or `tempfile`, and without a `read` of its own.
fn descriptor(py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<Option<(RawFd, u64)>> {
    let io = py.import(intern!(py, "io"))?;
    let is = |object: &Bound<'_, PyAny>, name: &str| -> PyResult<bool> {
        let is_of_type = object.get_type().is(&io.getattr(name)?);
        Ok(is_of_type && !object.getattr(intern!(py, "__dict__"))?.contains(intern!(py, "read"))?)
    };
    let file = if is_temporary(object)? { object.getattr("file")? } else { object.clone() };
    let is_random = is(&file, "BufferedRandom")?;
    let is_buffered = is_random || is(&file, "BufferedReader")?;
    let raw = if is_buffered { file.getattr("raw")? } else { file.clone() };
    // Of a file that is closed, or cannot be read, the object itself says so when it is read.
    let is_usable = |file: &Bound<'_, PyAny>| -> PyResult<bool> {
        Ok(!file.getattr("closed")?.is_truthy()? && file.call_method0("readable")?.is_truthy()?)
    };
    if !is(&raw, "FileIO")? || !is_usable(&raw)? || !raw.call_method0("seekable")?.is_truthy()? {
        return Ok(None);
    }
    if is_random {
        file.call_method0("flush")?;
    }
    let position = file.get_type().call_method1("tell", (&file,))?.extract()?;
    Ok(Some((raw.call_method0("fileno")?.extract()?, position)))
}

/// Whether `tempfile` has made this around a file of its own.
fn is_temporary(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    const NAME: &str = "_TemporaryFileWrapper";
    let kind = object.get_type();
    // By its name first: most applications have no need of the module.
    Ok(kind.name()? == NAME && kind.is(&object.py().import("tempfile")?.getattr(NAME)?))
}
