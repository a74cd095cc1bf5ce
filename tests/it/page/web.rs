//! `grimace export --web`: the same results as `predict`, in the browser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use image::{Luma, Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use super::server::serve_folder;
use super::{BARS, DONE, READY, RIGHT, SPACE, check_quiet, faces, scene, tab_to, video};
use crate::browser::{Browser, chromium};
use crate::common::{Done, bad, bench, command, good, json, text, workshop};
use crate::ensemble::trio;
use crate::photos::has_detector;

/// The run of the workshop.
fn run() -> String {
    workshop().join("run").display().to_string()
}

/// An exported page in the folder `page`, and the browser to open it with.
struct Page {
    folder: TempDir,
    program: PathBuf,
}

impl Page {
    /// Exports a page with a command, run in the folder `here`; reports when a test is skipped.
    fn export(test: &str, here: &Path, args: &[&str]) -> Option<Self> {
        let program = chromium(test)?;
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page");
        let args = [args, &["--web", page.to_str().unwrap()]].concat();
        let done: Done = command(here, &args).output().unwrap().into();
        if done.stderr.contains("onnxruntime-web is not installed") || done.stderr.contains("no weights of the face") {
            println!("skipped {test}: {}", done.stderr.trim());
            return None;
        }
        assert_eq!(done.code, 0, "{}", done.all());
        Some(Self { folder, program })
    }

    /// The folder of the folder `page`.
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Serves the page and opens it; returns its address, too.
    fn open(&self, flags: &[String]) -> (Browser, String) {
        let mut browser = Browser::start(&self.program, flags);
        let origin = serve_folder(self.folder().join("page"));
        browser.open(&origin);
        browser.wait_for(READY);
        (browser, origin)
    }
}

/// Rows of the CSV that `predict` writes, by column.
fn predict(run: &str, folder: &Path, args: &[&str]) -> Vec<BTreeMap<String, String>> {
    let args = [&["predict", run, "--out", "-", "--probabilities"], args].concat();
    let done = good(folder, &args);
    let mut lines = done.stdout.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| names.iter().zip(line.split(',')).map(|(a, b)| (a.to_string(), b.to_owned())).collect();
    lines.map(row).collect()
}

/// Max difference between probabilities of the page and of `predict`.
fn difference(found: &Value, expected: &BTreeMap<String, String>) -> f64 {
    let found = found.as_object().unwrap();
    assert_eq!(found.len(), 7, "{found:?}");
    let one = |(name, value): (&String, &Value)| value.as_f64().unwrap() - expected[name].parse::<f64>().unwrap();
    found.iter().map(one).fold(0.0, |max: f64, value| max.max(value.abs()))
}

/// Chooses the pictures of a folder, taken as faces, one by one, and compares the bars with the rows of
/// `predict`.
fn check_whole_pictures(browser: &mut Browser, folder: &Path, expected: &[BTreeMap<String, String>]) {
    for row in expected {
        browser.value("document.getElementById('answer').classList.add('none')");
        browser.choose_file("file", &folder.join(&row["id"]));
        browser.wait_for(DONE);
        assert_eq!(browser.text("which"), "The whole picture, taken as one face");
        let difference = difference(&browser.value(BARS), row);
        assert!(difference < 1e-5, "{}: {difference}", row["id"]);
    }
}

#[test]
fn a_picture_of_a_face_has_the_probabilities_of_predict() {
    let test = "a_picture_of_a_face_has_the_probabilities_of_predict";
    let Some(page) = Page::export(test, workshop(), &["export", "run"]) else { return };
    let folder = page.folder();
    fs::create_dir(folder.join("in")).unwrap();
    for (number, face) in faces().iter().step_by(97).take(5).enumerate() {
        fs::copy(face, folder.join(format!("in/face{number}.png"))).unwrap();
    }
    // Other shapes and colors, which are resized.
    let pattern = |x: u32, y: u32| (((x * 37) ^ (y * 91)) % 256) as u8;
    RgbImage::from_fn(211, 97, |x, y| Rgb([pattern(x, y), pattern(y, x + 9), (x + y) as u8]))
        .save(folder.join("in/wide.png"))
        .unwrap();
    RgbImage::from_fn(20, 33, |x, y| Rgb([pattern(x, y); 3])).save(folder.join("in/small.png")).unwrap();
    image::GrayImage::from_fn(48, 131, |x, y| Luma([pattern(x, y)])).save(folder.join("in/high.png")).unwrap();
    let expected = predict(&run(), folder, &["--data", "in"]);
    assert_eq!(expected.len(), 8);

    let (mut browser, origin) = page.open(&[]);
    // The mode is chosen by keyboard.
    tab_to(&mut browser, "webcam");
    browser.press(super::TAB);
    browser.press(RIGHT);
    assert_eq!(browser.value("document.querySelector('[name=mode]:checked').value"), "whole");
    check_whole_pictures(&mut browser, &folder.join("in"), &expected);
    assert!(browser.text("privacy").contains("Nothing is uploaded"));
    check_quiet(browser, &origin);
}

