//! Packed files of images (`.faces`): pixels and columns in one file that opens at once, whatever its
//! size, and whose pixels need not fit into memory. ARCHITECTURE.md describes the format.
//!
//! Opening checks the preamble and the index. Every other section is checked against its checksum when
//! it is read, and every image against its hash.

mod format;
mod reader;
mod text_section;
mod votes;
mod writer;

use std::path::Path;

use super::folder;
use super::label_map::LabelNames;

pub use format::is_packed;
pub use reader::{PackedFile, read_allow_empty};
pub use votes::{PackedVotes, read_votes};
pub use writer::{PackDetails, PackWriter};

/// The classes of a packed file if a config lists none: those that it names, in its order, or those
/// that `names` makes of them. `None` if it is no packed file or has no labels; reading it says why.
pub fn default_classes(path: &Path, names: &LabelNames) -> Option<Vec<String>> {
    let classes = PackedFile::open(path).ok()?.classes().to_vec();
    if classes.is_empty() {
        return None;
    }
    if names.is_classes() { Some(classes) } else { folder::classes_of_labels(classes, names) }
}

#[cfg(test)]
mod tests;
