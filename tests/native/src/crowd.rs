//! Many requests that wait until they may go.
use appliance_app::{Response, Result, sleep};
use std::cell::Cell;
use std::io::Write;
use std::time::Duration;

thread_local! {
    static WAITING: Cell<u32> = const { Cell::new(0) };
    static MAY_GO: Cell<bool> = const { Cell::new(false) };
}

/// Waits for [`go`].
pub fn wait(response: &mut Response) -> Result<()> {
    WAITING.set(WAITING.get() + 1);
    while !MAY_GO.get() {
        sleep(Duration::from_secs(1));
    }
    WAITING.set(WAITING.get() - 1);
    Ok(writeln!(response, "gone")?)
}

/// How many wait.
pub fn count() -> u32 {
    WAITING.get()
}

/// All of them may go.
pub fn go() {
    MAY_GO.set(true);
}
