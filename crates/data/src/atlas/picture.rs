//! Pictures of the fictional world: 64 by 64 pixels, flat colours, drawn big.
//!
//! What a question asks of a picture stands in its pixels alone. Position, size and background
//! vary a little with the picture's own stream of draws.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::draw::Draw;
use super::world::{Beetle, Chart, Flag, Tower};

/// Width and height of a picture in pixels.
pub const SIDE: usize = 64;

pub(super) type Colour = [u8; 3];

pub(super) const PAINTS: [Colour; 8] = [
    [220, 30, 30],
    [30, 60, 220],
    [20, 140, 40],
    [245, 220, 30],
    [140, 40, 170],
    [250, 130, 20],
    [15, 15, 15],
    [255, 255, 255],
];

/// A part of a picture that questions are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The field of a flag.
    Field,
    /// The figure on a flag.
    Sign,
    /// The roof of a tower.
    Roof,
    /// All windows of a tower together.
    Windows,
    /// The tree beside a tower.
    Tree,
    /// The back of a beetle.
    Shell,
    /// All spots of a beetle together.
    Spots,
    /// The tallest bar of a chart.
    Tallest,
}

/// A picture being drawn.
pub(crate) struct Canvas {
    pixels: Vec<u8>,
    /// Left, top, right and bottom edge of what has been painted since a part was begun.
    painted: Option<[usize; 4]>,
    parts: Vec<(Part, [usize; 4])>,
}

impl Canvas {
    /// An empty picture on a light background.
    fn new(draw: &mut Draw) -> Self {
        let base = draw.between(175, 195);
        let tint: [i32; 3] = std::array::from_fn(|_| draw.between(-8, 8));
        let pixel = tint.map(|tint| (base + tint) as u8);
        Self { pixels: pixel.repeat(SIDE * SIDE), painted: None, parts: Vec::new() }
    }

    /// Paints a part, and notes where it is.
    fn part(&mut self, part: Part, paint: impl FnOnce(&mut Self)) {
        self.painted = None;
        paint(self);
        self.parts.extend(self.painted.take().map(|area| (part, area)));
    }

    /// Where a part is: left, top, right and bottom edge in pixels.
    pub(crate) fn area(&self, part: Part) -> Option<[usize; 4]> {
        self.parts.iter().find(|(known, _)| *known == part).map(|(_, area)| *area)
    }

    /// The picture as a PNG file.
    pub(crate) fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024);
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Up)
            .write_image(&self.pixels, SIDE as u32, SIDE as u32, ExtendedColorType::Rgb8)
            .expect("a picture of fixed size is encoded into memory");
        bytes
    }

    /// Paints each pixel whose centre lies inside.
    fn fill(&mut self, colour: Colour, inside: impl Fn(f32, f32) -> bool) {
        for y in 0..SIDE {
            for x in 0..SIDE {
                if inside(x as f32 + 0.5, y as f32 + 0.5) {
                    let at = 3 * (y * SIDE + x);
                    self.pixels[at..at + 3].copy_from_slice(&colour);
                    let [left, top, right, bottom] = self.painted.unwrap_or([x, y, x, y]);
                    self.painted =
                        Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)]);
                }
            }
        }
    }

    fn rectangle(&mut self, colour: Colour, left: f32, top: f32, width: f32, height: f32) {
        self.fill(colour, |x, y| x >= left && x < left + width && y >= top && y < top + height);
    }

    fn ellipse(&mut self, colour: Colour, centre: (f32, f32), radii: (f32, f32)) {
        self.fill(colour, |x, y| {
            let (dx, dy) = ((x - centre.0) / radii.0, (y - centre.1) / radii.1);
            dx * dx + dy * dy <= 1.0
        });
    }

    fn disc(&mut self, colour: Colour, centre: (f32, f32), radius: f32) {
        self.ellipse(colour, centre, (radius, radius));
    }

    fn polygon(&mut self, colour: Colour, corners: &[(f32, f32)]) {
        self.fill(colour, |x, y| {
            let mut inside = false;
            for (i, &(x1, y1)) in corners.iter().enumerate() {
                let (x2, y2) = corners[(i + 1) % corners.len()];
                if (y1 > y) != (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 {
                    inside = !inside;
                }
            }
            inside
        });
    }
}

/// A flag on a pole: a sign on a plain or striped field.
pub(crate) fn flag(flag: Flag, draw: &mut Draw) -> Canvas {
    let mut canvas = Canvas::new(draw);
    let (left, top) = (draw.between(5, 9) as f32, draw.between(4, 9) as f32);
    canvas.rectangle([90, 60, 30], left - 4.0, top - 2.0, 3.0, 62.0);
    canvas.part(Part::Field, |canvas| {
        canvas.rectangle(PAINTS[flag.field], left, top, 52.0, 48.0);
        if flag.striped {
            for stripe in [1, 3, 5] {
                canvas.rectangle([128, 128, 128], left, top + 8.0 * stripe as f32, 52.0, 8.0);
            }
        }
    });
    let centre = (left + 26.0 + draw.between(-3, 3) as f32, top + 24.0);
    let radius = draw.between(15, 18) as f32;
    canvas.part(Part::Sign, |canvas| {
        sign(canvas, flag.shape, PAINTS[flag.sign], centre, radius);
    });
    canvas
}

