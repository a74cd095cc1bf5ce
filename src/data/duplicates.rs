//! Exact duplicates: images with equal hashes.

use std::collections::HashSet;

use super::images::ImageHash;

/// Returns a mask `[N]` that is true for images in `reference`, usually the training images.
pub fn duplicate_mask(hashes: &[ImageHash], reference: &HashSet<ImageHash>) -> Vec<bool> {
    hashes.iter().map(|hash| reference.contains(hash)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_marks_images_in_the_reference() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| ImageHash::new(bytes));
        assert_eq!(duplicate_mask(&[a, b, a], &HashSet::from([a, c])), [true, false, true]);
        assert!(duplicate_mask(&[], &HashSet::from([a])).is_empty());
    }
}
