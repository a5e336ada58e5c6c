//! One case of reference outputs, and which of them have been compared.

use std::collections::BTreeSet;
use std::path::PathBuf;

use candle_core::Tensor;
use mmrag_core::ImageSource;

use super::{Compared, PIXELS};
use crate::config::VlmConfig;
use crate::error::ModelError;
use crate::processor::ImageProcessor;
use crate::vlm::{Picture, Segment, image_positions, text_positions};
use crate::weights::Weights;

pub(super) struct Case<'a> {
    label: String,
    outputs: &'a Weights,
    pub(super) images: Vec<PathBuf>,
    read: BTreeSet<String>,
    rows: Vec<Compared>,
}

impl<'a> Case<'a> {
    pub(super) fn new(label: &str, outputs: &'a Weights, images: Vec<PathBuf>) -> Self {
        let (read, rows) = (BTreeSet::new(), vec![]);
        Self { label: label.to_owned(), outputs, images, read, rows }
    }

    /// All rows; what nobody compared stands there without a difference.
    pub(super) fn finish(mut self) -> Vec<Compared> {
        for output in self.names().into_iter().filter(|name| !self.read.contains(name)) {
            self.rows.push(Compared {
                case: self.label.clone(),
                output,
                difference: None,
                tolerance: 0.0,
            });
        }
        self.rows
    }

    fn names(&self) -> Vec<String> {
        let prefix = format!("{}.", self.label);
        self.outputs.names().filter_map(|name| name.strip_prefix(&prefix).map(Into::into)).collect()
    }

    pub(super) fn has_gradients(&self) -> bool {
        self.names().iter().any(|name| name.starts_with("grad."))
    }

    /// An output of whole numbers, if there is one of this name.
    pub(super) fn ids(&mut self, output: &str) -> Result<Option<Vec<i64>>, ModelError> {
        let name = format!("{}.{output}", self.label);
        self.read.insert(output.to_owned());
        self.outputs.contains(&name).then(|| self.outputs.i64(&name)).transpose()
    }

    /// An output of numbers, if there is one of this name.
    fn tensor(&mut self, output: &str) -> Result<Option<Tensor>, ModelError> {
        let name = format!("{}.{output}", self.label);
        let Some(shape) = self.outputs.shape(&name) else { return Ok(None) };
        self.read.insert(output.to_owned());
        self.outputs.f32(&name, shape).map(Some)
    }

