//! Measures the detector on the pages of `scripts/pages.py`, beside rustface.
//!
//!   cargo run --release --example measure -- fit PAGES      the margin of the crop
//!   cargo run --release --example measure -- table PAGES [MIN_FACE [THRESHOLD]]   recall, precision, agreement
//!   cargo run --release --example measure -- sweep PAGES    recall and precision by threshold
//!   cargo run --release --example measure -- time PAGES [ROUNDS]   seconds per megapixel
//!
//! A find counts if its square crop overlaps a pasted square that no better find took by an IoU of at
//! least 0.4. RUSTFACE_MODEL names rustface's seeta_fd_frontal_v1.0.bin; without it, rustface is left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use face_detect::{Detector, Face, Options, Picture, Square, find_weights};

/// A page with the squares that were pasted into it.
struct Page {
    name: String,
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
    truth: Vec<Square>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let bytes = fs_err::read(path).unwrap();
        let header: Vec<String> = bytes
            .split(u8::is_ascii_whitespace)
            .take(4)
            .map(|word| String::from_utf8(word.to_vec()).unwrap())
            .collect();
        let start = header.iter().map(|word| word.len() + 1).sum();
        let truth = fs_err::read_to_string(path.with_extension("txt")).unwrap();
        let squares = truth.lines().map(|line| {
            let numbers: Vec<f32> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            Square { x: numbers[0], y: numbers[1], side: numbers[2] }
        });
        Self {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            width: header[1].parse().unwrap(),
            height: header[2].parse().unwrap(),
            channels: if header[0] == "P6" { 3 } else { 1 },
            pixels: bytes[start..].to_vec(),
            truth: squares.collect(),
        }
    }

    fn picture(&self) -> Picture<'_> {
        let new = if self.channels == 3 { Picture::rgb } else { Picture::gray };
        new(&self.pixels, self.width, self.height).unwrap()
    }

    fn gray(&self) -> Vec<u8> {
        if self.channels == 1 {
            return self.pixels.clone();
        }
        self.pixels
            .chunks_exact(3)
            .map(|p| ((299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2])) / 1000) as u8)
            .collect()
    }

    fn megapixels(&self) -> f64 {
        (self.width * self.height) as f64 / 1e6
    }
}

fn pages(folder: &str, prefix: &str) -> Vec<Page> {
    let mut paths: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "pgm" || e == "ppm"));
    paths.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

/// rustface as the issue that asked for this crate ran it.
fn rustface() -> Option<Box<dyn rustface::Detector>> {
    let mut detector = rustface::create_detector(&std::env::var("RUSTFACE_MODEL").ok()?).ok()?;
    detector.set_min_face_size(40);
    detector.set_score_thresh(2.0);
    detector.set_pyramid_scale_factor(0.8);
    detector.set_slide_window_step(4, 4);
    Some(detector)
}

fn rustface_squares(detector: &mut dyn rustface::Detector, gray: &[u8], page: &Page) -> Vec<Square> {
    let image = rustface::ImageData::new(gray, page.width as u32, page.height as u32);
    let mut faces = detector.detect(&image);
    faces.sort_by(|a, b| b.score().total_cmp(&a.score()));
    let square = |b: &rustface::Rectangle| Square { x: b.x() as f32, y: b.y() as f32, side: b.width() as f32 };
    faces.iter().map(|face| square(face.bbox())).collect()
}

fn iou(a: Square, b: Square) -> f32 {
    let along = |a0: f32, a1: f32, b0: f32, b1: f32| (a1.min(b1) - a0.max(b0)).max(0.0);
    let both = along(a.x, a.x + a.side, b.x, b.x + b.side) * along(a.y, a.y + a.side, b.y, b.y + b.side);
    both / (a.side * a.side + b.side * b.side - both)
}

/// The IoU of each find that counts, in order of the finds.
fn matches(found: &[Square], truth: &[Square]) -> Vec<f32> {
    let mut free: Vec<Square> = truth.to_vec();
    let mut out = Vec::new();
    for square in found {
        let best = (0..free.len()).max_by(|&a, &b| iou(*square, free[a]).total_cmp(&iou(*square, free[b])));
        if let Some(best) = best.filter(|&best| iou(*square, free[best]) >= 0.4) {
            out.push(iou(*square, free.swap_remove(best)));
        }
    }
    out
}

fn quantile(values: &mut [f32], q: f64) -> f32 {
    values.sort_by(f32::total_cmp);
    values.get(((values.len().saturating_sub(1)) as f64 * q) as usize).copied().unwrap_or(f32::NAN)
}

