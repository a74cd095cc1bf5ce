//! Folders of pictures wherever a CSV is accepted, and conversions between them.

use std::path::Path;

use fs_err as fs;

use crate::common::{bad, bench, good, grimace, json, tensors, text, timeless_metrics};

/// Writes a gray PNG whose pixels depend on `seed`.
fn png(path: &Path, seed: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x: u32, y: u32| image::Luma([(x * 3 + y * 5) as u8 ^ seed.wrapping_mul(37)]);
    image::GrayImage::from_fn(48, 48, pixel).save(path).unwrap();
}

#[test]
fn training_on_a_folder_equals_training_on_the_csv() {
    let folder = bench();
    let folder = folder.path();
    let train = "data/my_emotion_train.csv";
    let done = good(folder, &["data", "convert", train, "faces"]);
    assert!(done.stdout.contains("600 images written to faces"), "{}", done.all());
    good(folder, &["train", "tiny.toml", "--out", "csv"]);
    let done = good(folder, &["train", "tiny.toml", "--out", "folder", "--set", "data.train=faces"]);
    assert!(done.stderr.contains("faces: class folders: angry -> 0 angry, disgust -> 1 disgust"), "{}", done.all());
    assert_eq!(timeless_metrics(&folder.join("csv")), timeless_metrics(&folder.join("folder")));
    assert_eq!(text(folder.join("csv/split.csv")), text(folder.join("folder/split.csv")));
    let best = |run: &str| tensors(&folder.join(run).join("best.safetensors"));
    assert!(best("csv") == best("folder"), "the weights differ");
    let hash = |run: &str| json(folder.join(run).join("summary.json"))["data_hash"].clone();
    assert_eq!(hash("csv"), hash("folder"));
    // A resumed run finds its folder again.
    good(
        folder,
        &["train", "tiny.toml", "--out", "folder", "--resume", "--set", "data.train=faces", "--set", "train.epochs=4"],
    );
    // Evaluated alike, and back again as a CSV.
    let evaluate = |data: &str| good(folder, &["evaluate", "csv", "--data", data, "--json"]).json()["accuracy"].clone();
    assert_eq!(evaluate(train), evaluate("faces"));
    good(folder, &["data", "convert", "faces", "back.csv"]);
    assert_eq!(evaluate(train), evaluate("back.csv"));
    let check = good(folder, &["data", "check", train, "faces", "back.csv", "--json"]).json();
    assert!(check["duplicates_across"].as_array().unwrap().iter().all(|across| across["rows"] == 600), "{check}");
    let preview = good(folder, &["data", "preview", "tiny.toml", "--set", "data.train=faces", "--out", "preview.png"]);
    assert_eq!(preview.code, 0);
}

#[test]
fn splits_in_a_folder_are_usages_and_ids_are_paths() {
    let folder = bench();
    let folder = folder.path();
    for (number, class) in ["Happy", "anger"].into_iter().cycle().take(40).enumerate() {
        let split = if number < 32 { "train" } else { "test" };
        png(&folder.join(format!("root/{split}/{class}/{number}.png")), number as u8);
    }
    let sets = ["--set", "data.train=root", "--set", "data.validation=test", "--set", "train.epochs=1"];
    let train = |out| [&["train", "tiny.toml", "--out", out][..], &sets].concat();
    let done = good(folder, &train("run"));
    // Two of FER2013's classes are not FER2013: the folders name the classes.
    assert!(done.stderr.contains("root: class folders: anger -> 0 anger, Happy -> 1 Happy"), "{}", done.all());
    let summary = json(folder.join("run/summary.json"));
    assert_eq!((&summary["train_rows"], &summary["validation_rows"]), (&32.into(), &8.into()));
    let predict = ["predict", "run", "--data", "root", "--usage", "TEST", "--out", "out.csv"];
    good(folder, &predict);
    let lines = text(folder.join("out.csv"));
    let ids: Vec<&str> = lines.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!((ids.len(), ids[0], ids[1]), (8, "test/Happy/32.png", "test/anger/33.png"));
    // A folder without classes.
    png(&folder.join("flat/b10.png"), 1);
    png(&folder.join("flat/b9.png"), 2);
    good(folder, &["predict", "run", "--data", "flat", "--out", "flat.csv"]);
    let lines = text(folder.join("flat.csv"));
    assert!(lines.lines().nth(1).unwrap().starts_with("b9.png,"), "{lines}");
    bad(folder, &["evaluate", "run", "--data", "flat"], 2, &["flat: has no labels", "--labels CSV"]);
    fs::write(folder.join("labels.csv"), "id,emotion\nb9.png,anger\nb10.png,1\n").unwrap();
    good(folder, &["evaluate", "run", "--data", "flat", "--labels", "labels.csv"]);
    bad(folder, &["train", "tiny.toml", "--set", "data.train=flat", "--out", "x"], 2, &["is in no class folder"]);
    // RAF-DB's folders are numbers.
    for number in 1..=2 {
        png(&folder.join(format!("raf/{number}/a.png")), number);
    }
    let parts = ["class folders of raf are numbers", "data.labels = { 1 = \"surprise\""];
    bad(folder, &["train", "tiny.toml", "--set", "data.train=raf", "--out", "x"], 2, &parts);
}