    /// Whether the reference has this output and it is zero throughout.
    pub(super) fn is_zero(&self, output: &str) -> Result<bool, ModelError> {
        let name = format!("{}.{output}", self.label);
        let Some(shape) = self.outputs.shape(&name) else { return Ok(false) };
        let values = self.outputs.f32(&name, shape)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.iter().all(|value| *value == 0.0))
    }

    pub(super) fn tokens(&mut self) -> Result<Vec<u32>, ModelError> {
        let ids = self.outputs.i64(&format!("{}.input_ids", self.label))?;
        self.read.insert("input_ids".to_owned());
        let token = |id: &i64| {
            u32::try_from(*id).map_err(|_| self.unfit(&format!("the token {id} is no token")))
        };
        ids.iter().map(token).collect()
    }

    pub(super) fn has_pictures(&self) -> bool {
        self.outputs.contains(&format!("{}.pixel_values", self.label))
    }

    /// The pictures as the reference's image processor made them.
    pub(super) fn pictures(&mut self, config: &VlmConfig) -> Result<Vec<Picture>, ModelError> {
        let (Some(pixels), Some(grids)) =
            (self.tensor("pixel_values")?, self.ids("image_grid_thw")?)
        else {
            return Ok(vec![]);
        };
        let vision = &config.vision;
        let frame = vision.in_channels * vision.patch_size * vision.patch_size;
        let width = frame * vision.temporal_patch_size;
        let pixels: Vec<f32> = pixels.flatten_all()?.to_vec1()?;
        let mut rest = pixels.as_slice();
        let mut pictures = vec![];
        for grid in grids.chunks_exact(3) {
            let grid = [0, 1, 2].map(|axis| usize::try_from(grid[axis]).unwrap_or(0));
            let size = grid.iter().product::<usize>() * width;
            let Some((values, others)) = rest.split_at_checked(size) else {
                return Err(self.misfit());
            };
            pictures.push(Picture { values: values.to_vec(), grid });
            rest = others;
        }
        if rest.is_empty() { Ok(pictures) } else { Err(self.misfit()) }
    }

    fn misfit(&self) -> ModelError {
        let what = "pixel_values are not what image_grid_thw and the model's patches ask for: another base?";
        self.unfit(what)
    }

    fn unfit(&self, what: &str) -> ModelError {
        ModelError::Prompt { reason: format!("case {}: {what}", self.label) }
    }

    /// The case's images as our processor makes them, against the reference's.
    pub(super) fn compare_pixels(&mut self, processor: &ImageProcessor) -> Result<(), ModelError> {
        let (mut values, mut grids) = (vec![], vec![]);
        for image in &self.images {
            let pixels = processor.process(&ImageSource::Path(image.clone()))?;
            values.extend(pixels.values);
            grids.extend(pixels.grid.map(|side| side as i64));
        }
        self.whole("image_grid_thw", || Ok(grids))?;
        let device = &candle_core::Device::Cpu;
        self.near("pixel_values", PIXELS, || Ok(Tensor::new(values, device)?))
    }

    /// Compares whole numbers, if the case has them.
    pub(super) fn whole(
        &mut self,
        output: &str,
        ours: impl FnOnce() -> Result<Vec<i64>, ModelError>,
    ) -> Result<(), ModelError> {
        let Some(theirs) = self.ids(output)? else { return Ok(()) };
        let ours = ours()?;
        let off = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        self.row(output, (off + ours.len().abs_diff(theirs.len())) as f64, 0.0);
        Ok(())
    }

    /// Compares numbers one by one, if the case has them.
    pub(super) fn near(
        &mut self,
        output: &str,
        tolerance: f64,
        ours: impl FnOnce() -> Result<Tensor, ModelError>,
    ) -> Result<(), ModelError> {
        self.compare(output, tolerance, ours, |ours, theirs| {
            let off = ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs()));
            // A difference that is no number is the largest of all.
            off.fold(
                0.0,
                |largest: f64, off| {
                    if largest.is_nan() || off <= largest { largest } else { off }
                },
            )
        })
    }

    /// Compares numbers as one vector, if the case has them.
    pub(super) fn relative(
        &mut self,
        output: &str,
        tolerance: f64,
        ours: impl FnOnce() -> Result<Tensor, ModelError>,
    ) -> Result<(), ModelError> {
        self.compare(output, tolerance, ours, |ours, theirs| {
            let norm = |x: &mut dyn Iterator<Item = f32>| {
                x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
            };
            let off = norm(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
            off / norm(&mut theirs.iter().copied()).max(f64::MIN_POSITIVE)
        })
    }

    fn compare(
        &mut self,
        output: &str,
        tolerance: f64,
        ours: impl FnOnce() -> Result<Tensor, ModelError>,
        off: impl Fn(&[f32], &[f32]) -> f64,
    ) -> Result<(), ModelError> {
        let Some(theirs) = self.tensor(output)? else { return Ok(()) };
        let flat = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        let (ours, theirs) = (flat(&ours()?)?, flat(&theirs)?);
        let same = ours.len() == theirs.len();
        self.row(output, if same { off(&ours, &theirs) } else { f64::INFINITY }, tolerance);
        Ok(())
    }

    pub(super) fn row(&mut self, output: &str, difference: f64, tolerance: f64) {
        let (case, output) = (self.label.clone(), output.to_owned());
        self.rows.push(Compared { case, output, difference: Some(difference), tolerance });
    }
}

/// The tokens with the positions this crate gives them; each picture stands where the first of
/// its tokens does.
pub(super) fn segment(
    tokens: Vec<u32>,
    config: &VlmConfig,
    pictures: &[Picture],
) -> Result<Segment, ModelError> {
    let mut segment = Segment::default();
    let (mut at, mut next) = (0, 0u32);
    let mut left = pictures.iter().enumerate();
    while at < tokens.len() {
        if tokens[at] != config.tokens.image {
            segment.positions.extend(text_positions(next, 1));
            (at, next) = (at + 1, next + 1);
            continue;
        }
        let Some((index, picture)) = left.next() else {
            let reason = format!("the image token at {at} belongs to no picture");
            return Err(ModelError::Prompt { reason });
        };
        let [frames, height, width] = picture.grid;
        let merge = config.vision.spatial_merge_size;
        let grid = [frames, height / merge, width / merge];
        let n: usize = grid.iter().product();
        segment.image_rows.extend((0..n).map(|row| (at + row, index, row)));
        segment.positions.extend(image_positions(next, grid));
        next = segment.positions[at..].iter().flatten().max().map_or(next, |last| last + 1);
        at += n;
    }
    if segment.positions.len() != tokens.len() || left.next().is_some() {
        let reason = format!("its pictures do not fit its {} tokens", tokens.len());
        return Err(ModelError::Prompt { reason });
    }
    segment.tokens = tokens;
    Ok(segment)
}
