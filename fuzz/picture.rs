//! The target for pictures.

use grimace::data::images::PIXELS;
use grimace::data::picture::{Picture, to_face};

/// A file that may be a picture.
///
/// A decoded picture has pixels, is as large in gray and in color, and becomes a face.
pub fn picture(data: &[u8]) {
    let picture = match Picture::decode(data) {
        Ok(picture) => picture,
        Err(error) => return assert!(!format!("{error:#}").is_empty()),
    };
    let size = picture.size();
    assert!(size.0 > 0 && size.1 > 0);
    assert_eq!(picture.clone().into_rgb().dimensions(), size);
    let gray = picture.into_gray();
    assert_eq!(gray.dimensions(), size);
    assert_eq!(to_face(gray).expect("a picture with pixels becomes a face").len(), PIXELS);
}
