//! The pixels of images: in memory, or in a packed file, from which they are read when they are
//! needed.
//!
//! A packed file is read, not mapped: an image that cannot be read is then an error and not a signal
//! that ends the process, and pages of the file do not count as memory of the process. The system's
//! page cache holds them in both cases.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::images::{ImageHash, PIXELS};
use crate::util::error::input;

/// Images that are read from a file at a time.
const BLOCK: usize = 512;

/// The pixels of images, or of a selection of them. Clones and selections share them.
#[derive(Clone)]
pub struct Pixels {
    store: Store,
    /// Positions in the store; `None` is all of it.
    selection: Option<Arc<Vec<u32>>>,
}

#[derive(Clone)]
enum Store {
    Memory(Arc<Vec<u8>>),
    File(Arc<PixelFile>),
}

/// Pixels in a file, whose images are checked against their hashes when they are read.
pub struct PixelFile {
    /// The open file.
    pub file: File,
    /// Its name, for messages.
    pub name: String,
    /// Offset of the first image.
    pub start: u64,
    /// `[N]` hash of each image.
    pub hashes: Vec<ImageHash>,
}

impl PixelFile {
    /// Reads the images from `first` on into `out`, which is whole images.
    ///
    /// # Errors
    /// An I/O error, or an input error for an image that does not match its hash.
    fn read(&self, first: usize, out: &mut [u8]) -> Result<()> {
        let offset = self.start + (first * PIXELS) as u64;
        self.file.read_exact_at(out, offset).with_context(|| format!("{}: cannot be read", self.name))?;
        let hashes = self.hashes.get(first..).unwrap_or_default();
        match out.chunks_exact(PIXELS).zip(hashes).position(|(image, hash)| ImageHash::new(image) != *hash) {
            None => Ok(()),
            Some(index) => Err(input(format!(
                "{}: image {} does not match its hash: the file is corrupt; restore it from a copy, or pack it again",
                self.name,
                first + index
            ))),
        }
    }
}

impl Pixels {
    /// Pixels in a file.
    pub fn from_file(file: PixelFile) -> Self {
        Self { store: Store::File(Arc::new(file)), selection: None }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match (&self.selection, &self.store) {
            (Some(selection), _) => selection.len(),
            (None, Store::Memory(bytes)) => bytes.len() / PIXELS,
            (None, Store::File(file)) => file.hashes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether they are in a file.
    pub fn is_in_file(&self) -> bool {
        matches!(self.store, Store::File(_))
    }

    /// The images at `positions`, in that order; without those out of range.
    pub fn select(&self, positions: &[usize]) -> Self {
        let count = self.len();
        let stored = |position: &usize| self.position(*position).and_then(|stored| u32::try_from(stored).ok());
        let selection = positions.iter().filter(|position| **position < count).filter_map(stored).collect();
        Self { store: self.store.clone(), selection: Some(Arc::new(selection)) }
    }

    /// Appends images that are in memory.
    ///
    /// # Errors
    /// If these are a selection or in a file.
    pub fn append(&mut self, more: &[u8]) -> Result<()> {
        match (&mut self.store, &self.selection) {
            (Store::Memory(bytes), None) => Arc::make_mut(bytes).extend_from_slice(more),
            _ => bail!("images cannot be added to a selection"),
        }
        Ok(())
    }

    /// The pixels of image `index`, row-major.
    ///
    /// # Errors
    /// An image out of range; those of a file.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.range(index, 1)
    }

    /// The pixels of all images, row-major: a copy unless they are all of those in memory.
    ///
    /// # Errors
    /// Those of a file.
    pub fn all(&self) -> Result<Cow<'_, [u8]>> {
        self.range(0, self.len())
    }

