//! From SVG to PNG, with resvg.

use anyhow::{Context, Result};
use resvg::tiny_skia::{Color, FilterQuality, Pixmap, PixmapPaint};
use resvg::usvg::{Group, ImageKind, Node, Options, Transform, Tree};

use super::font;
use crate::report::png_encoding::encode_rgb;

/// Pixels of a PNG per unit of the SVG.
pub const SCALE: u16 = 2;

/// Renders an SVG on white, [`SCALE`] pixels per unit, as an 8-bit RGB PNG.
///
/// # Errors
/// An SVG that does not parse; a size of 0.
pub fn rasterize(svg: &str) -> Result<Vec<u8>> {
    let options = Options { fontdb: font::database(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("a plot's SVG does not parse")?;
    let scale = f32::from(SCALE);
    let pixels = |length: f32| (length * scale).round() as u32;
    let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
    let mut pixmap = Pixmap::new(width, height).with_context(|| format!("a plot of {width} x {height} pixels"))?;
    pixmap.fill(Color::WHITE);
    let transform = Transform::from_scale(scale, scale);
    resvg::render(&tree, transform, &mut pixmap.as_mut());
    draw_images(tree.root(), transform, &mut pixmap);
    // Opaque, so premultiplied colors are plain ones.
    let rgb: Vec<u8> = pixmap.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();
    encode_rgb(width as usize, height as usize, &rgb)
}

/// Draws the PNGs in a group, over everything else. resvg does so only with decoders for JPEG, GIF
/// and WebP.
fn draw_images(group: &Group, transform: Transform, pixmap: &mut Pixmap) {
    for node in group.children() {
        match node {
            Node::Group(group) => draw_images(group, transform, pixmap),
            Node::Image(image) => {
                let ImageKind::PNG(data) = image.kind() else { continue };
                let Ok(decoded) = Pixmap::decode_png(data) else { continue };
                let paint = PixmapPaint { quality: FilterQuality::Nearest, ..PixmapPaint::default() };
                let transform = transform.pre_concat(image.abs_transform());
                pixmap.draw_pixmap(0, 0, decoded.as_ref(), &paint, transform, None);
            }
            Node::Path(_) | Node::Text(_) => {}
        }
    }
}
