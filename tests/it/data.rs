//! `grimace data ...`

use crate::common::{bad, bench, command, good, text, workshop};

#[test]
fn synthetic_images_are_a_function_of_the_seed_in_kaggles_layout() {
    let folder = tempfile::tempdir().unwrap();
    let generate = |out: &str, seed: &str| {
        good(folder.path(), &["data", "synth", "--out", out, "--train", "30", "--test", "10", "--seed", seed])
    };
    generate("a", "1");
    generate("b", "1");
    generate("c", "2");
    let file = |out: &str, name: &str| text(folder.path().join(out).join(name));
    for name in ["my_emotion_train.csv", "my_emotion_test.csv", "my_emotion_test_labels.csv"] {
        assert_eq!(file("a", name), file("b", name));
    }
    assert_ne!(file("a", "my_emotion_train.csv"), file("c", "my_emotion_train.csv"));
    assert!(file("a", "my_emotion_train.csv").starts_with("emotion,pixels\n"));
    assert!(file("a", "my_emotion_test.csv").starts_with("id,pixels\n0,"));
    assert_eq!(file("a", "my_emotion_test_labels.csv").lines().count(), 11);
    let again = ["data", "synth", "--out", "a", "--train", "5000", "--test", "1"];
    bad(
        folder.path(),
        &again,
        2,
        &["a/my_emotion_train.csv: exists; choose another --out, or overwrite it with --force"],
    );
    // More images than are generated at a time.
    good(folder.path(), &[&again[..], &["--seed", "1", "--force"]].concat());
    let (longer, shorter) = (file("a", "my_emotion_train.csv"), file("b", "my_emotion_train.csv"));
    assert!(longer.starts_with(&shorter), "the first rows do not depend on the number of rows");
    assert_eq!(longer.lines().count(), 5001);
    assert!(longer.lines().skip(1).all(|row| row.split([',', ' ']).count() == 2305), "2304 pixels in a row");
}

#[test]
fn check_reports_counts_and_exits_with_findings() {
    let folder = tempfile::tempdir().unwrap();
    let train = text(workshop().join("data/my_emotion_train.csv"));
    let rows: Vec<&str> = train.lines().skip(1).take(20).collect();
    let (label, pixels) = rows[0].split_once(',').unwrap();
    let relabeled = format!("{},{pixels}", (label.parse::<u8>().unwrap() + 1) % 7);
    let clean = format!("emotion,pixels\n{}\n", rows.join("\n"));
    let duplicates = format!("{clean}{}\n{relabeled}\n4,{}\n", rows[3], vec!["0"; 2304].join(" "));
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    write("clean.csv", &clean);
    write("duplicates.csv", &duplicates);
    write("broken.csv", &format!("{clean}9,1 2 3\n"));

    good(folder.path(), &["data", "check", "clean.csv", "--strict"]);
    let report = good(folder.path(), &["data", "check", "clean.csv", "duplicates.csv", "--json"]).json();
    assert_eq!(report["files"][1]["rows"], 23);
    assert_eq!(report["files"][1]["duplicates"], 2);
    assert_eq!(report["files"][1]["blank"], 1);
    assert_eq!(report["conflicting_labels"], 1);
    assert_eq!(report["duplicates_across"][0]["rows"], 22);
    bad(folder.path(), &["data", "check", "duplicates.csv", "--strict"], 1, &[]);
    let done = bad(folder.path(), &["data", "check", "broken.csv"], 2, &["1 row cannot be read"]);
    assert!(done.stdout.contains("line 22, column emotion: unknown label \"9\"; expected 0..6"), "{}", done.all());
    assert!(done.stdout.contains("angry"), "readable rows are still reported");
}

#[test]
fn preview_has_the_expected_size() {
    let bench = bench();
    let args = ["data", "preview", "tiny.toml", "--out", "sheet.png", "--rows", "3", "--columns", "4"];
    good(bench.path(), &args);
    let bytes = fs_err::read(bench.path().join("sheet.png")).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let big_endian = |offset: usize| u32::from_be_bytes(bytes[offset..offset + 4].try_into().unwrap());
    assert_eq!((big_endian(16), big_endian(20)), (2 + 5 * 98 + 8, 2 + 3 * 98));
    bad(bench.path(), &["data", "preview", "tiny.toml", "--out", "none/sheet.png"], 1, &["none: no such folder"]);

    fs_err::write(bench.path().join("sheet.png"), "mine").unwrap();
    bad(bench.path(), &args, 2, &["sheet.png: exists; choose another --out, or overwrite it with --force"]);
    assert_eq!(text(bench.path().join("sheet.png")), "mine");
    good(bench.path(), &[&args[..], &["--force"]].concat());
    assert_eq!(fs_err::read(bench.path().join("sheet.png")).unwrap(), bytes);
    for input in ["tiny.toml", "data/my_emotion_train.csv"] {
        let args = ["data", "preview", "tiny.toml", "--out", input, "--force"];
        bad(bench.path(), &args, 2, &[input, "is read by this command"]);
    }
}

#[test]
fn preview_goes_to_standard_output() {
    let bench = bench();
    let args = ["data", "preview", "tiny.toml", "--rows", "2", "--columns", "3", "--out"];
    good(bench.path(), &[&args[..], &["sheet.png"]].concat());
    let done = command(bench.path(), &[&args[..], &["-"]].concat()).output().unwrap();
    assert!(done.stdout == fs_err::read(bench.path().join("sheet.png")).unwrap(), "a PNG");
    let message = String::from_utf8_lossy(&done.stderr);
    assert!(message.contains("2 images with 3 augmentations each, written to standard output"), "{message}");
    let device = command(bench.path(), &[&args[..], &["/dev/stdout"]].concat()).output().unwrap();
    assert!(device.stdout == done.stdout);
    bad(bench.path(), &[&args[..], &["-", "--json"]].concat(), 2, &["--out - and --json", "omit --json"]);
    assert!(!bench.path().join("-").exists());
}