    /// The pixels in blocks of `size` images, from 1; the last may have fewer.
    pub fn blocks(&self, size: usize) -> impl Iterator<Item = Result<Cow<'_, [u8]>>> {
        let count = self.len();
        (0..count).step_by(size.max(1)).map(move |start| self.range(start, size.min(count - start)))
    }

    fn range(&self, start: usize, count: usize) -> Result<Cow<'_, [u8]>> {
        if let (Store::Memory(bytes), None) = (&self.store, &self.selection) {
            let range = bytes.get(start * PIXELS..(start + count) * PIXELS);
            return Ok(Cow::Borrowed(range.with_context(|| format!("there is no image {start}"))?));
        }
        let mut pixels = vec![0; count * PIXELS];
        self.copy(start..start + count, &mut pixels)?;
        Ok(Cow::Owned(pixels))
    }

    /// Copies the images at `positions` to `out`, which has 2304 bytes for each.
    ///
    /// # Errors
    /// An image out of range; those of a file.
    pub fn copy(&self, positions: impl IntoIterator<Item = usize>, out: &mut [u8]) -> Result<()> {
        let mut positions = positions.into_iter().map(|position| {
            self.position(position).with_context(|| format!("there is no image {position} of {}", self.len()))
        });
        let mut rest = out;
        let mut next = positions.next().transpose()?;
        while let Some(first) = next {
            // Adjacent images are read at once.
            let mut count = 1;
            next = positions.next().transpose()?;
            while next == Some(first + count) && count < BLOCK {
                count += 1;
                next = positions.next().transpose()?;
            }
            let (images, others) = rest.split_at_mut_checked(count * PIXELS).context("more images than room")?;
            match &self.store {
                Store::Memory(bytes) => {
                    let range = bytes.get(first * PIXELS..(first + count) * PIXELS);
                    images.copy_from_slice(range.context("pixels are missing")?);
                }
                Store::File(file) => file.read(first, images)?,
            }
            rest = others;
        }
        Ok(())
    }

    /// The position of image `index` in the store.
    fn position(&self, index: usize) -> Option<usize> {
        match &self.selection {
            Some(selection) => selection.get(index).map(|position| *position as usize),
            None => Some(index).filter(|index| *index < self.len()),
        }
    }
}

impl Default for Pixels {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<u8>> for Pixels {
    /// uint8 [N, 48, 48], row-major.
    fn from(bytes: Vec<u8>) -> Self {
        Self { store: Store::Memory(Arc::new(bytes)), selection: None }
    }
}

/// Compares the pixels, wherever they are. Images that cannot be read equal none.
impl PartialEq for Pixels {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.all(), other.all()), (Ok(one), Ok(other)) if one == other)
    }
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pixels({} images)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_of_memory_and_of_a_file_are_the_same() {
        let bytes: Vec<u8> = (0..600).flat_map(|image: usize| vec![(image % 251) as u8; PIXELS]).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pixels");
        fs_err::write(&path, [&b"start"[..], &bytes].concat()).unwrap();
        let hashes = bytes.chunks(PIXELS).map(ImageHash::new).collect();
        let file = PixelFile { file: File::open(&path).unwrap(), name: "x.faces".into(), start: 5, hashes };
        let (memory, file) = (Pixels::from(bytes.clone()), Pixels::from_file(file));
        assert!(memory == file && file.is_in_file() && !memory.is_in_file());
        assert!(matches!(memory.all().unwrap(), Cow::Borrowed(all) if all == bytes));
        assert_eq!(file.blocks(256).map(|block| block.unwrap().len() / PIXELS).collect::<Vec<_>>(), [256, 256, 88]);
        let positions = [7, 8, 9, 3, 599, 600, 7];
        let (some, others) = (memory.select(&positions), file.select(&positions));
        assert_eq!((some.len(), others.len()), (6, 6), "there is no image 600");
        assert_eq!(some, others);
        let first = |pixels: &Pixels| (0..pixels.len()).map(|i| pixels.image(i).unwrap()[0]).collect::<Vec<_>>();
        assert_eq!(first(&some), [7, 8, 9, 3, 97, 7]);
        assert_eq!(first(&others.select(&[4, 0])), [97, 7], "a selection of a selection");
        assert!(some.image(6).is_err() && memory.image(600).is_err() && file.image(600).is_err());
        assert!(some.copy([0, 1], &mut [0; PIXELS]).is_err(), "no room");
    }

    #[test]
    fn an_image_that_was_changed_in_its_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pixels");
        let mut bytes = vec![1u8; 3 * PIXELS];
        let hashes: Vec<_> = bytes.chunks(PIXELS).map(ImageHash::new).collect();
        bytes[PIXELS + 7] = 2;
        fs_err::write(&path, &bytes).unwrap();
        let open =
            || PixelFile { file: File::open(&path).unwrap(), name: "x.faces".into(), start: 0, hashes: hashes.clone() };
        let pixels = Pixels::from_file(open());
        assert!(pixels.image(0).is_ok());
        let message = format!("{:#}", pixels.all().unwrap_err());
        assert!(message.starts_with("x.faces: image 1 does not match its hash"), "{message}");
        fs_err::write(&path, &bytes[..PIXELS]).unwrap();
        assert!(format!("{:#}", Pixels::from_file(open()).image(2).unwrap_err()).contains("cannot be read"));
    }
}
