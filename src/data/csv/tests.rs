use proptest::prelude::*;

use super::columns::LabelColumn;
use super::*;
use crate::data::config::OnBadRow;
use crate::data::label_map::LabelNames;

fn classes() -> Vec<String> {
    crate::data::config::CLASSES.map(String::from).to_vec()
}

fn image(value: usize) -> String {
    (0..PIXELS).map(|i| ((i * 7 + value) % 256).to_string()).collect::<Vec<_>>().join(" ")
}

fn read_text(text: &[u8], labels: LabelColumn, on_bad_row: OnBadRow) -> anyhow::Result<Images> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.csv");
    fs_err::write(&path, text).unwrap();
    read(&path, ReadOptions { on_bad_row, ..ReadOptions::new(&classes(), labels) })
}

/// Reads a valid file with both readers, which must agree.
fn good(text: &str) -> Images {
    let classes = classes();
    let options = ReadOptions::new(&classes, LabelColumn::Optional);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.csv");
    fs_err::write(&path, text).unwrap();
    let source = CsvSource::open(&path, "a CSV", &|_| Ok(())).unwrap();
    let columns = read_columns(&source, LabelColumn::Optional).unwrap();
    let map = LabelMap::new(options.classes, options.label_names);
    let quote = match scan::scan_source(&source, columns.separator).unwrap().quoting {
        Quoting::None => None,
        Quoting::Standard => Some(b'"'),
        Quoting::Ambiguous => panic!("ambiguous quoting in a known layout"),
    };
    let fast = read_fast(&source, &columns, &map, quote).expect("the fast reader accepts a valid file");
    let slow = diagnose::read(&source, &columns, &map, options).unwrap();
    assert_eq!(fast.pixels, slow.pixels);
    assert_eq!(
        (&fast.labels, &fast.ids, &fast.usages, &fast.rows, fast.file_rows),
        (&slow.labels, &slow.ids, &slow.usages, &slow.rows, slow.file_rows)
    );
    read(&path, options).unwrap()
}

fn message(text: &[u8]) -> String {
    format!("{:#}", read_text(text, LabelColumn::Required, OnBadRow::Error).unwrap_err())
}

#[test]
fn both_readers_agree_on_every_kaggle_layout() {
    let (a, b) = (image(1), image(2));
    let train = good(&format!("emotion,pixels\n3,{a}\n6,{b}\n"));
    assert_eq!(train.len(), 2);
    assert_eq!(train.labels.as_deref(), Some(&[3, 6][..]));
    assert_eq!(&train.image(0)[..3], &[1, 8, 15]);

    let test = good(&format!("id,pixels\n17,{a}\nx9,{b}\n"));
    assert_eq!(test.ids.as_deref(), Some(&["17".to_owned(), "x9".to_owned()][..]));
    assert_eq!(test.labels, None);

    let fer = good(&format!("emotion,pixels,Usage\n0,{a},Training\n1,{b},PublicTest\n"));
    assert_eq!(fer.with_usage("PublicTest", Path::new("f")).unwrap().rows, [1]);
    let error = fer.with_usage("Test", Path::new("f")).unwrap_err().to_string();
    assert!(error.contains("PublicTest") && error.contains("Training"), "{error}");

    let icml = good(&format!("emotion, Usage, pixels\n0,Training,{a}\n2,PrivateTest,{b}\n"));
    assert_eq!(icml.labels.as_deref(), Some(&[0, 2][..]));
    assert_eq!(icml.usages.as_deref(), Some(&["Training".to_owned(), "PrivateTest".to_owned()][..]));

    let quoted = good(&format!("\u{feff}emotion,pixels\r\n0,\"{a}\"\r\n2,\"{b}\"\r\n"));
    assert_eq!(quoted.pixels, train.pixels);
    let ids = good(&format!("id,pixels\n\"17\",{a}\n\"x,9\",{b}\n"));
    assert_eq!(ids.ids.as_deref(), Some(&["17".to_owned(), "x,9".to_owned()][..]));
    let usages = good(&format!("emotion,pixels,Usage,note\n0,{a},\"Training\",\"a\nb\"\n1,{b},\"PublicTest\",c\n"));
    assert_eq!(usages.usages.as_deref(), Some(&["Training".to_owned(), "PublicTest".to_owned()][..]));
    let bare = good(&format!("pixels\r\n\"{a}\"\r\n\"{b}\""));
    assert_eq!((bare.pixels, bare.rows), (train.pixels.clone(), vec![0, 1]));

    let semicolons = good(&format!("Emotion;PIXELS;usage\n3.0;{a};Training\nNeutral;{b};training\n"));
    assert_eq!((&semicolons.pixels, &semicolons.labels), (&train.pixels, &train.labels));
    assert_eq!(semicolons.with_usage("Training", Path::new("f")).unwrap().len(), 2, "regardless of case");
    let tabs = good(&format!("ID\tpixels\r\n17\t\"{}\"\r\nx\t{b}\r\n", a.replacen(' ', "\n", 100)));
    assert_eq!((&tabs.pixels, tabs.ids.map(|ids| ids.concat())), (&train.pixels, Some("17x".to_owned())));

    let extra =
        good(&format!("note,pixels,emotion,who\nx,{a},0,y\n,{b},1,\n").replace("\n,", "\nq,").replace(",\n", ",z\n"));
    assert_eq!(extra.pixels, train.pixels);
}

