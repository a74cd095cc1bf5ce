//! The page of the service and of `grimace export --web`, in Chromium.

mod server;
mod service;
mod web;

use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageBuffer, Rgb, RgbImage};

use crate::browser::Browser;
use crate::common::{good, workshop};

/// Keys: name, code and number.
const TAB: (&str, &str, u32) = ("Tab", "Tab", 9);
const SPACE: (&str, &str, u32) = (" ", "Space", 32);
const ENTER: (&str, &str, u32) = ("Enter", "Enter", 13);
const RIGHT: (&str, &str, u32) = ("ArrowRight", "ArrowRight", 39);

/// Whether the page can start, or cannot at all.
const READY: &str =
    "document.getElementById('file')?.disabled === false || document.getElementById('error')?.hidden === false";

/// Whether a result is there, or an error.
const DONE: &str = "!document.getElementById('answer').classList.contains('none') || \
     !document.getElementById('hint').hidden || !document.getElementById('error').hidden";

/// The probabilities on the page, by class, as they were computed.
const BARS: &str = "Object.fromEntries([...document.querySelectorAll('#bars tr')].map(row => \
     [row.querySelector('th').textContent, Number(row.querySelector('data').value)]))";

/// Pictures of synthetic faces, 48x48, in a folder, in the order of their names.
fn faces() -> Vec<PathBuf> {
    let folder = workshop().join("pictures");
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        good(workshop(), &["data", "convert", "data/my_emotion_train.csv", "pictures"]);
    });
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "png"))
        .collect();
    found.sort();
    found
}

/// A synthetic face, enlarged, on a plain page of 640x480 pixels, its left upper corner at (x, y).
fn scene(face: &Path, x: i64, y: i64) -> RgbImage {
    let face = image::open(face).unwrap().into_luma8();
    let face: GrayImage = image::imageops::resize(&face, 240, 240, image::imageops::FilterType::CatmullRom);
    let mut scene: RgbImage = ImageBuffer::from_pixel(640, 480, Rgb([118, 122, 128]));
    image::imageops::replace(&mut scene, &DynamicImage::ImageLuma8(face).into_rgb8(), x, y);
    scene
}

/// A video for the browser's fake camera: a face that moves to and fro.
fn video(path: &Path, face: &Path) {
    let mut bytes = Vec::new();
    for step in [0, 10, 20, 30, 20, 10] {
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 92);
        scene(face, 180 + step, 120).write_with_encoder(encoder).unwrap();
    }
    fs_err::write(path, bytes).unwrap();
}

/// Presses Tab until the element with this id has the focus.
fn tab_to(browser: &mut Browser, id: &str) {
    for _ in 0..20 {
        if browser.value("document.activeElement.id") == id {
            return;
        }
        browser.press(TAB);
    }
    panic!("Tab does not lead to {id}");
}

/// Everything that was requested came from `origin`, and nothing was printed, such as a violation of the
/// page's policy. Chromium itself prints that a service was busy.
fn check_quiet(browser: Browser, origin: &str) {
    let printed: Vec<_> = browser.console().iter().filter(|line| !line.contains("status of 503")).collect();
    assert!(printed.is_empty(), "{printed:?}");
    let requested = browser.close();
    assert!(requested.iter().any(|url| url.ends_with("/assets/main.js")), "{requested:?}");
    let others: Vec<_> = requested.iter().filter(|url| !url.starts_with(origin)).collect();
    assert!(others.is_empty(), "{others:?}");
}
