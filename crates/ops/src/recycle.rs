//! An allocator that keeps large blocks for the next tensor of that size.
//!
//! A training step allocates and frees the same large blocks again and again. Given back to the
//! system, each must be cleared by the kernel when it is touched next, which costs a sixth of a
//! step. Here they are kept, by size class.
//!
//! Where lengths change from step to step, blocks that are kept are not those that are asked for
//! next. So that both together stay near the most that was ever in use, a block is given back for
//! each that must be had anew beyond that. Where the system has no more, all are.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Blocks of fewer bytes go to the inner allocator.
const SMALLEST: usize = 1 << 15;
/// Blocks of more bytes go to the inner allocator.
const LARGEST: usize = 1 << 31;
/// Size classes between a power of two and the next.
const STEPS: usize = 4;
const CLASSES: usize = (31 - 15) * STEPS + 1;
/// Blocks kept of one class.
const KEPT: usize = 1024;
/// Bytes kept in all.
const BOUND: usize = 3 << 29;
/// What is in use and what is kept may exceed the most that was in use by one in so many parts.
const SPARE: usize = 8;
/// Bytes that may be held whatever was in use.
const ALWAYS: usize = 1 << 26;
const ALIGN: usize = 64;

/// Wraps an allocator; see the module.
///
/// ```
/// use std::alloc::System;
/// #[global_allocator]
/// static ALLOCATOR: mmrag_ops::Recycle<System> = mmrag_ops::Recycle::new(System);
/// let zeros = vec![0f32; 1 << 20];
/// assert!(zeros.iter().all(|&x| x == 0.0));
/// ```
pub struct Recycle<A> {
    inner: A,
    shelves: [Mutex<Shelf>; CLASSES],
    kept: AtomicUsize,
    live: AtomicUsize,
    /// The most bytes that were live since this was last asked for.
    most: AtomicUsize,
    /// Bytes of all blocks, in use and kept.
    held: AtomicUsize,
    /// The most bytes of blocks that were ever in use.
    peak: AtomicUsize,
    /// The class that gives a block back next.
    hand: AtomicUsize,
}

struct Shelf {
    blocks: [*mut u8; KEPT],
    len: usize,
}

// SAFETY: a shelf owns the blocks on it; whoever holds the lock may take them.
unsafe impl Send for Shelf {}

impl<A> Recycle<A> {
    /// An allocator that keeps nothing yet.
    #[expect(clippy::large_stack_arrays, reason = "it is made once, as a static, by the compiler")]
    pub const fn new(inner: A) -> Self {
        let shelves =
            [const { Mutex::new(Shelf { blocks: [std::ptr::null_mut(); KEPT], len: 0 }) }; CLASSES];
        Self {
            inner,
            shelves,
            kept: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
        }
    }

