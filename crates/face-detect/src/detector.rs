//! The detector: a pyramid of few levels, each cut into tiles if it is large.

use std::path::Path;

use simd::Isa;

use crate::decode::decode;
use crate::face::best;
use crate::network::{GRID, Mode, Network, Plane};
use crate::{Error, Face, Picture};

/// Size in pixels of the network's input that the smallest faces get.
///
/// Measured on pages of pasted faces: recall is about 0.9 with 32 pixels and 0.7 with 24.
const SMALLEST: f32 = 32.0;

/// Each level has this many pixels of the next, in both directions. The network finds faces from
/// [`SMALLEST`] to ten times that, so that every face is found well on at least one level.
const RATIO: f32 = 4.0;

/// The last level is the first whose longer side is not longer than this.
const LAST: f32 = 256.0;

/// The longest side of a tile in pixels of the network's input, to bound memory at about 300 MB.
const TILE: usize = 1536;

/// What neighboring tiles have in common, in pixels of the network's input. Half of it is more than the
/// network sees around a face, and larger faces are found on the next level.
const COMMON: usize = 256;

/// Faces down to this fraction of the smallest size are returned, because boxes are not exact.
const TOLERANCE: f32 = 0.75;

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Size of the smallest faces to find, in pixels of the picture: the side of
    /// [`Face::crop_square`]. From 8 pixels on; 32 by default. Faces under three quarters of it are left
    /// out. The time is proportional to the inverse of its square.
    pub min_face: f32,
    /// Lowest score of a face, greater than 0 and less than 1; 0.32 by default. Higher: fewer wrong
    /// finds; lower: fewer faces missed.
    pub threshold: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { min_face: 32.0, threshold: 0.32 }
    }
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        if !(8.0..=1e6).contains(&self.min_face) {
            return Err(Error::Options(format!(
                "the smallest face must be 8 to 1,000,000 pixels, not {}",
                self.min_face
            )));
        }
        if !(self.threshold > 0.0 && self.threshold < 1.0) {
            return Err(Error::Options(format!("the threshold must lie between 0 and 1, not at {}", self.threshold)));
        }
        Ok(())
    }
}

/// The time of a layer of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTime {
    /// Which layer.
    pub name: String,
    /// Its time.
    pub seconds: f64,
    /// Its multiplications, each with an addition.
    pub products: usize,
}

/// Finds faces. Can be used from several threads at once.
#[derive(Debug, Clone)]
pub struct Detector {
    network: Network,
    mode: Mode,
}

impl Detector {
    /// Reads the weights from `centerface.onnx`; [`find_weights`](crate::find_weights) finds it.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read, [`Error::Weights`] if it is another network.
    pub fn open(weights: &Path) -> Result<Self, Error> {
        Self::from_bytes(&fs_err::read(weights)?)
    }

    /// Reads the weights from the bytes of `centerface.onnx`.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are another network.
    pub fn from_bytes(weights: &[u8]) -> Result<Self, Error> {
        Ok(Self { network: Network::parse(weights)?, mode: Mode { isa: Isa::detect(), bf16: false } })
    }

    /// Uses another instruction set than the best of this processor: `None` is plain Rust, as is one that
    /// it lacks.
    #[must_use]
    pub fn with_isa(mut self, isa: Option<Isa>) -> Self {
        self.mode = Mode { isa, bf16: self.mode.bf16 && simd::has_bf16(isa) };
        self
    }

    /// Rounds the factors of the blocks' matrix products to bfloat16 where the instruction set has
    /// products of these (AVX-512 BF16); elsewhere it changes nothing. Boxes and scores change a little:
    /// the README has figures. It halves the arithmetic on AMD's processors. Intel's take longer: they
    /// compute such products at half the speed of float32.
    #[must_use]
    pub fn with_bf16(mut self) -> Self {
        self.mode.bf16 = simd::has_bf16(self.mode.isa);
        self
    }

    /// Whether products are rounded to bfloat16.
    pub fn is_bf16(&self) -> bool {
        self.mode.bf16
    }

    /// Finds the faces of a picture, with descending scores.
    ///
    /// Any size will do: nothing is found in an empty picture, and a large one is worked on in tiles.
    ///
    /// # Errors
    /// [`Error::Options`] if an option is out of its range.
    pub fn detect(&self, picture: Picture<'_>, options: &Options) -> Result<Vec<Face>, Error> {
        self.detect_until(picture, options, || false)
    }

    /// Finds the faces of a picture like [`detect`](Self::detect). `stop` is called before each tile of
    /// at most 1536 x 1536 pixels; once it returns true, the search ends without faces.
    ///
    /// # Errors
    /// [`Error::Options`] if an option is out of its range.
    pub fn detect_until(
        &self,
        picture: Picture<'_>,
        options: &Options,
        stop: impl Fn() -> bool,
    ) -> Result<Vec<Face>, Error> {
        options.check()?;
        let mut faces = Vec::new();
        for scale in levels(picture.width(), picture.height(), options.min_face) {
            for y in tiles(scaled(picture.height(), scale)) {
                for x in tiles(scaled(picture.width(), scale)) {
                    if stop() {
                        return Ok(Vec::new());
                    }
                    faces.extend(self.tile(picture, scale, x, y, options.threshold));
                }
            }
        }
        // The network also finds smaller faces, but not reliably, and with coarse boxes.
        faces.retain(|face| face.crop_square().side >= TOLERANCE * options.min_face);
        Ok(best(faces))
    }