#[test]
fn empty_cells_of_ignored_columns_are_allowed() {
    let text = format!("note,pixels,emotion,who\n,{},0,\nx,{},1,y\n", image(1), image(2));
    assert_eq!(read_text(text.as_bytes(), LabelColumn::Required, OnBadRow::Error).unwrap().len(), 2);
}

#[test]
fn errors_name_line_and_column() {
    let a = image(1);
    let short = a.rsplit_once(' ').unwrap().0;
    let high = a.replacen("8", "300", 1);
    let cases: Vec<(Vec<u8>, Vec<&str>)> = vec![
        (b"".to_vec(), vec!["is empty", "emotion,pixels"]),
        (b"emotion,pixels\n".to_vec(), vec!["no images"]),
        (b"emotion,pixel\n0,1\n".to_vec(), vec!["line 1: no column pixels", "\"emotion\", \"pixel\""]),
        (format!("id,pixels\n0,{a}\n").into_bytes(), vec!["line 1: no column emotion"]),
        (format!("emotion,pixels,pixels\n0,{a},{a}\n").into_bytes(), vec!["duplicate column pixels"]),
        (
            format!("emotion,pixels\n0,{a}\n1,{short}\n").into_bytes(),
            vec!["line 3, column pixels: 2303 pixels; expected 2304"],
        ),
        (format!("emotion,pixels\n0,{a} 1\n").into_bytes(), vec!["line 2, column pixels: 2305 pixels"]),
        (
            format!("emotion,pixels\n0,{high}\n").into_bytes(),
            vec!["line 2, column pixels: pixel 2 is 300; expected 0..255"],
        ),
        (format!("emotion,pixels\n0,{}\n", a.replacen(' ', " x", 1)).into_bytes(), vec!["pixel 2 is \"x8\""]),
        (
            format!("emotion,pixels\n7,{a}\n").into_bytes(),
            vec!["line 2, column emotion: unknown label \"7\"; expected 0..6 or a class name (angry"],
        ),
        (
            format!("emotion,pixels\njoy,{a}\n").into_bytes(),
            vec!["unknown label \"joy\"", "set data.labels = { joy = \"CLASS\" }"],
        ),
        (format!("emotion,pixels\n,{a}\n").into_bytes(), vec!["line 2, column emotion: unknown label \"\""]),
        (format!("emotion,pixels\n0,{a}\n1\n").into_bytes(), vec!["line 3: 1 fields; the header has 2"]),
        (format!("emotion,pixels\n0,{a}\n1,{a},5\n").into_bytes(), vec!["line 3: 3 fields; the header has 2"]),
        (format!("emotion,pixels,x\n0,{a},1\n1,{a}\n").into_bytes(), vec!["line 3: 2 fields; the header has 3"]),
        ([b"emotion,pixels\n0,1 2 \xff\xfe\n".to_vec()].concat(), vec!["line 2, column pixels: not UTF-8 at byte 5"]),
        (b"emo\xfftion,pixels\n".to_vec(), vec!["line 1: not UTF-8 at byte 4"]),
        (format!("emotion,pixels\n0,\"{a}\n1,{a}\n").into_bytes(), vec!["line 2, column pixels", "expected"]),
        (format!("emotion|pixels\n0|{a}\n").into_bytes(), vec!["no column pixels", "emotion|pixels"]),
        (format!("label,pixels\n0,{a}\n").into_bytes(), vec!["no column emotion", "if \"label\" is that column"]),
        ([b"a,".repeat(40_000), b"\n".to_vec()].concat(), vec!["line 1 is longer than 65536 bytes"]),
    ];
    for (text, expected) in cases {
        let message = message(&text);
        for part in expected {
            assert!(message.contains(part), "{part:?} is not in {:.400?}", message);
        }
    }
}

