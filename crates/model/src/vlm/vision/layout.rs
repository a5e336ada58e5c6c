//! Where the patches of a batch of pictures stand, and which of them see each other.

use super::Picture;
use crate::config::VisionConfig;

/// The rows of a tower's batch: pictures one after another, in each its frames, in each its
/// squares of patches, in each its patches. Squares stand row by row, or with windows those of one
/// window together.
pub(super) struct Layout {
    /// Row and column of each patch in its picture.
    pub(super) places: Vec<(usize, usize)>,
    /// Patches of each frame.
    pub(super) frames: Vec<usize>,
    /// Patches of each window; none without windows.
    pub(super) windows: Vec<usize>,
    /// For each square its place in the order of the input, where the two differ.
    pub(super) order: Option<Vec<usize>>,
}

impl Layout {
    pub(super) fn new(config: &VisionConfig, pictures: &[&Picture]) -> Self {
        let merge = config.spatial_merge_size;
        let square = merge * merge;
        // In squares; a window that is narrower than one square would hold nothing.
        let side = config
            .windows
            .as_ref()
            .map(|windows| (windows.window_size / config.patch_size / merge).max(1));
        let mut layout = Self { places: vec![], frames: vec![], windows: vec![], order: None };
        let mut order = vec![];
        for picture in pictures {
            let [frames, height, width] = picture.grid;
            let (rows, columns) = (height / merge, width / merge);
            for _ in 0..frames {
                layout.frames.push(height * width);
                let start = order.len();
                for window in windows(rows, columns, side) {
                    if side.is_some() {
                        layout.windows.push(window.len() * square);
                    }
                    for (y, x) in window {
                        order.push(start + y * columns + x);
                        layout.places.extend(patches_of(y, x, merge));
                    }
                }
            }
        }
        layout.order = side.map(|_| order);
        layout
    }

    /// For each square in the order of the input, its row in the batch.
    pub(super) fn inverse(&self) -> Option<Vec<u32>> {
        let order = self.order.as_ref()?;
        let mut inverse = vec![0; order.len()];
        for (row, &square) in order.iter().enumerate() {
            inverse[square] = row as u32;
        }
        Some(inverse)
    }
}

/// The squares of a frame by window; all in one if there are none.
fn windows(rows: usize, columns: usize, side: Option<usize>) -> Vec<Vec<(usize, usize)>> {
    let (high, wide) = side.map_or((rows.max(1), columns.max(1)), |side| (side, side));
    let mut windows = vec![];
    for top in (0..rows).step_by(high) {
        for left in (0..columns).step_by(wide) {
            let bottom = (top + high).min(rows);
            let right = (left + wide).min(columns);
            windows.push((top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))).collect());
        }
    }
    windows
}

/// Row and column of each patch of a square.
fn patches_of(y: usize, x: usize, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..merge).flat_map(move |dy| (0..merge).map(move |dx| (y * merge + dy, x * merge + dx)))
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn windows_cover_a_frame_once_and_the_last_are_smaller() {
        let found = windows(3, 5, Some(2));
        let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(sizes, [4, 4, 2, 2, 2, 1]);
        let mut all: Vec<_> = found.concat();
        assert_eq!(&all[..4], [(0, 0), (0, 1), (1, 0), (1, 1)]);
        all.sort_unstable();
        assert_eq!(all, windows(3, 5, None).concat());
    }
}