#[test]
fn files_that_are_no_pictures_are_named_or_skipped() {
    let folder = bench();
    let folder = folder.path();
    good(folder, &["data", "convert", "data/my_emotion_train.csv", "faces"]);
    fs::write(folder.join("faces/happy/note.jpg"), "not a picture").unwrap();
    std::os::unix::fs::symlink("..", folder.join("faces/sad/loop")).unwrap();
    let bytes = fs::read(folder.join("faces/angry/000.png")).or_else(|_| {
        let first = fs::read_dir(folder.join("faces/angry")).unwrap().next().unwrap().unwrap();
        fs::read(first.path())
    });
    let bytes = bytes.unwrap();
    fs::write(folder.join("faces/angry/cut.png"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.join("faces/angry/readme.txt"), "ignored").unwrap();
    let train = ["train", "tiny.toml", "--out", "run", "--set", "data.train=faces", "--set", "train.epochs=1"];
    bad(folder, &train, 2, &["faces/sad/loop: is a link to faces, which contains it", "data.on_bad_row = \"skip\""]);
    fs::remove_file(folder.join("faces/sad/loop")).unwrap();
    bad(
        folder,
        &train,
        2,
        &[
            "faces/angry/cut.png: cannot be decoded",
            "faces/happy/note.jpg: is not a picture that can be read; expected JPEG",
        ],
    );
    let skip = [&train[..], &["--set", "data.on_bad_row=skip"]].concat();
    let done = good(folder, &skip);
    assert!(done.stderr.contains("faces: skipped 2 bad files, the first: angry/cut.png"), "{}", done.all());
    assert!(done.stderr.contains("files that are not read: 1 .txt"), "{}", done.all());
    let done = grimace(folder, &["data", "check", "faces", "--json"]);
    assert_eq!((done.code, &done.json()["files"][0]["bad_row_count"]), (2, &2.into()), "{}", done.all());
    fs::create_dir(folder.join("empty")).unwrap();
    bad(folder, &["data", "convert", "empty", "x.csv"], 2, &["empty: is a folder without pictures"]);
}

#[test]
fn conversions_overwrite_nothing() {
    let folder = bench();
    let folder = folder.path();
    let test = "data/my_emotion_test.csv";
    fs::create_dir_all(folder.join("taken/sub")).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    fs::write(folder.join("old.csv"), "x").unwrap();
    let convert = |out: &'static str| ["data", "convert", test, out];
    bad(folder, &convert("taken"), 2, &["taken: is a folder that is not empty"]);
    bad(folder, &convert("file"), 2, &["file: exists; expected a new folder"]);
    bad(folder, &convert("old.csv"), 2, &["old.csv: exists", "--force"]);
    bad(folder, &convert("no/such"), 1, &["no: no such folder"]);
    bad(folder, &convert("-"), 2, &["standard output"]);
    good(folder, &["data", "convert", test, "old.csv", "--force"]);
    // Ids stay: in the CSV, and in the names of the files.
    assert!(text(folder.join("old.csv")).starts_with("pixels,id\n"));
    let done = good(folder, &["data", "convert", test, "flat", "--json"]).json();
    assert_eq!(done["images"], 150);
    let id = text(folder.join(test)).lines().nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert!(folder.join(format!("flat/000-{id}.png")).is_file());
    assert!(fs::read_dir(folder).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().ends_with(".tmp")));
}