#[test]
fn skip_drops_bad_rows_and_keeps_row_indices() {
    let text = format!("emotion,pixels\n0,{a}\n9,{a}\n1,1 2 3\n2,{a}\n", a = image(1));
    let images = read_text(text.as_bytes(), LabelColumn::Required, OnBadRow::Skip).unwrap();
    assert_eq!(images.rows, [0, 3]);
    assert_eq!(images.labels.as_deref(), Some(&[0, 2][..]));
    let skipped: Vec<String> = images.skipped.kept().iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].starts_with("line 3, column emotion"), "{skipped:?}");
    assert_eq!(skipped[1], "line 4, column pixels: 3 pixels; expected 2304 (48x48)");
    let all_bad = read_text(b"emotion,pixels\n9,1\n", LabelColumn::Required, OnBadRow::Skip).unwrap_err().to_string();
    assert!(all_bad.contains("all 1 were skipped"), "{all_bad}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_images_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let mut text = if header { b"emotion,pixels\n".to_vec() } else { Vec::new() };
        text.extend(bytes);
        // Neither reader may panic; an image of 2304 pixels does not fit into 300 bytes.
        prop_assert!(read_text(&text, LabelColumn::Ignored, OnBadRow::Error).is_err());
        prop_assert!(read_text(&text, LabelColumn::Required, OnBadRow::Skip).is_err());
    }
}

#[test]
fn carriage_returns_end_lines() {
    let text = format!("emotion,pixels\r3,{}\r6,{}\r", image(1), image(2));
    let images = read_text(text.as_bytes(), LabelColumn::Required, OnBadRow::Error).unwrap();
    assert_eq!((images.len(), images.labels.as_deref()), (2, Some(&[3, 6][..])));
    let bad = text.replace("\r6,", "\r9,");
    assert!(message(bad.as_bytes()).contains("line 3, column emotion: unknown label \"9\""));
}

#[test]
fn rows_are_left_out_by_the_label_map() {
    let a = image(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.csv");
    let classes = ["positive", "negative"].map(String::from);
    let names = LabelNames::parse("happy=positive,sad=negative,disgust=skip").unwrap();
    let options = ReadOptions { label_names: &names, ..ReadOptions::new(&classes, LabelColumn::Required) };
    // A stray quote sends the second file to the row-by-row reader.
    for note in ["x", "x\"y"] {
        fs_err::write(&path, format!("emotion,pixels,note\n3,{a},{note}\n1,{a},\"a\"\nSad,{a},b\n")).unwrap();
        let images = read(&path, options).unwrap();
        assert_eq!((images.labels.as_deref(), &images.rows), (Some(&[0, 1][..]), &vec![0, 2]));
        assert_eq!((images.left_out, images.file_rows, images.len()), (1, 3, 2));
        assert!(images.notes[0].ends_with("images.csv: data.labels leaves out 1 of 3 rows"), "{:?}", images.notes);
    }
    fs_err::write(&path, format!("emotion,pixels\ndisgust,{a}\n")).unwrap();
    assert!(read(&path, options).unwrap_err().to_string().contains("data.labels leaves out 1 row, which is all"));
}
