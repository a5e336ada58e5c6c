//! The letters of a page, in the order in which they are drawn.

use hayro::hayro_interpret::font::{Glyph, GlyphRun};
use hayro::hayro_interpret::hayro_cmap::BfString;
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps,
    InterpreterCache, InterpreterSettings, SoftMask, TransformExt as _, interpret_page,
};
use hayro::hayro_syntax::page::Page;
use hayro::kurbo::{Affine, BezPath, Point, Rect, Shape as _};

/// Glyphs are drawn in a thousand units an em.
const EM: f64 = 1000.0;
/// A letter reaches so far above and below its line.
const ABOVE: f64 = 780.0;
const BELOW: f64 = -220.0;
/// More letters on one page are no page.
pub(super) const MOST: usize = 200_000;

/// A letter, or several drawn as one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Letter {
    pub(super) text: String,
    /// Left, top, right and bottom edge as shares of the page.
    pub(super) area: [f64; 4],
    /// Where its line runs, as a share of the page's height.
    pub(super) baseline: f64,
}

/// The letters of a page.
pub(super) fn of_page<'a>(page: &'a Page<'a>, settings: &InterpreterSettings) -> Vec<Letter> {
    let (width, height) = page.render_dimensions();
    let (width, height) = (f64::from(width), f64::from(height));
    let cache = InterpreterCache::new();
    let bounds = Rect::new(0.0, 0.0, width, height);
    let transform = page.initial_transform(true).to_kurbo();
    let mut context = Context::new(transform, bounds, &cache, page.xref(), settings.clone());
    let mut collector = Collector { width, height, letters: Vec::new(), last: None };
    interpret_page(page, &mut context, &mut collector);
    collector.letters
}

struct Collector {
    width: f64,
    height: f64,
    letters: Vec<Letter>,
    /// Where the last run began, and how long it was: what is filled and stroked is drawn twice.
    last: Option<(Point, usize)>,
}

impl Collector {
    fn add(&mut self, transform: Affine, glyph: &Glyph, next: Option<Point>) {
        let Some(text) = glyph.as_unicode() else { return };
        let text = match text {
            BfString::Char(letter) => letter.to_string(),
            BfString::String(text) => text,
        };
        // In glyph units, how far the next letter is.
        let advance = next.map(|next| (transform.inverse() * next).x);
        let advance = advance.filter(|advance| (1.0..2.0 * EM).contains(advance));
        let outline = || match glyph {
            Glyph::Outline(glyph) => glyph.outline().bounding_box().x1,
            Glyph::Type3(glyph) => glyph.advance_width().map_or(0.0, f64::from),
        };
        let wide = advance.unwrap_or_else(outline);
        let wide = if wide > 0.0 && wide.is_finite() { wide } else { EM / 2.0 };
        let area = transform.transform_rect_bbox(Rect::new(0.0, BELOW, wide, ABOVE));
        let share = |value: f64, of: f64| (value / of).clamp(0.0, 1.0);
        let area = [
            share(area.x0, self.width),
            share(area.y0, self.height),
            share(area.x1, self.width),
            share(area.y1, self.height),
        ];
        let baseline = (transform * Point::ZERO).y / self.height;
        if area.iter().all(|edge| edge.is_finite()) && baseline.is_finite() {
            self.letters.push(Letter { text, area, baseline });
        }
    }
}

impl<'a> Device<'a> for Collector {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, mode: &DrawMode) {
        let glyphs = run.glyphs();
        let origins: Vec<Point> =
            glyphs.iter().map(|glyph| props.transform * glyph.transform() * Point::ZERO).collect();
        let this = origins.first().map(|first| (*first, origins.len()));
        if matches!(mode, DrawMode::Stroke(_)) && self.last == this {
            return;
        }
        self.last = this;
        for (i, glyph) in glyphs.iter().enumerate() {
            if self.letters.len() >= MOST {
                return;
            }
            let transform = props.transform * glyph.transform();
            self.add(transform, glyph, origins.get(i + 1).copied());
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