/// Detections, correct detections and faces of a group of pages, and the IoUs of the correct ones.
#[derive(Default)]
struct Group {
    found: usize,
    faces: usize,
    ious: Vec<f32>,
}

impl Group {
    fn add(&mut self, found: &[Square], truth: &[Square]) {
        self.found += found.len();
        self.faces += truth.len();
        self.ious.extend(matches(found, truth));
    }

    fn row(&mut self) -> String {
        let correct = self.ious.len();
        let [low, mid] = [0.1, 0.5].map(|q| quantile(&mut self.ious, q));
        let (recall, precision) =
            (correct as f64 / self.faces.max(1) as f64, correct as f64 / self.found.max(1) as f64);
        format!("{:5} | {recall:.3} | {precision:.3} | {mid:.2} ({low:.2})", self.faces)
    }
}

fn squares(faces: &[Face]) -> Vec<Square> {
    faces.iter().map(Face::crop_square).collect()
}

fn table(detector: &Detector, folder: &str, options: &Options) {
    let mut other = rustface();
    let mut groups: BTreeMap<(String, usize), [Group; 2]> = BTreeMap::new();
    println!(
        "{options:?}\nbackground | side | faces | recall | precision | IoU median (10 %) || the same for rustface"
    );
    for page in pages(folder, "") {
        let parts: Vec<_> = page.name.split('-').collect();
        let faces = detector.detect(page.picture(), options).unwrap();
        let theirs = other.as_mut().map(|o| rustface_squares(&mut **o, &page.gray(), &page)).unwrap_or_default();
        if page.truth.is_empty() {
            let shown: Vec<_> = faces
                .iter()
                .map(|f| format!("{:.0}x{:.0}+{:.0}+{:.0} {:.2}", f.width, f.height, f.x, f.y, f.score))
                .collect();
            println!("{}: {} [{}] || {}", page.name, faces.len(), shown.join(", "), theirs.len());
            continue;
        }
        for key in [parts[0], "all"].into_iter().filter(|k| *k != "all" || !parts[0].starts_with("rotated")) {
            let [ours, other] = groups.entry((key.to_owned(), parts[1].parse().unwrap())).or_default();
            ours.add(&squares(&faces), &page.truth);
            other.add(&theirs, &page.truth);
        }
    }
    for ((kind, side), [ours, other]) in &mut groups {
        println!("{kind:9} | {side:4} | {} || {}", ours.row(), other.row());
    }
}

/// Recall and precision over all pages with 48 to 384 pixels by threshold.
fn sweep(detector: &Detector, folder: &str) {
    for threshold in [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6] {
        let (mut small, mut rest, mut wrong) = (Group::default(), Group::default(), 0);
        for page in pages(folder, "") {
            let found =
                squares(&detector.detect(page.picture(), &Options { threshold, ..Options::default() }).unwrap());
            match page.truth.first() {
                Some(square) if square.side < 40.0 => {}
                Some(square) if square.side < 60.0 => small.add(&found, &page.truth),
                Some(_) => rest.add(&found, &page.truth),
                None if page.name.starts_with("none") => wrong += found.len(),
                None => {}
            }
        }
        println!(
            "{threshold}: 48 px {} || 64 to 384 px {} || in pictures without faces {wrong}",
            small.row(),
            rest.row()
        );
    }
}

