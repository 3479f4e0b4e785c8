use appliance_app::{Request, Response, Result};
use std::path::Path;
pub(super) fn open(_folder: &Path) -> Result<(), String> {
    Ok(())
}
pub(super) fn serve(_request: &mut Request, _response: &mut Response) -> Result<()> {
    Ok(())
}
