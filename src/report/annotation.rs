//! Photos with boxes around their faces, and labels.

use anyhow::{Context, Result};
use image::{Rgb, RgbImage};
use maud::html;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::plot::{FAMILY, font_database, text_width};

/// A box to draw, in pixels of the picture, and its label.
#[derive(Debug, Clone)]
pub struct LabeledBox {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
    /// Such as `happy 87%`.
    pub label: String,
}

/// Color of boxes and labels: visible on skin, and on light and dark backgrounds with its outline.
const BOX: &str = "#FFD33D";
const INK: &str = "#1F2328";

/// Draws `boxes` into a picture. Lines and text grow with the boxes, and are legible in a picture
/// of any size.
///
/// # Errors
/// A picture that is too large to draw on.
pub fn annotate(picture: &mut RgbImage, boxes: &[LabeledBox]) -> Result<()> {
    if boxes.is_empty() {
        return Ok(());
    }
    let (width, height) = picture.dimensions();
    let svg = overlay(width, height, boxes);
    let options = Options { fontdb: font_database(), ..Options::default() };
    let tree = Tree::from_str(&svg, &options).context("the boxes of a photo cannot be drawn")?;
    let mut pixmap = Pixmap::new(width, height).with_context(|| format!("a picture of {width} x {height} pixels"))?;
    resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
    for (pixel, over) in picture.pixels_mut().zip(pixmap.pixels()) {
        // Premultiplied colors.
        let rest = 255 - u32::from(over.alpha());
        let blend = |under: u8, over: u8| (u32::from(over) + (u32::from(under) * rest + 127) / 255).min(255) as u8;
        let Rgb([r, g, b]) = *pixel;
        *pixel = Rgb([blend(r, over.red()), blend(g, over.green()), blend(b, over.blue())]);
    }
    Ok(())
}

fn overlay(width: u32, height: u32, boxes: &[LabeledBox]) -> String {
    let smallest = f64::from(width.max(height)) / 64.0;
    let shapes = html! {
        @for found in boxes {
            @let size = (f64::from(found.width) / 7.0).max(smallest).max(9.0);
            @let line = (size / 7.0).max(1.5);
            @let (x, y) = (f64::from(found.x), f64::from(found.y));
            @let (w, h) = (f64::from(found.width), f64::from(found.height));
            @let bar = (text_width(&found.label, size, true) + size * 0.8, size * 1.5);
            // Above the box, or inside it at the upper edge of the picture; always within the picture.
            @let left = (x - line / 2.0).min(f64::from(width) - bar.0).max(0.0);
            @let top = if y >= bar.1 { y - bar.1 } else { y.max(0.0) };
            rect x=(x) y=(y) width=(w) height=(h) fill="none" stroke=(INK) stroke-width=(line * 2.0) stroke-opacity="0.6" {}
            rect x=(x) y=(y) width=(w) height=(h) fill="none" stroke=(BOX) stroke-width=(line) {}
            rect x=(left) y=(top) width=(bar.0) height=(bar.1) fill=(BOX) {}
            text x=(left + size * 0.4) y=(top + size * 1.1) font-family=(FAMILY) font-size=(size) font-weight="bold" fill=(INK) {
                (found.label)
            }
        }
    };
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) { (shapes) }
    }
    .into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_and_labels_are_drawn_where_they_are() {
        let mut picture = RgbImage::from_pixel(400, 300, Rgb([10, 20, 30]));
        let found = LabeledBox { x: 100.0, y: 120.0, width: 80.0, height: 90.0, label: "a < b & 87%".into() };
        annotate(&mut picture, &[found]).unwrap();
        assert_eq!(picture.get_pixel(140, 165).0, [10, 20, 30], "inside the box");
        // Edges are antialiased.
        let is_yellow = |x, y| {
            let [red, green, blue] = picture.get_pixel(x, y).0;
            red > 150 && green > 120 && blue < 120
        };
        assert!(is_yellow(100, 165) && is_yellow(140, 210), "its left and its lower edge");
        let label: Vec<_> = (100..180).map(|x| picture.get_pixel(x, 110).0).collect();
        assert!(label.contains(&[255, 211, 61]) && label.iter().any(|pixel| pixel[0] < 100), "text on its label");
        assert_eq!(picture.get_pixel(300, 280).0, [10, 20, 30]);
    }

    #[test]
    fn labels_stay_in_the_picture() {
        for (x, y) in [(-10.0, -10.0), (390.0, 0.0), (0.0, 295.0)] {
            let mut picture = RgbImage::new(400, 300);
            let found = LabeledBox { x, y, width: 30.0, height: 30.0, label: "surprise 99%".into() };
            annotate(&mut picture, &[found]).unwrap();
            let label = picture.pixels().filter(|pixel| pixel.0 == [255, 211, 61]).count();
            assert!(label > 500, "{x} {y}: {label}");
        }
    }
}
