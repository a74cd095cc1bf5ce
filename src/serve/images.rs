//! From files to faces: decoding, finding faces, cropping. Work of milliseconds and more runs on a
//! bounded number of threads, and its memory and time are bounded by the headers of the files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use face_detect::{Detector, Face, Options};

use super::api_error::{ApiError, ApiResult};
use super::batch_queue::Pending;
use super::memory::HeldMemory;
use super::state::{Held, State};
use super::upload::{INLINE_BYTES, Upload};
use crate::data::images::{PIXELS, SIDE};
use crate::data::photos::find_in_picture_until;
use crate::data::picture::{Picture, TooManyPixels, to_face};
use crate::data::picture_header::PictureHeader;

/// Images up to this size are decoded at once: it takes less time than a change of threads.
const SMALL_BYTES: usize = 16 << 10;
const SMALL_PIXELS: u64 = 64 * 64;

/// Where the faces are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Search {
    /// Each image is a face.
    Whole,
    /// Faces are found.
    Detect(Options),
}

/// An image, and its faces.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PreparedImage {
    pub name: Option<String>,
    /// In pixels.
    pub width: u32,
    pub height: u32,
    /// `None`: the image as a whole is one face.
    pub faces: Option<Vec<Face>>,
}

/// The images of a request, ready for the model.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub images: Vec<PreparedImage>,
    /// All their faces in turn: uint8 [faces, 48, 48].
    pub pixels: Vec<u8>,
    /// That they are about to come.
    pub pending: Option<Pending>,
}

impl Prepared {
    /// Faces that came as pixels.
    pub fn from_pixels(pixels: Vec<u8>) -> Self {
        let side = SIDE as u32;
        let one = PreparedImage { name: None, width: side, height: side, faces: None };
        Self { images: vec![one; pixels.len() / PIXELS], pixels, pending: None }
    }

    /// Adds an image that is a face.
    fn push_whole(&mut self, upload: &Upload, picture: Picture) -> ApiResult<()> {
        let (width, height) = picture.size();
        let face =
            to_face(picture.into_gray()).map_err(|error| ApiError::bad_request(named(upload, &error.to_string())))?;
        self.images.push(PreparedImage { name: upload.name.clone(), width, height, faces: None });
        self.pixels.extend(face);
        Ok(())
    }
}

/// Decodes files and finds their faces. What the request holds comes back without the memory of its
/// body.
///
/// # Errors
/// 413 for too many pixels, 400 for a file that is no image, 501 without a detector.
pub(super) async fn prepare(
    state: &Arc<State>,
    uploads: Vec<Upload>,
    search: Search,
    held: Held,
) -> ApiResult<(Prepared, Held)> {
    if let (Search::Whole, [upload]) = (search, uploads.as_slice())
        && upload.bytes.len() <= SMALL_BYTES
        && let Some(prepared) = prepare_small(upload, state.options.max_pixels)?
    {
        return Ok((prepared, Held { memory: HeldMemory::default(), ..held }));
    }
    let (uploads, held, decoding_bytes) = check_headers(state, uploads, search, held).await?;
    let decoding = state.decoding_memory.acquire(decoding_bytes).await?;
    let stop = StopOnDrop(Arc::default());
    let (flag, shared) = (Arc::clone(&stop.0), Arc::clone(state));
    // All that the request holds moves into the work, which goes on for a moment if the client goes.
    let work = move || -> ApiResult<(Prepared, Held)> {
        let pending = matches!(search, Search::Whole).then(|| shared.batcher.announce()).flatten();
        let prepared = prepare_all(&shared, &uploads, search, &flag);
        drop((uploads, decoding));
        let Held { admitted, memory } = held;
        drop(memory);
        Ok((Prepared { pending, ..prepared? }, Held { admitted, memory: HeldMemory::default() }))
    };
    state.run_blocking(work).await?
}

/// Ends work whose request is gone.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Decodes a small file that is a face on this thread; `None` for an image that is large even so.
fn prepare_small(upload: &Upload, max_pixels: u64) -> ApiResult<Option<Prepared>> {
    let decode = || match Picture::decode_within(&upload.bytes, SMALL_PIXELS.min(max_pixels)) {
        Err(error) if error.is::<TooManyPixels>() => Ok(None),
        Err(error) => Err(refuse(upload, &error, max_pixels)),
        Ok(picture) => {
            let mut prepared = Prepared::default();
            prepared.push_whole(upload, picture).map(|()| Some(prepared))
        }
    };
    without_panic(decode)
}

/// Runs work on a thread for many requests, where a panic of a decoder would end the connection without
/// a response.
fn without_panic<T>(work: impl FnOnce() -> ApiResult<T>) -> ApiResult<T> {
    // What the work has changed is dropped.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(ApiError::internal()))
}

/// Checks the images of a request by their headers; returns the memory that decoding takes as well.
async fn check_headers(
    state: &Arc<State>,
    uploads: Vec<Upload>,
    search: Search,
    held: Held,
) -> ApiResult<(Vec<Upload>, Held, u64)> {
    let max_pixels = state.options.max_pixels;
    let total: usize = uploads.iter().map(|upload| upload.bytes.len()).sum();
    let check = move || decoding_bytes(&uploads, search, max_pixels).map(|bytes| (uploads, held, bytes));
    if total <= INLINE_BYTES { without_panic(check) } else { state.run_blocking(check).await? }
}