/// The margin: pairs every pasted square with the find whose center it holds.
fn fit(detector: &Detector, folder: &str) {
    let mut pairs: Vec<(Face, Square)> = Vec::new();
    for page in pages(folder, "").iter().filter(|page| page.truth.iter().all(|s| s.side > 40.0)) {
        let faces = detector.detect(page.picture(), &Options::default()).unwrap();
        for square in &page.truth {
            let inside = |c: f32, start: f32| (start + 0.2 * square.side..start + 0.8 * square.side).contains(&c);
            let mut within = faces
                .iter()
                .filter(|f| inside(f.x + f.width / 2.0, square.x) && inside(f.y + f.height / 2.0, square.y));
            pairs.extend(within.next().map(|face| (*face, *square)));
        }
    }
    println!("{} pairs", pairs.len());
    let show = |name: &str, value: &dyn Fn(&Face, &Square) -> f32| {
        let mut values: Vec<f32> = pairs.iter().map(|(face, square)| value(face, square)).collect();
        let q = [0.05, 0.25, 0.5, 0.75, 0.95].map(|q| quantile(&mut values, q));
        println!("{name}: 5 % {:.3}, 25 % {:.3}, median {:.3}, 75 % {:.3}, 95 % {:.3}", q[0], q[1], q[2], q[3], q[4]);
    };
    let middle = |start: f32, length: f32| start + length / 2.0;
    show("side / mean of width and height", &|f, s| 2.0 * s.side / (f.width + f.height));
    show("side / root of the area", &|f, s| s.side / (f.width * f.height).sqrt());
    show("side / height", &|f, s| s.side / f.height);
    show("side / width", &|f, s| s.side / f.width);
    show("down, in heights", &|f, s| (middle(s.y, s.side) - middle(f.y, f.height)) / f.height);
    show("right, in widths", &|f, s| (middle(s.x, s.side) - middle(f.x, f.width)) / f.width);
    let agreement = |part: f32, scale: f32, down: f32| {
        let mut ious: Vec<f32> = pairs
            .iter()
            .map(|(f, s)| {
                let side = scale * (part * f.width + (1.0 - part) * f.height);
                let y = middle(f.y, f.height) + down * f.height - side / 2.0;
                iou(Square { x: middle(f.x, f.width) - side / 2.0, y, side }, *s)
            })
            .collect();
        let mean = ious.iter().sum::<f32>() / ious.len() as f32;
        (mean, quantile(&mut ious, 0.5), quantile(&mut ious, 0.1))
    };
    let grid = |from: f32, step: f32, count: u8| (0..count).map(move |i| from + step * f32::from(i));
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let all = grid(0.9, 0.025, 20).flat_map(|scale| grid(-0.08, 0.01, 13).map(move |down| (scale, down)));
        let best = all.max_by(|a, b| agreement(part, a.0, a.1).0.total_cmp(&agreement(part, b.0, b.1).0)).unwrap();
        println!(
            "{part} width + {} height: best by mean IoU: scale {:.3}, down {:.2}: IoU mean, median, 10 % {:.3?}",
            1.0 - part,
            best.0,
            best.1,
            agreement(part, best.0, best.1)
        );
    }
    for scale in [1.0, 1.05, 1.1, 1.125, 1.15, 1.2, 1.25, 1.3] {
        println!(
            "side {scale} times the mean, down -0.02: {:.3?}; 0: {:.3?}",
            agreement(0.5, scale, -0.02),
            agreement(0.5, scale, 0.0)
        );
    }
}

/// Processor time of all threads of this process in seconds.
fn processor_time() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    ticks.get(10..12).map_or(f64::NAN, |user_and_system| user_and_system.iter().sum::<f64>() / 100.0)
}

/// Wall and processor seconds per megapixel of `run` on all pages.
fn rounds(name: &str, pages: &[Page], rounds: usize, mut run: impl FnMut(&Page)) {
    let megapixels: f64 = pages.iter().map(Page::megapixels).sum();
    pages.iter().for_each(&mut run);
    let before = processor_time();
    let mut walls: Vec<f32> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            pages.iter().for_each(&mut run);
            (start.elapsed().as_secs_f64() / megapixels) as f32
        })
        .collect();
    let processor = (processor_time() - before) / rounds as f64 / megapixels;
    let q = [0.0, 0.5, 1.0].map(|q| quantile(&mut walls, q));
    println!(
        "{name}: {rounds} rounds of {megapixels:.2} MP: wall {:.4} median ({:.4} to {:.4}), processor {processor:.4} s/MP",
        q[1], q[0], q[2]
    );
}

fn time(detector: &Detector, folder: &str, count: usize) {
    for prefix in ["noise-96", "photo-192", "astronaut-double"] {
        let pages = pages(folder, prefix);
        if pages.is_empty() {
            continue;
        }
        for min_face in [24.0, 32.0, 40.0, 64.0] {
            let options = Options { min_face, ..Options::default() };
            let run = |page: &Page| drop(detector.detect(page.picture(), &options));
            rounds(&format!("{prefix}, faces from {min_face} px"), &pages, count, run);
        }
        if let Some(mut other) = rustface() {
            let run = |page: &Page| drop(rustface_squares(&mut *other, &page.gray(), page));
            rounds(&format!("{prefix}, rustface, faces from 40 px"), &pages, count.div_ceil(3), run);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, folder, rest @ ..] = &arguments[..] else { panic!("measure fit|table|sweep|time PAGES") };
    let detector = Detector::open(&find_weights(&[]).unwrap()).unwrap();
    let number = |i: usize, default: f32| rest.get(i).map_or(default, |text: &String| text.parse().unwrap());
    let default = Options::default();
    match mode.as_str() {
        "fit" => fit(&detector, folder),
        "table" => {
            table(
                &detector,
                folder,
                &Options { min_face: number(0, default.min_face), threshold: number(1, default.threshold) },
            );
        }
        "sweep" => sweep(&detector, folder),
        "time" => time(&detector, folder, number(0, 9.0) as usize),
        _ => panic!("unknown mode {mode}"),
    }
}
