//! Candle starts no thread of its own after `quiet_candle`.
//!
//! Without the test harness, because it holds only on the first thread of a process.

#![expect(clippy::print_stderr, reason = "says why it skips")]

use candle_core::utils::barrier_pool;
use mmrag_ops::quiet_candle;

fn main() {
    let is_set = std::env::var_os("CANDLE_NUM_THREADS").is_some();
    if is_set || !cfg!(any(target_os = "linux", windows)) {
        eprintln!("skipped: CANDLE_NUM_THREADS is set, or threads cannot be counted here");
        return;
    }
    quiet_candle();
    assert_eq!(barrier_pool().n_workers(), 0);
}
