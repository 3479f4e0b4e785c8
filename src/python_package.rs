//! `appliance python-package`: writes the Python sources that this binary carries into a folder, for `pip install`. Reads no
//! configuration and starts nothing.
use crate::error::Error;
use std::fs;
use std::path::Path;

/// Writes the package; files of an older one are replaced.
pub fn write(folder: &Path) -> Result<(), Error> {
    for file in appliance_package::FILES {
        let path = folder.join(file.path);
        let operation = || format!("write {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::system(operation()))?;
        }
        fs::write(&path, file.text).map_err(Error::system(operation()))?;
    }
    Ok(())
}