#[test]
fn an_ensemble_has_the_mean_probabilities_of_its_networks() {
    let test = "an_ensemble_has_the_mean_probabilities_of_its_networks";
    let args = ["ensemble", "a", "b", "--no-calibration"];
    let Some(page) = Page::export(test, trio(), &args) else { return };
    let folder = page.folder().join("in");
    fs::create_dir(&folder).unwrap();
    for (number, face) in faces().iter().step_by(201).take(3).enumerate() {
        fs::copy(face, folder.join(format!("face{number}.png"))).unwrap();
    }
    let predict = |run| predict(run, trio(), &["--data", folder.to_str().unwrap(), "--no-calibration"]);
    let (mut expected, others) = (predict("a"), predict("b"));
    for (row, other) in expected.iter_mut().zip(&others) {
        assert_eq!(row["id"], other["id"]);
        for (name, value) in row.iter_mut().filter(|(name, _)| !matches!(name.as_str(), "id" | "emotion")) {
            let (one, two): (f64, f64) = (value.parse().unwrap(), other[name].parse().unwrap());
            *value = ((one + two) / 2.0).to_string();
        }
    }
    assert!(expected.len() == 3 && predict("a") != others);
    let (mut browser, origin) = page.open(&[]);
    browser.value("document.querySelector('[value=whole]').click()");
    check_whole_pictures(&mut browser, &folder, &expected);
    let model = browser.text("model");
    assert!(model.starts_with("Model tiny+other · ") && !model.contains("validation"), "{model}");
    check_quiet(browser, &origin);
}

#[test]
fn faces_in_a_photo_have_the_boxes_of_predict() {
    let test = "faces_in_a_photo_have_the_boxes_of_predict";
    let Some(page) = Page::export(test, workshop(), &["export", "run"]) else { return };
    let folder = page.folder();
    let faces = faces();
    let mut photo = RgbImage::from_pixel(1700, 480, Rgb([118, 122, 128]));
    for (number, face) in (0..).zip(faces.iter().step_by(111).take(4)) {
        image::imageops::replace(&mut photo, &scene(face, 90, 120), 420 * number, 0);
    }
    photo.save(folder.join("page/photo.png")).unwrap();
    let expected = predict(&run(), folder, &["--data", "page/photo.png", "--faces", "detect"]);
    assert!(expected.len() > 1, "faces are found: {expected:?}");
    let (mut browser, origin) = page.open(&[]);
    // The backend of the page, asked by itself: the page shows whole pixels.
    let ask = "import('/assets/backend.js').then(module => module.open()).then(async backend => \
         (await backend.predict(await (await fetch('/photo.png')).blob(), {faces: 'detect', minFace: 32})))";
    let answer = browser.value(ask);
    assert_eq!((&answer["width"], &answer["height"]), (&1700.into(), &480.into()));
    let found = answer["faces"].as_array().unwrap();
    assert_eq!(found.len(), expected.iter().filter(|row| !row["x"].is_empty()).count(), "{found:?}");
    for (face, row) in found.iter().zip(&expected) {
        for key in ["x", "y", "width", "height"] {
            let (own, other) = (face["box"][key].as_f64().unwrap(), row[key].parse::<f64>().unwrap());
            // `predict` writes whole pixels.
            assert!((own - other).abs() < 0.51, "{key}: {own} and {other}");
        }
        assert!((face["score"].as_f64().unwrap() - row["score"].parse::<f64>().unwrap()).abs() < 1e-3);
        // A crop may differ by a level in a few pixels.
        assert!(difference(&face["probabilities"], row) < 0.01, "{face} and {row:?}");
    }
    // Faces well under the minimum are left out, as by the crate. The network of this search sees one face
    // of this number of cells, 8 pixels of the photo each; the crop is 1.125 times as large.
    let search = |cells: u32| {
        format!(
            "Promise.all(['detector', 'picture'].map(name => import(`/assets/${{name}}.js`))).then(async \
             ([{{detect}}, {{readPixels}}]) => {{ const run = (planes, width, height) => {{ \
             const area = width * height / 16; const heat = new Float32Array(area); \
             heat[(height / 8) * (width / 4) + width / 8] = 0.9; \
             return {{heat, size: new Float32Array(2 * area).fill(Math.log({cells})), offset: new Float32Array(2 * area)}}; }}; \
             const picture = readPixels(await createImageBitmap(new ImageData(200, 200))); \
             return (await detect(picture, 64, run)).length; }})"
        )
    };
    assert_eq!((browser.value(&search(5)), browser.value(&search(6))), (0.into(), 1.into()), "limit: 48 pixels");
    check_quiet(browser, &origin);
}