    /// Runs the network on random pixels, `width` by `height`, as often as `rounds` says. Returns the
    /// shortest time of each layer by `clock`, in seconds, for measurements.
    pub fn time_layers(&self, width: usize, height: usize, rounds: usize, clock: impl Fn() -> f64) -> Vec<LayerTime> {
        let mut picture = Plane::zeros(height.next_multiple_of(GRID), width.next_multiple_of(GRID), 3);
        for (i, value) in picture.data.iter_mut().enumerate() {
            *value = (i.wrapping_mul(2_654_435_761) >> 7 & 0xff) as f32;
        }
        let mut best: Vec<LayerTime> = Vec::new();
        for _ in 0..rounds {
            let mut times = Vec::new();
            let mut start = clock();
            self.network.run_observed(picture.clone(), self.mode, |name, products| {
                times.push(LayerTime { name, seconds: clock() - start, products });
                start = clock();
            });
            if best.is_empty() {
                best = times;
            } else {
                for (best, time) in best.iter_mut().zip(times) {
                    best.seconds = best.seconds.min(time.seconds);
                }
            }
        }
        best
    }

    /// Finds the faces of one tile whose centers lie in its core.
    fn tile(&self, picture: Picture<'_>, scale: f32, x: Tile, y: Tile, threshold: f32) -> Vec<Face> {
        let start = (x.start as f32 / scale, y.start as f32 / scale);
        let input = picture.resample(start, scale.recip(), x.length, y.length);
        let mut faces = decode(&self.network.run(color(input), self.mode), threshold);
        faces.retain(|face| x.core(face.x + face.width / 2.0) && y.core(face.y + face.height / 2.0));
        for face in &mut faces {
            face.x = start.0 + face.x / scale;
            face.y = start.1 + face.y / scale;
            face.width /= scale;
            face.height /= scale;
        }
        faces
    }
}

/// The scales of the pyramid, from fine to coarse. None for an empty picture.
fn levels(width: usize, height: usize, min_face: f32) -> Vec<f32> {
    let (longer, mut scale) = (width.max(height) as f32, SMALLEST / min_face);
    if width == 0 || height == 0 {
        return Vec::new();
    }
    let mut scales = vec![scale];
    while longer * scale > LAST {
        scale /= RATIO;
        scales.push(scale);
    }
    scales
}

/// The length of a side at a scale, at least one pixel.
fn scaled(length: usize, scale: f32) -> usize {
    ((length as f64 * f64::from(scale)).ceil() as usize).max(1)
}

/// One axis of a tile, in pixels of the network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tile {
    start: usize,
    /// A multiple of the network's grid.
    length: usize,
    /// Whether there is a tile before and behind.
    neighbors: [bool; 2],
}

impl Tile {
    /// Whether a face with its center here belongs to this tile and not to a neighbor.
    fn core(&self, center: f32) -> bool {
        let half = COMMON as f32 / 2.0;
        (!self.neighbors[0] || center >= half) && (!self.neighbors[1] || center < self.length as f32 - half)
    }
}

fn tiles(length: usize) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut start = 0;
    loop {
        let last = length - start <= TILE;
        let size = if last { (length - start).next_multiple_of(GRID) } else { TILE };
        tiles.push(Tile { start, length: size, neighbors: [start > 0, !last] });
        if last {
            return tiles;
        }
        start += TILE - COMMON;
    }
}

/// Three channels out of one; the network knows only color.
fn color(plane: Plane) -> Plane {
    if plane.channels == 3 {
        return plane;
    }
    Plane { channels: 3, data: plane.data.iter().flat_map(|&value| [value; 3]).collect(), ..plane }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_everything_once() {
        for length in [1, 31, 32, 1000, TILE, TILE + 1, 5000, 20_001] {
            let tiles = tiles(length);
            for position in 0..length {
                let owners = tiles.iter().filter(|tile| {
                    position >= tile.start
                        && position < tile.start + tile.length
                        && tile.core((position - tile.start) as f32)
                });
                assert_eq!(owners.count(), 1, "{length} {position}");
            }
            assert!(tiles.iter().all(|tile| tile.length <= TILE && tile.length.is_multiple_of(GRID)));
        }
    }

    #[test]
    fn levels_end_with_the_whole_picture_at_a_glance() {
        assert_eq!(levels(0, 10, 40.0), []);
        assert_eq!(levels(100, 100, 40.0), [0.8]);
        assert_eq!(levels(4000, 3000, 32.0), [1.0, 0.25, 0.0625]);
        assert!(levels(usize::MAX, 1, 8.0).len() < 40);
    }

    #[test]
    fn options_out_of_range_are_errors() {
        for min_face in [7.9, -1.0, f32::NAN, f32::INFINITY] {
            assert!(Options { min_face, ..Options::default() }.check().is_err());
        }
        for threshold in [0.0, 1.0, f32::NAN] {
            assert!(Options { threshold, ..Options::default() }.check().is_err());
        }
        assert!(Options::default().check().is_ok());
    }
}