    /// Bytes of the blocks of 32 KiB and more that are in use, as they were asked for: in a
    /// computation, those of its tensors.
    pub fn live_bytes(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Bytes of all blocks up to 2 GiB that it has from the system, in use and kept for reuse.
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The most bytes that were in use since the last call, counted as in
    /// [`live_bytes`](Self::live_bytes).
    pub fn take_most_live_bytes(&self) -> usize {
        self.most.swap(self.live_bytes(), Ordering::Relaxed).max(self.live_bytes())
    }

    /// Counts a block that is given out. Small ones are many and not tensors.
    fn count(&self, layout: Layout) {
        if layout.size() >= SMALLEST {
            let live = self.live.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
            self.most.fetch_max(live, Ordering::Relaxed);
        }
    }

    /// Counts a block that comes back.
    fn count_back(&self, layout: Layout) {
        if layout.size() >= SMALLEST {
            self.live.fetch_sub(layout.size(), Ordering::Relaxed);
        }
    }

    /// A block of a class, if one is kept.
    fn take(&self, (class, bytes): (usize, usize)) -> Option<*mut u8> {
        let mut shelf = self.shelves[class].lock().unwrap_or_else(PoisonError::into_inner);
        shelf.len = shelf.len.checked_sub(1)?;
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
        Some(shelf.blocks[shelf.len])
    }

    /// Keeps a block, if there is room.
    fn keep(&self, (class, bytes): (usize, usize), block: *mut u8) -> bool {
        if self.kept.load(Ordering::Relaxed) + bytes > BOUND {
            return false;
        }
        let mut shelf = self.shelves[class].lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.len == KEPT {
            return false;
        }
        let at = shelf.len;
        shelf.blocks[at] = block;
        shelf.len += 1;
        self.kept.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl<A: GlobalAlloc> Recycle<A> {
    /// Counts a block that is to be had from the inner allocator, and gives kept ones back to it
    /// while more is held than was ever in use.
    fn grow(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let in_use = held.saturating_sub(self.kept.load(Ordering::Relaxed));
        let peak = self.peak.fetch_max(in_use, Ordering::Relaxed).max(in_use);
        let bound = (peak + peak / SPARE).max(ALWAYS);
        let mut over = held.saturating_sub(bound);
        for _ in 0..CLASSES {
            let class = self.hand.fetch_add(1, Ordering::Relaxed) % CLASSES;
            let of_class = bytes_of(class);
            while over > 0
                && let Some(block) = self.take((class, of_class))
            {
                // SAFETY: the block was on its shelf, so nobody uses it, and it was allocated with
                // the layout of its class.
                unsafe { self.inner.dealloc(block, block_layout(of_class)) };
                self.held.fetch_sub(of_class, Ordering::Relaxed);
                over = over.saturating_sub(of_class);
            }
            if over == 0 {
                break;
            }
        }
    }

    /// A block from the inner allocator, by what asks it for one. If it has none, what is kept is
    /// given back to it first.
    fn ask(&self, ask: impl Fn() -> *mut u8) -> *mut u8 {
        let block = ask();
        if !block.is_null() {
            return block;
        }
        for class in 0..CLASSES {
            let bytes = bytes_of(class);
            while let Some(kept) = self.take((class, bytes)) {
                // SAFETY: as in `grow`.
                unsafe { self.inner.dealloc(kept, block_layout(bytes)) };
                self.held.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        ask()
    }

    /// Takes back what was counted for a block that could not be had.
    fn uncount(&self, layout: Layout, block: *mut u8) -> *mut u8 {
        if block.is_null() {
            self.count_back(layout);
            if let Some((_, bytes)) = class_of(layout) {
                self.held.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        block
    }
}

/// The class of a layout and the bytes of its blocks.
fn class_of(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size();
    if !(SMALLEST..=LARGEST).contains(&size) || layout.align() > ALIGN {
        return None;
    }
    let power = (usize::BITS - 1 - size.leading_zeros()) as usize;
    let base = 1usize << power;
    let step = (size - base).div_ceil(base / STEPS);
    let class = (power - 15) * STEPS + step;
    Some((class, bytes_of(class)))
}

/// The bytes of a class's blocks.
const fn bytes_of(class: usize) -> usize {
    let base = SMALLEST << (class / STEPS);
    base + class % STEPS * (base / STEPS)
}

fn block_layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGN).expect("the sizes of classes are valid")
}

// SAFETY: a block given out is of at least the asked size and alignment, and is on no shelf until
// it comes back; its class follows from the layout, which is the same when it comes back.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Recycle<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout);
        let block = match class_of(layout) {
            Some(class) => self.take(class).unwrap_or_else(|| {
                self.grow(class.1);
                // SAFETY: the layout is valid and not empty.
                self.ask(|| unsafe { self.inner.alloc(block_layout(class.1)) })
            }),
            // SAFETY: as the caller promises.
            None => self.ask(|| unsafe { self.inner.alloc(layout) }),
        };
        self.uncount(layout, block)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout);
        let Some(class) = class_of(layout) else {
            // SAFETY: as the caller promises.
            let block = self.ask(|| unsafe { self.inner.alloc_zeroed(layout) });
            return self.uncount(layout, block);
        };
        if let Some(block) = self.take(class) {
            // SAFETY: the block has at least `layout.size()` bytes and is ours alone.
            unsafe { std::ptr::write_bytes(block, 0, layout.size()) };
            return block;
        }
        self.grow(class.1);
        // SAFETY: the layout is valid and not empty.
        let block = self.ask(|| unsafe { self.inner.alloc_zeroed(block_layout(class.1)) });
        self.uncount(layout, block)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.count_back(layout);
        match class_of(layout) {
            Some(class) => {
                if !self.keep(class, block) {
                    self.held.fetch_sub(class.1, Ordering::Relaxed);
                    // SAFETY: the block was allocated with the layout of its class.
                    unsafe { self.inner.dealloc(block, block_layout(class.1)) };
                }
            }
            // SAFETY: as the caller promises.
            None => unsafe { self.inner.dealloc(block, layout) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    #[test]
    fn classes_hold_their_sizes_and_waste_little() {
        for size in
            [SMALLEST, SMALLEST + 1, 40_000, 65_536, 70_001, 1 << 20, (1 << 20) + 1, LARGEST]
        {
            let (class, bytes) = class_of(Layout::from_size_align(size, 4).unwrap()).unwrap();
            assert!(bytes >= size && bytes <= size + size / 4, "{size} in {bytes}");
            assert!(class < CLASSES);
        }
        assert_eq!(class_of(Layout::from_size_align(SMALLEST - 1, 4).unwrap()), None);
    }

    #[test]
    fn what_is_held_stays_near_what_was_in_use() {
        let recycle = Recycle::new(System);
        let block = 1 << 20;
        // Each time blocks of another class, as where lengths change.
        for round in 0..20 {
            let layout = Layout::from_size_align(block + round * block / 4, 4).unwrap();
            let count = (ALWAYS * 2).div_ceil(layout.size());
            // SAFETY: every block is given back once.
            unsafe {
                let blocks: Vec<*mut u8> = (0..count).map(|_| recycle.alloc(layout)).collect();
                for block in blocks {
                    recycle.dealloc(block, layout);
                }
            }
        }
        let (held, peak) =
            (recycle.held.load(Ordering::Relaxed), recycle.peak.load(Ordering::Relaxed));
        assert!(peak >= ALWAYS * 2);
        assert!(held <= peak + peak / SPARE, "{held} are held, {peak} were in use at most");
        assert_eq!(held, recycle.kept.load(Ordering::Relaxed));
    }

    /// An allocator that has so many bytes and no more.
    struct Scarce(AtomicUsize);

    // SAFETY: blocks are the system's, and are given back to it with the layout they came with.
    unsafe impl GlobalAlloc for Scarce {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let take = |left: usize| left.checked_sub(layout.size());
            if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return std::ptr::null_mut();
            }
            // SAFETY: as the caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            self.0.fetch_add(layout.size(), Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(block, layout) };
        }
    }

    #[test]
    fn what_is_kept_is_given_back_where_the_system_has_no_more() {
        let recycle = Recycle::new(Scarce(AtomicUsize::new(3 << 20)));
        let of = |bytes| Layout::from_size_align(bytes, 4).unwrap();
        for (kept, asked) in [(2 << 20, 3 << 20), (3 << 20, 100), (3 << 20, 2 << 20)] {
            // SAFETY: every block is given back once.
            unsafe {
                let first = recycle.alloc(of(kept));
                assert!(!first.is_null());
                recycle.dealloc(first, of(kept));
                let second = recycle.alloc_zeroed(of(asked));
                assert!(!second.is_null(), "{asked} bytes with {kept} kept");
                recycle.dealloc(second, of(asked));
            }
        }
        // SAFETY: nothing is given out.
        assert!(unsafe { recycle.alloc(of(4 << 20)) }.is_null());
        assert_eq!((recycle.live_bytes(), recycle.held.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn blocks_come_back_and_zeroed_ones_are_zero() {
        let recycle = Recycle::new(System);
        let layout = Layout::from_size_align(100_000, 4).unwrap();
        // SAFETY: the block is written within its size and given back once.
        unsafe {
            let first = recycle.alloc(layout);
            first.write_bytes(7, layout.size());
            assert_eq!(recycle.live_bytes(), 100_000);
            recycle.dealloc(first, layout);
            assert_eq!(recycle.live_bytes(), 0);
            assert_eq!([(); 2].map(|()| recycle.take_most_live_bytes()), [100_000, 0]);
            let second = recycle.alloc_zeroed(layout);
            assert_eq!(first, second);
            assert!(std::slice::from_raw_parts(second, layout.size()).iter().all(|&b| b == 0));
            recycle.dealloc(second, layout);
        }
    }
}