#[test]
fn the_webcam_shows_bars_and_stops() {
    // In the folder of the training images, which calibrate it.
    let test = "the_webcam_shows_bars_and_stops";
    let Some(page) = Page::export(test, workshop(), &["export", "run", "--int8"]) else { return };
    let folder = page.folder();
    video(&folder.join("camera.mjpeg"), &faces()[3]);
    let flags = [
        "--use-fake-device-for-media-stream".to_owned(),
        "--use-fake-ui-for-media-stream".to_owned(),
        format!("--use-file-for-fake-video-capture={}", folder.join("camera.mjpeg").display()),
    ];
    let (mut browser, origin) = page.open(&flags);
    browser.value("document.querySelector('[value=whole]').click()");
    tab_to(&mut browser, "webcam");
    browser.press(SPACE);
    browser.wait_for("document.getElementById('rate').innerText.includes('frames/s')");
    let bars = browser.value(BARS);
    let sum: f64 = bars.as_object().unwrap().values().map(|value| value.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{bars}");
    assert_eq!(browser.text("webcam"), "Stop webcam");
    // The class is announced once it lasts.
    browser.wait_for("document.getElementById('status').textContent.match(/^[a-z]+\\.$/)");
    browser.value("document.querySelector('[value=detect]').click()");
    browser.wait_for("/One face|No face/.test(document.getElementById('which').textContent)");
    browser.press(SPACE);
    browser.wait_for("document.getElementById('webcam').innerText === 'Start webcam'");
    assert_eq!(browser.value("document.getElementById('video').srcObject"), Value::Null);
    check_quiet(browser, &origin);
}

#[test]
fn errors_say_what_to_do() {
    let test = "errors_say_what_to_do";
    let Some(page) = Page::export(test, workshop(), &["export", "run"]) else { return };
    let folder = page.folder();
    fs::write(folder.join("x.png"), "text").unwrap();
    let (mut browser, _) = page.open(&[]);
    browser.value("document.getElementById('webcam').click()");
    browser.wait_for("!document.getElementById('error').hidden");
    let error = browser.text("error");
    assert!(error.contains("No camera was found") || error.contains("did not allow the camera"), "{error}");
    browser.choose_file("file", &folder.join("x.png"));
    browser.wait_for("document.getElementById('error').innerText.startsWith('x.png is not a picture')");
    // A page whose model is gone, and one that was opened without a server.
    fs::remove_file(folder.join("page/model.onnx")).unwrap();
    let origin = serve_folder(folder.join("page"));
    browser.open(&origin);
    browser.wait_for(READY);
    assert!(browser.text("error").contains("model.onnx is missing (404)"), "{}", browser.text("error"));
    browser.open(&format!("file://{}", folder.join("page/index.html").display()));
    browser.wait_for("location.protocol === 'file:' && document.readyState === 'complete'");
    assert!(browser.text("start").contains("python3 -m http.server"));
}

/// A folder that looks like the npm package.
fn fake_package(folder: &Path) {
    fs::create_dir_all(folder.join("dist")).unwrap();
    fs::write(folder.join("package.json"), r#"{"name": "onnxruntime-web", "version": "9.9.9"}"#).unwrap();
    for file in ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"] {
        fs::write(folder.join("dist").join(file), file).unwrap();
    }
}

#[test]
fn the_folder_is_complete_and_nothing_of_the_user_is_lost() {
    if !has_detector("the_folder_is_complete_and_nothing_of_the_user_is_lost") {
        return;
    }
    let bench = bench();
    let folder = bench.path();
    fake_package(&folder.join("package"));
    let run = run();
    let export = |args: &[&str]| -> Done {
        let args = [&["export", &run, "--web", "page"], args].concat();
        command(folder, &args).env("GRIMACE_ONNXRUNTIME_WEB", folder.join("package")).output().unwrap().into()
    };
    let done = export(&[]);
    assert_eq!(done.code, 0, "{}", done.all());
    for part in ["wrote a page to page: 20 files", "compared on 256 images", "http.server", "TTA: none"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.all());
    }
    let page = folder.join("page");
    let listed = json(page.join("web.json"));
    assert_eq!(listed["files"].as_object().unwrap().len(), 19);
    assert!(text(page.join("LICENSES.txt")).contains("ONNX Runtime Web 9.9.9"));
    assert!(text(page.join("MODEL_CARD.md")).contains("model.onnx"));
    assert_eq!(json(page.join("model.json"))["model_file"], "model.onnx");
    // Again, smaller; an edited file is not replaced, files of others stay.
    fs::write(page.join("notes.txt"), "mine").unwrap();
    let found = export(&["--int8", "--json"]).json();
    assert!(
        found["bytes"]["model"].as_u64().unwrap() < found["quantization"]["float_size"].as_u64().unwrap_or(u64::MAX)
    );
    fs::write(page.join("index.html"), "edited").unwrap();
    let done = export(&[]);
    assert!(done.code == 2 && done.stderr.contains("page/index.html: exists, and is not as"), "{}", done.all());
    assert_eq!(text(page.join("index.html")), "edited");
    assert_eq!(export(&["--force"]).code, 0);
    assert!(text(page.join("index.html")).contains("wasm-unsafe-eval"));
    assert_eq!(text(page.join("notes.txt")), "mine");
    let leftover = fs::read_dir(folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".grimace-"));
    assert_eq!(leftover.count(), 0);
}

