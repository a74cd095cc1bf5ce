//! `grimace explain`, and the heat maps of a report.

use std::process::Stdio;

use serde_json::Value;

use crate::common::{Done, bad, command, good, text, workshop};

const TEST: &str = "data/my_emotion_test.csv";
const LABELS: &str = "data/my_emotion_test_labels.csv";

/// Width and height of a PNG that can be decoded, and whether it has a color that is no gray.
fn png(bytes: &[u8]) -> (u32, u32, bool) {
    let picture = image::load_from_memory_with_format(bytes, image::ImageFormat::Png).unwrap().into_rgb8();
    let is_colored = |pixel: &image::Rgb<u8>| pixel.0.iter().max().unwrap() - pixel.0.iter().min().unwrap() > 100;
    (picture.width(), picture.height(), picture.pixels().filter(|pixel| is_colored(pixel)).count() > 500)
}

fn texts(found: &Value, key: &str) -> Vec<String> {
    found["images"].as_array().unwrap().iter().map(|image| image[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_most_confident_errors_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sheet.png");
    let out = out.to_str().unwrap();
    let explain = ["explain", "run", "--data", TEST, "--labels", LABELS, "--out", out];
    let found = good(workshop(), &[&explain[..], &["--only", "errors", "--limit", "6", "--json"]].concat()).json();
    let probabilities: Vec<f64> =
        found["images"].as_array().unwrap().iter().map(|image| image["probability"].as_f64().unwrap()).collect();
    assert!(probabilities.len() == 6 && probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
    assert!(texts(&found, "label").iter().zip(texts(&found, "predicted")).all(|(label, class)| *label != class));
    assert_eq!(texts(&found, "explained"), texts(&found, "predicted"));
    assert_eq!((&found["tta"], &found["method"], &found["layer"]), (&"none".into(), &"hires_cam".into(), &2.into()));
    assert!(found["selection"].as_str().unwrap().starts_with("the 6 most confident of "), "{found}");
    let centers = found["images"].as_array().unwrap().iter().flat_map(|image| image["heat_center"].as_array());
    assert!(centers.flatten().all(|place| (0.0..=47.0).contains(&place.as_f64().unwrap())), "{found}");
    let (width, height, is_colored) = png(&fs_err::read(out).unwrap());
    assert!((width, height) == (1700, 692) && is_colored, "{width} {height}");
    // The probabilities are those of predict.
    let csv = folder.path().join("all.csv");
    good(workshop(), &["predict", "run", "--data", TEST, "--probabilities", "--out", csv.to_str().unwrap()]);
    let first = format!("{},", texts(&found, "id")[0]);
    let lines = text(&csv);
    let row = lines.lines().find(|line| line.starts_with(&first)).unwrap();
    let max = row.split(',').skip(2).map(|value| value.parse::<f64>().unwrap()).fold(0.0, f64::max);
    assert!((max - probabilities[0]).abs() < 1e-6, "{max} and {}", probabilities[0]);

    // An existing sheet stays unless told; more images than errors are filled with correct predictions.
    bad(workshop(), &explain, 2, &["sheet.png: exists", "--force"]);
    let done = good(workshop(), &[&explain[..], &["--force", "--limit", "100"]].concat());
    assert!(done.stdout.starts_with("HiResCAM of 100 images written to "), "{}", done.all());
    assert!(done.stderr.contains("explained: ") && done.stderr.contains("wrong predictions"), "{}", done.all());
}

#[test]
fn a_class_a_layer_and_a_method_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sheet.png");
    let explain = ["explain", "run", "--data", TEST, "--out", out.to_str().unwrap(), "--force", "--json"];
    let run =
        |options: &[&str]| (good(workshop(), &[&explain[..], options].concat()).json(), fs_err::read(&out).unwrap());
    let (plain, sheet) = run(&[]);
    assert_eq!(texts(&plain, "id")[..3], ["0", "1", "2"]);
    assert_eq!(plain["images"].as_array().unwrap().len(), 24);
    assert!(plain["images"][0]["label"].is_null());
    assert!(plain["selection"].as_str().unwrap().starts_with("the first 24 of 150 images"), "{plain}");
    let (sad, other) = run(&["--class", "sad"]);
    assert!(texts(&sad, "explained").iter().all(|class| class == "sad") && sheet != other);
    for options in [&["--layer", "1"][..], &["--method", "grad_cam"], &["--layer", "1", "--method", "grad_cam"]] {
        let (found, other) = run(options);
        assert!(sheet != other && texts(&found, "predicted") == texts(&plain, "predicted"), "{options:?}");
        let method = if options.contains(&"grad_cam") { "grad_cam" } else { "hires_cam" };
        assert_eq!(found["method"], method);
    }
    let (first, _) = run(&["--layer", "1", "--limit", "1"]);
    assert_eq!((&first["layer"], &first["layers"], &first["cells"]), (&1.into(), &2.into(), &46.into()));
    assert_eq!(sheet, run(&[]).1, "the same sheet again");
}

#[test]
fn pictures_and_standard_streams_work() {
    let folder = tempfile::tempdir().unwrap();
    let faces = folder.path().join("faces");
    let train = workshop().join("data/my_emotion_train.csv");
    good(folder.path(), &["data", "convert", train.to_str().unwrap(), "faces"]);
    let run = workshop().join("run");
    let run = run.to_str().unwrap();
    let found = good(folder.path(), &["explain", run, "--data", "faces", "--out", "a.png", "--limit", "2", "--json"]);
    assert!(!texts(&found.json(), "label").is_empty(), "the folders are labels");
    let picture = fs_err::read_dir(faces.join("happy")).unwrap().next().unwrap().unwrap().path();
    let args = ["explain", run, "--data", "-", "--faces", "whole", "--out", "-"];
    let stdin = Stdio::from(std::fs::File::open(&picture).unwrap());
    let done = command(folder.path(), &args).stdin(stdin).output().unwrap();
    assert!(done.status.success() && png(&done.stdout).2, "{}", String::from_utf8_lossy(&done.stderr));
    let alone = ["explain", run, "--data", picture.to_str().unwrap(), "--out", "-"];
    assert!(png(&command(folder.path(), &alone).output().unwrap().stdout).2);
    let stdin = Stdio::from(std::fs::File::open(&train).unwrap());
    let args = ["explain", run, "--data", "-", "--out", "csv.png"];
    let done: Done = command(folder.path(), &args).stdin(stdin).output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
}

#[test]
fn mistakes_of_the_user_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sheet.png");
    let explain = ["explain", "run", "--data", TEST, "--out", out.to_str().unwrap()];
    let with = |options: &[&'static str]| [&explain[..], options].concat();
    bad(workshop(), &with(&["--class", "joy"]), 2, &["--class joy", "expected one of angry, disgust"]);
    bad(workshop(), &with(&["--layer", "3"]), 2, &["--layer 3", "2 feature maps, of 46x46, 21x21 cells", "1 to 2"]);
    bad(workshop(), &with(&["--layer", "0"]), 2, &["--layer 0"]);
    bad(workshop(), &with(&["--method", "layer_cam"]), 2, &["hires_cam, grad_cam"]);
    bad(workshop(), &with(&["--limit", "101"]), 2, &["1..=100"]);
    bad(workshop(), &with(&["--only", "errors"]), 2, &["has no labels", "--labels CSV"]);
    bad(workshop(), &with(&["--usage", "x"]), 2, &["Usage"]);
    bad(workshop(), &with(&["--faces", "detect", "--labels", LABELS]), 2, &["--labels", "--faces detect"]);
    assert!(!out.exists());
    let empty = folder.path().join("empty.csv");
    fs_err::write(&empty, "id,pixels\n").unwrap();
    let args = ["explain", "run", "--data", empty.to_str().unwrap(), "--out", out.to_str().unwrap()];
    bad(workshop(), &args, 2, &["empty.csv: no images"]);
    let args = ["explain", "run", "--data", TEST, "--out", "run/report.html", "--force"];
    bad(workshop(), &args, 2, &["report.html"]);
    bad(workshop(), &["explain", "run", "--data", TEST, "--out", "-", "--json"], 2, &["--out - and --json"]);
    let wood = crate::forest::wood();
    let args = ["explain", "wood", "--data", TEST, "--out", out.to_str().unwrap()];
    bad(wood, &args, 2, &["wood: is a forest run; only networks", "importance of each pixel"]);
}

#[test]
fn a_report_has_the_heat_of_mistakes() {
    let page = text(workshop().join("run/report.html"));
    assert!(page.contains("What speaks for the wrong prediction, by HiResCAM"));
    let forest = text(crate::forest::wood().join("wood/report.html"));
    assert!(!forest.contains("HiResCAM"));
    assert!(png(&fs_err::read(workshop().join("run/mistakes.png")).unwrap()).2);
}