fn sign(canvas: &mut Canvas, shape: usize, colour: Colour, centre: (f32, f32), radius: f32) {
    let (x, y) = centre;
    match shape {
        0 => canvas.disc(colour, centre, radius),
        1 => {
            let side = 1.7 * radius;
            canvas.rectangle(colour, x - side / 2.0, y - side / 2.0, side, side);
        }
        2 => {
            let corners =
                [(x, y - radius), (x + radius, y + 0.8 * radius), (x - radius, y + 0.8 * radius)];
            canvas.polygon(colour, &corners);
        }
        3 => {
            let corner = |i: usize| {
                let angle = std::f32::consts::PI * (i as f32 / 5.0 - 0.5);
                let reach = if i.is_multiple_of(2) { radius * 1.15 } else { radius * 0.45 };
                (x + reach * angle.cos(), y + reach * angle.sin())
            };
            canvas.polygon(colour, &std::array::from_fn::<_, 10, _>(corner));
        }
        4 => {
            let arm = 0.3 * radius;
            canvas.rectangle(colour, x - arm, y - radius, 2.0 * arm, 2.0 * radius);
            canvas.rectangle(colour, x - radius, y - arm, 2.0 * radius, 2.0 * arm);
        }
        _ => canvas.fill(colour, |px, py| {
            let distance = ((px - x).powi(2) + (py - y).powi(2)).sqrt();
            distance <= radius && distance >= 0.55 * radius
        }),
    }
}

/// A tower with a roof, windows in rows, and a tree on one side.
pub(crate) fn tower(tower: Tower, draw: &mut Draw) -> Canvas {
    let mut canvas = Canvas::new(draw);
    let lean = draw.between(0, 3) as f32;
    let left = if tower.tree_left { 27.0 + lean } else { 11.0 - lean };
    let top = draw.between(18, 21) as f32;
    let tone = draw.between(95, 120) as u8;
    canvas.rectangle([70, 110, 60], 0.0, 59.0, 64.0, 5.0);
    canvas.rectangle([tone, tone - 15, tone - 30], left, top, 26.0, 59.0 - top);
    let roof = [(left - 4.0, top), (left + 13.0, 1.0), (left + 30.0, top)];
    canvas.part(Part::Roof, |canvas| {
        canvas.polygon(PAINTS[tower.roof], &roof);
        canvas.rectangle(PAINTS[tower.roof], left - 4.0, top - 1.0, 34.0, 3.0);
    });
    canvas.part(Part::Windows, |canvas| {
        for window in 0..tower.windows {
            let (column, row) = ((window % 2) as f32, (window / 2) as f32);
            let lit = [255, 250, 190];
            canvas.rectangle(lit, left + 4.0 + 11.0 * column, top + 6.0 + 11.0 * row, 7.0, 7.0);
        }
    });
    let tree = if tower.tree_left { 10.0 + lean } else { 53.0 - lean };
    canvas.part(Part::Tree, |canvas| {
        canvas.rectangle([90, 60, 30], tree - 2.0, 44.0, 4.0, 15.0);
        canvas.disc([10, 90, 30], (tree, 40.0), 8.0);
    });
    canvas
}

/// A beetle seen from above, with spots on its back.
pub(crate) fn beetle(beetle: Beetle, draw: &mut Draw) -> Canvas {
    let mut canvas = Canvas::new(draw);
    let centre = (32.0 + draw.between(-2, 2) as f32, 35.0 + draw.between(-2, 2) as f32);
    for leg in [-13.0, 0.0, 13.0] {
        canvas.rectangle([60, 45, 35], centre.0 - 30.0, centre.1 + leg, 60.0, 2.0);
    }
    canvas.disc([60, 45, 35], (centre.0, centre.1 - 25.0), 8.0);
    canvas.part(Part::Shell, |canvas| {
        canvas.ellipse(PAINTS[beetle.shell], centre, (24.0, 26.0));
    });
    let dark = matches!(beetle.shell, 3 | 5 | 7);
    let colour = if dark { [70, 50, 40] } else { [240, 225, 200] };
    let mut places: Vec<(f32, f32)> =
        [-15.0, 0.0, 15.0].iter().flat_map(|&y| [(-9.0, y), (9.0, y)]).collect();
    draw.shuffle(&mut places);
    canvas.part(Part::Spots, |canvas| {
        for &(x, y) in places.iter().take(beetle.spots) {
            let x = x + draw.between(-1, 1) as f32;
            canvas.disc(colour, (centre.0 + x, centre.1 + y), 5.5);
        }
    });
    canvas
}

/// Three bars on a line, one plainly taller than the others.
pub(crate) fn chart(chart: Chart, draw: &mut Draw) -> Canvas {
    let mut canvas = Canvas::new(draw);
    canvas.rectangle([60, 60, 60], 4.0, 4.0, 2.0, 56.0);
    canvas.rectangle([60, 60, 60], 4.0, 58.0, 57.0, 2.0);
    let shift = draw.between(0, 3) as f32;
    for (bar, &colour) in chart.colours.iter().enumerate() {
        let height = if bar == chart.tallest { draw.between(46, 52) } else { draw.between(12, 34) };
        let left = 8.0 + shift + 17.0 * bar as f32;
        let paint = |canvas: &mut Canvas| {
            canvas.rectangle(PAINTS[colour], left, 58.0 - height as f32, 13.0, height as f32);
        };
        if bar == chart.tallest { canvas.part(Part::Tallest, paint) } else { paint(&mut canvas) }
    }
    canvas
}
