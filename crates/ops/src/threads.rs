//! Keeps candle's own threads out of the way of ours.

use std::sync::Once;

use candle_core::utils::barrier_pool;

/// How candle is told the number of its threads; it looks once, at first use.
const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Has candle run its own elementwise operations on the thread that asks for them.
///
/// Otherwise they run on one pool of spinning threads for the whole process, which batches that
/// run [side by side](crate::side_by_side) wait for in turn, at half the speed. Call this first of
/// all in `main`. A number of threads that the user has set (`CANDLE_NUM_THREADS`) stays.
///
/// Where other threads run already, or cannot be counted (systems other than Linux and Windows),
/// this does nothing: set the variable before the program starts.
pub fn quiet_candle() {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        if std::env::var_os(VARIABLE).is_some() || !environment_is_ours() {
            return;
        }
        // SAFETY: no other thread reads or writes the environment meanwhile: there is none, or
        // the system locks it.
        unsafe { std::env::set_var(VARIABLE, "1") };
        // The first use, so that candle's pool has no thread whatever happens to the variable.
        barrier_pool();
    });
}

/// Whether this thread may write the environment: it is the only one, or the system locks it.
fn environment_is_ours() -> bool {
    if cfg!(target_os = "linux") {
        std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
    } else {
        cfg!(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_thread_takes_the_environment_away() {
        let is_ours = std::thread::scope(|scope| scope.spawn(environment_is_ours).join().unwrap());
        assert_eq!(is_ours, cfg!(windows));
    }
}
