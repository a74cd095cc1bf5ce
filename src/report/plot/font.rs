//! DejaVu Sans, embedded in the program: a plot must look the same on every machine.

use std::sync::{Arc, LazyLock};

use resvg::usvg::fontdb::{Database, Source};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

/// The `font-family` of plots. A browser that lacks the font takes its own sans-serif one.
pub const FAMILY: &str = "DejaVu Sans, sans-serif";

/// The regular and the bold face, for resvg.
pub fn database() -> Arc<Database> {
    static DATABASE: LazyLock<Arc<Database>> = LazyLock::new(|| {
        let mut database = Database::new();
        for face in [dejavu::sans::regular(), dejavu::sans::bold()] {
            database.load_font_source(Source::Binary(Arc::new(face)));
        }
        Arc::new(database)
    });
    DATABASE.clone()
}

/// Width of a line of text in the unit of `size` (of an em). Sums the advances of glyphs and
/// ignores kerning, which makes text slightly narrower.
pub fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    static REGULAR: LazyLock<Option<FontRef>> = LazyLock::new(|| FontRef::new(dejavu::sans::regular()).ok());
    static BOLD: LazyLock<Option<FontRef>> = LazyLock::new(|| FontRef::new(dejavu::sans::bold()).ok());
    let Some(font) = (if bold { BOLD.as_ref() } else { REGULAR.as_ref() }) else { return 0.0 };
    let (charmap, metrics) = (font.charmap(), font.glyph_metrics(Size::new(1.0), LocationRef::default()));
    // A character that the font lacks comes from another one in a browser, where CJK and emoji fill
    // an em.
    let em = |c| charmap.map(c).and_then(|glyph| metrics.advance_width(glyph)).map_or(1.0, f64::from);
    size * text.chars().map(em).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_and_bold_fonts_are_loaded() {
        let database = database();
        let faces: Vec<_> = database.faces().map(|face| (face.families[0].0.as_str(), face.weight.0)).collect();
        assert_eq!(faces, [("DejaVu Sans", 400), ("DejaVu Sans", 700)]);
    }

    #[test]
    fn text_width_is_the_sum_of_advances() {
        // The advance of a digit is 1303 of 2048 font units.
        assert!((text_width("07", 2048.0, false) - 2.0 * 1303.0).abs() < 1.0);
        assert!(text_width("fear", 13.0, true) > text_width("fear", 13.0, false));
        assert!((text_width("喜び", 10.0, false) - 20.0).abs() < 1e-9, "not in the font: one em each");
        assert!(text_width("", 10.0, true).abs() < 1e-9);
    }
}