/// Memory for decoding the images of a request one after the other, in bytes.
///
/// # Errors
/// 413 if they have too many pixels together, or searching them for faces takes too long; 400 for a
/// file that is no image.
fn decoding_bytes(uploads: &[Upload], search: Search, max_pixels: u64) -> ApiResult<u64> {
    let (mut pixels_left, mut effort_left, mut bytes) = (max_pixels, max_pixels, 0);
    for upload in uploads {
        let header =
            PictureHeader::read(&upload.bytes, pixels_left).map_err(|error| refuse(upload, &error, max_pixels))?;
        pixels_left = pixels_left.saturating_sub(header.pixels());
        effort_left = match effort_left.checked_sub(effort(&header, search)) {
            Some(left) => left,
            None => return Err(too_much_effort(upload, search)),
        };
        bytes = bytes.max(header.decoding_bytes);
    }
    Ok(bytes)
}

/// The number of pixels that take as much time as an image, if faces of the default size are searched.
fn effort(header: &PictureHeader, search: Search) -> u64 {
    let scale = match search {
        Search::Whole => 1.0,
        Search::Detect(options) => f64::from(Options::default().min_face / options.min_face).max(1.0),
    };
    (header.pixels() as f64 * scale * scale).ceil() as u64
}

fn too_much_effort(upload: &Upload, search: Search) -> ApiError {
    let min_face = match search {
        Search::Whole => Options::default().min_face,
        Search::Detect(options) => options.min_face,
    };
    let problem = format!(
        "the images of the request have too many pixels to be searched for faces of {min_face} pixels; use a larger \
         min_face, or send fewer images"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, named(upload, &problem))
}

/// Decodes images whose headers are checked.
fn prepare_all(state: &State, uploads: &[Upload], search: Search, stop: &AtomicBool) -> ApiResult<Prepared> {
    let max_pixels = state.options.max_pixels;
    let mut all = Prepared::default();
    for upload in uploads {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let picture =
            Picture::decode_within(&upload.bytes, max_pixels).map_err(|error| refuse(upload, &error, max_pixels))?;
        match (search, &state.detector) {
            (Search::Whole, _) => all.push_whole(upload, picture)?,
            (Search::Detect(options), Ok(detector)) => {
                let (image, crops) = detect(upload, &picture, detector, &options, stop)?;
                all.images.push(image);
                all.pixels.extend(crops);
            }
            (Search::Detect(_), Err(problem)) => return Err(no_detector(problem)),
        }
    }
    Ok(all)
}

fn detect(
    upload: &Upload,
    picture: &Picture,
    detector: &Detector,
    options: &Options,
    stop: &AtomicBool,
) -> ApiResult<(PreparedImage, Vec<u8>)> {
    let (width, height) = picture.size();
    let found = find_in_picture_until(picture, detector, options, || stop.load(Ordering::Relaxed));
    let (faces, crops) = found.map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok((PreparedImage { name: upload.name.clone(), width, height, faces: Some(faces) }, crops))
}

/// The error of a request for faces without a detector.
pub(super) fn no_detector(problem: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("faces=detect: {}", without_places(problem)))
}

/// Why there is no detector, without the folders of this machine where it was looked for: these are for
/// the log, not for clients.
pub(super) fn without_places(problem: &str) -> &str {
    problem.split(" (looked in").next().unwrap_or_default()
}

fn refuse(upload: &Upload, error: &anyhow::Error, max_pixels: u64) -> ApiError {
    match error.downcast_ref::<TooManyPixels>() {
        Some(TooManyPixels { width, height, .. }) => {
            let megapixels = max_pixels as f64 / 1e6;
            let problem = format!(
                "has {width} x {height} pixels; the images of a request may have {megapixels} megapixels together"
            );
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, named(upload, &problem))
        }
        None => ApiError::bad_request(named(upload, &error.to_string())),
    }
}

/// A problem with the name of its file.
fn named(upload: &Upload, problem: &str) -> String {
    format!("{}: {problem}", upload.name.as_deref().unwrap_or("the image"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(width: u32, height: u32) -> Upload {
        let mut png = std::io::Cursor::new(Vec::new());
        image::DynamicImage::new_luma8(width, height).write_to(&mut png, image::ImageFormat::Png).unwrap();
        Upload { name: None, bytes: png.into_inner().into() }
    }

    #[test]
    fn the_effort_of_all_images_of_a_request_counts() {
        let check = |uploads: &[Upload], search| {
            decoding_bytes(uploads, search, 4_000_000).map_err(|error| error.status.as_u16())
        };
        let detect = |min_face| Search::Detect(Options { min_face, ..Options::default() });
        let one = [upload(1000, 1000)];
        // Pixels twice, and four bytes.
        assert_eq!(check(&one, detect(32.0)), Ok(6_000_000));
        assert!(check(&one, detect(1000.0)).is_ok() && check(&one, detect(16.0)).is_ok());
        assert_eq!(check(&one, detect(15.0)), Err(413));
        let four = [0; 4].map(|_| upload(1000, 1000));
        assert!(check(&four, Search::Whole).is_ok() && check(&four, detect(32.0)).is_ok());
        assert_eq!(check(&four, detect(31.0)), Err(413));
        assert_eq!(check(&[&four[..], &[upload(1, 1)]].concat(), Search::Whole), Err(413));
    }

    #[test]
    fn a_panic_is_an_error_of_the_service() {
        let error = without_panic::<()>(|| panic!("a panic of a decoder")).unwrap_err();
        assert_eq!(error.status, 500);
        let (png, other) = (upload(48, 48), upload(65, 64));
        assert_eq!(prepare_small(&png, 1_000_000).unwrap().unwrap().images.len(), 1);
        assert!(prepare_small(&other, 1_000_000).unwrap().is_none());
    }
}
