//! Answers from files: `wsgi.file_wrapper` (PEP 3333) and `uwsgi.sendfile`. Both stream in blocks, with a turn of the loop
//! for the others after each.
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BLOCK: usize = 64 * 1024;

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
        let block = self.file.bind(py).call_method1(pyo3::intern!(py, "read"), (size,))?;
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
