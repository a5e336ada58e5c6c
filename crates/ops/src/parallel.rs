//! Work on several batches side by side.
//!
//! Within one batch the operations are parallel, but small ones do not fill many threads, and what
//! lies between them is serial. Batches side by side fill all threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;

/// Runs `work` on each item and returns the results in the items' order.
///
/// On the CPU several items run side by side, each on one thread of its own, as many at a time as
/// the current thread pool has threads. A single item runs on all threads; on other devices one
/// item runs after another. As the operations of this
/// crate give the same bits on any number of threads, so does this.
///
/// # Panics
///
/// When `work` panics.
pub fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    device: &Device,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = at_once(device).min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    let take_items = || {
        // Everything inside sees a pool of one thread, so nothing is stolen across items.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pool = pool.expect("the system has room for a thread");
        pool.install(|| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { break };
                let result = work(item);
                done.lock().expect("nothing panics while it is held").push((index, result));
            }
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(take_items);
        }
    });
    let mut done = done.into_inner().expect("nothing panics while it is held");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// How many passes a device takes at a time: one a thread on the CPU; one elsewhere, where each has
/// the device for itself and needs its memory.
pub fn at_once(device: &Device) -> usize {
    if device.is_cpu() { rayon::current_num_threads().max(1) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_nothing_nests() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let items: Vec<usize> = (0..50).collect();
        let squares = pool.install(|| {
            side_by_side(&items, &Device::Cpu, |&i| {
                assert_eq!(rayon::current_num_threads(), 1);
                side_by_side(&[i, i], &Device::Cpu, |&i| i * i)[1]
            })
        });
        assert_eq!(squares, items.iter().map(|i| i * i).collect::<Vec<_>>());
    }
}
