//! Text in bitmaps, in a font that is part of the program: pictures must not hang on what a machine has.
//!
//! Plotters' own way with such fonts leaves out the space at the left of letters.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, Glyph, OutlinedGlyph, PxScale, ScaleFont, point};

/// A pixel of a text, right of its start and below its baseline, and how much of it is covered.
#[derive(Debug, Clone, Copy)]
pub struct Pixel {
    pub right: i32,
    pub down: i32,
    pub coverage: f32,
}

/// The font; none if it were damaged, and a picture without text is better than no picture.
fn font(bold: bool) -> Option<&'static FontRef<'static>> {
    static REGULAR: LazyLock<Option<FontRef<'static>>> =
        LazyLock::new(|| FontRef::try_from_slice(dejavu::sans::regular()).ok());
    static BOLD: LazyLock<Option<FontRef<'static>>> =
        LazyLock::new(|| FontRef::try_from_slice(dejavu::sans::bold()).ok());
    if bold { BOLD.as_ref() } else { REGULAR.as_ref() }
}

/// The glyphs of a text of a size in em, from 0 on, and where the next one would stand.
fn glyphs(font: &FontRef, text: &str, size: f64) -> (Vec<Glyph>, f64) {
    // A font's scale is the height of its lines.
    let scale = PxScale::from(size as f32 * font.height_unscaled() / font.units_per_em().unwrap_or(1.0));
    let scaled = font.as_scaled(scale);
    let (mut glyphs, mut right) = (Vec::<Glyph>::new(), 0.0);
    for c in text.chars() {
        let id = font.glyph_id(c);
        right += glyphs.last().map_or(0.0, |before| scaled.kern(before.id, id));
        glyphs.push(id.with_scale_and_position(scale, point(right, 0.0)));
        right += scaled.h_advance(id);
    }
    (glyphs, f64::from(right))
}

/// The width of a text of a size in em.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    font(bold).map_or(0.0, |font| glyphs(font, text, size).1)
}

/// The pixels of a text of a size in em.
pub fn pixels(text: &str, size: f64, bold: bool) -> Vec<Pixel> {
    let Some(font) = font(bold) else { return Vec::new() };
    let mut pixels = Vec::new();
    for outline in glyphs(font, text, size).0.into_iter().filter_map(|glyph| font.outline_glyph(glyph)) {
        draw(&outline, &mut pixels);
    }
    pixels
}

fn draw(outline: &OutlinedGlyph, pixels: &mut Vec<Pixel>) {
    let corner = outline.px_bounds().min;
    let (left, top) = (corner.x as i32, corner.y as i32);
    outline.draw(|x, y, coverage| {
        if coverage > 0.0 {
            pixels.push(Pixel { right: left + x as i32, down: top + y as i32, coverage });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_width_and_pixels() {
        // A digit is 1303 of 2048 units wide.
        assert!((width("07", 2048.0, false) - 2.0 * 1303.0).abs() < 1.0);
        assert!(width("fear", 13.0, true) > width("fear", 13.0, false));
        let pixels = pixels("h", 100.0, false);
        let range =
            |of: fn(&Pixel) -> i32| (pixels.iter().map(of).min().unwrap(), pixels.iter().map(of).max().unwrap());
        let ((left, right), (top, bottom)) = (range(|pixel| pixel.right), range(|pixel| pixel.down));
        assert!(left >= 8 && right < 60, "the space at the left is kept: {left} {right}");
        assert!((-77..-70).contains(&top) && bottom == -1, "{top} {bottom}");
        assert!(super::pixels("", 10.0, true).is_empty() && width("", 10.0, true) == 0.0);
    }
}
