//! Ctrl-C: the first asks the work to end at its next safe place, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

/// Exit code of a run that the user stopped and that can go on.
pub(crate) const STOPPED: u8 = 130;

/// A flag that turns true at the first Ctrl-C.
///
/// # Errors
///
/// When the signal handler cannot be set.
pub(crate) fn on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(STOPPED));
        }
        eprintln!("\nstopping after the current step (Ctrl-C again to stop at once)");
    })
    .context("failed to watch for Ctrl-C")?;
    Ok(stop)
}