#[test]
fn an_ensemble_is_written_like_a_run() {
    if !has_detector("an_ensemble_is_written_like_a_run") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fake_package(&folder.join("package"));
    let page = folder.join("page");
    let export = |args: &[&str]| -> Done {
        let args = [&["ensemble", "a", "b", "--web", page.to_str().unwrap()], args].concat();
        command(trio(), &args).env("GRIMACE_ONNXRUNTIME_WEB", folder.join("package")).output().unwrap().into()
    };
    let labels = ["--data", "data/my_emotion_test.csv", "--labels", "data/my_emotion_test_labels.csv"];
    let found = export(&[&labels[..], &["--tta", "flip", "--json"]].concat()).json();
    assert_eq!((found["web"].as_str(), &found["files"], &found["tta"]), (page.to_str(), &20.into(), &"flip".into()));
    assert!(found["max_difference"].as_f64().unwrap() < 1e-5 && found["evaluation"]["rows"] == 150, "{found}");
    assert_eq!((&found["out"], found["models"].as_array().unwrap().len()), (&Value::Null, 2));
    let size = fs::metadata(page.join("model.onnx")).unwrap().len();
    assert_eq!(found["bytes"]["model"].as_u64(), Some(size));
    let listed = json(page.join("web.json"));
    let listed = listed["files"].as_object().unwrap();
    for name in ["index.html", "assets/backend.js", "model.onnx", "model.json", "MODEL_CARD.md", "detector.onnx"] {
        assert!(listed.contains_key(name) && page.join(name).exists(), "{name}");
    }
    let description = json(page.join("model.json"));
    assert_eq!((&description["name"], &description["tta"]), (&"tiny+other".into(), &"flip".into()));
    assert_eq!((&description["models"][1]["run"], &description["labels"][3]), (&"b".into(), &"happy".into()));
    // The card has the metrics of --data, as that of a file.
    assert!(text(page.join("MODEL_CARD.md")).contains("my_emotion_test.csv"));
    // It replaces its own files, and no others.
    let done = export(&[]);
    assert!(done.code == 0 && done.stdout.contains("wrote a page to "), "{}", done.all());
    fs::write(page.join("model.json"), "mine").unwrap();
    let done = export(&[]);
    assert!(done.code == 2 && done.stderr.contains("model.json: exists, and is not as"), "{}", done.all());
    assert_eq!(text(page.join("model.json")), "mine");
    assert_eq!(export(&["--force"]).code, 0);
    let inside = page.join("index.html");
    let done = export(&["--force", "--labels", inside.to_str().unwrap(), "--data", labels[1]]);
    assert!(done.code == 2 && done.stderr.contains("index.html: is read by this command"), "{}", done.all());
}

#[test]
fn what_is_missing_or_contradictory_is_an_input_error() {
    let folder = tempfile::tempdir().unwrap();
    let run = run();
    let args = ["export", &run, "--web", "page"];
    let with = |value: &str| -> Done {
        command(folder.path(), &args).env("GRIMACE_ONNXRUNTIME_WEB", value).output().unwrap().into()
    };
    let done = with("nowhere");
    assert!(done.code == 2 && done.stderr.contains("GRIMACE_ONNXRUNTIME_WEB: nowhere/package.json"), "{}", done.all());
    assert!(!folder.path().join("page").exists());
    bad(folder.path(), &[&args[..], &["--out", "x.pt"]].concat(), 2, &["--web", "--out"]);
    bad(folder.path(), &["export", &run], 2, &["--out"]);
    // The program alone, without an environment beside it, says what to run.
    let copy = folder.path().join("grimace");
    fs::copy(env!("CARGO_BIN_EXE_grimace"), &copy).unwrap();
    let done: Done = Command::new(&copy).args(args).current_dir(folder.path()).output().unwrap().into();
    assert!(done.code == 2 && done.stderr.contains("scripts/setup.sh --web"), "{}", done.all());
}
