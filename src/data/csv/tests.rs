use proptest::prelude::*;

use super::*;
use crate::data::config::OnBadRow;
use crate::data::images::PIXELS;
use crate::data::label_map::LabelNames;
use crate::data::read::read;
use crate::data::read_options::LabelPolicy;

fn classes() -> Vec<String> {
    crate::data::config::CLASSES.map(String::from).to_vec()
}

fn image(value: usize) -> String {
    (0..PIXELS).map(|i| ((i * 7 + value) % 256).to_string()).collect::<Vec<_>>().join(" ")
}

fn read_text(text: &[u8], labels: LabelPolicy, on_bad_row: OnBadRow) -> anyhow::Result<Images> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.csv");
    fs_err::write(&path, text).unwrap();
    read(&path, ReadOptions { on_bad_row, ..ReadOptions::new(&classes(), labels) })
}

fn open(text: &[u8]) -> CsvSource {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.csv");
    fs_err::write(&path, text).unwrap();
    CsvSource::open(&path, "a CSV", &|_| Ok(())).unwrap()
}

/// Reads a text in chunks of at least `chunk` bytes.
fn read_chunks(text: &[u8], options: ReadOptions<'_>, chunk: u64) -> anyhow::Result<Images> {
    let mut images = Images::default();
    let whole = read_source(&open(text), options, chunk, &mut |part| images.append(part))?;
    let Images { file_rows, skipped, left_out, unused_labels, notes, .. } = whole;
    Ok(Images { file_rows, skipped, left_out, unused_labels, notes, ..images })
}

/// Reads a valid file with both readers, which must agree.
fn good(text: &str) -> Images {
    let classes = classes();
    let options = ReadOptions::new(&classes, LabelPolicy::Optional);
    let source = open(text.as_bytes());
    let columns = read_columns(&source, LabelPolicy::Optional, None).unwrap();
    let map = LabelMap::new(options.classes, options.label_names);
    let quote = match scan::scan_source(&source, columns.separator, scan::CHUNK).unwrap().quoting {
        Quoting::None => None,
        Quoting::Standard => Some(b'"'),
        Quoting::Ambiguous => panic!("ambiguous quoting in a known layout"),
    };
    let fast = fast::read(text.as_bytes(), &columns, &map, quote, 0).expect("the fast reader accepts a valid file");
    let (mut slow, mut counts) = (Images::default(), Counts::default());
    let mut reader = RowReader::new(&source, &columns, &map, options);
    reader.read(source.reader(), 0, &mut counts, &mut |part| slow.append(part)).unwrap();
    assert_eq!((fast.rows, fast.left_out), (counts.rows as usize, counts.left_out));
    assert_same(&fast.images, &slow);
    read_chunks(text.as_bytes(), options, 1).unwrap()
}

fn assert_same(one: &Images, other: &Images) {
    assert!(one.pixels == other.pixels && one.hashes == other.hashes);
    assert_eq!((&one.labels, &one.ids, &one.rows), (&other.labels, &other.ids, &other.rows));
    assert_eq!((&one.usages, &one.groups), (&other.usages, &other.groups));
}

/// Chunked reading gives the same as reading the whole file, at any chunk size: rows, errors and
/// line numbers.
fn assert_chunks_agree(text: &str, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    // The records of these files have about 9000 bytes: one, two and several of them.
    let whole = read_chunks(text.as_bytes(), options, u64::MAX);
    let notes = |images: &Images| images.notes.iter().map(|note| without_folder(note)).collect::<Vec<_>>();
    for chunk in [1, 9_500, 30_000] {
        match (&whole, read_chunks(text.as_bytes(), options, chunk)) {
            (Ok(whole), Ok(parts)) => {
                assert_same(whole, &parts);
                assert_eq!((whole.file_rows, &whole.skipped), (parts.file_rows, &parts.skipped), "chunks of {chunk}");
                assert_eq!((whole.left_out, notes(whole)), (parts.left_out, notes(&parts)));
                assert_eq!(whole.unused_labels, parts.unused_labels);
            }
            (Err(whole), Err(parts)) => {
                assert_eq!(
                    without_folder(&format!("{whole:#}")),
                    without_folder(&format!("{parts:#}")),
                    "chunks of {chunk}"
                );
            }
            (whole, parts) => panic!("chunks of {chunk}: {:?}, whole {:?}", parts.map(drop), whole.as_ref().map(drop)),
        }
    }
    whole
}

/// The files of a test are in temporary folders.
fn without_folder(text: &str) -> String {
    text.lines().map(|line| line.split_once("images.csv").map_or(line, |(_, rest)| rest)).collect()
}

#[test]
fn chunks_are_read_as_the_whole_file() {
    let classes = classes();
    let names = LabelNames::parse("happy=happy,sad=skip,joy=happy").unwrap();
    let lenient = ReadOptions {
        on_bad_row: OnBadRow::Skip,
        group: Some("age"),
        label_names: &names,
        ..ReadOptions::new(&classes, LabelPolicy::Required)
    };
    let strict = ReadOptions { on_bad_row: OnBadRow::Error, ..lenient };
    let row = |number: usize, label: &str, more: &str| format!("{label},{},r{number},Training,{more}", image(number));
    let labels = ["0", "happy", "sad", "6"];
    for (name, end, blank, mark) in
        [("LF", "\n", "", ""), ("CRLF", "\r\n", "", "\u{feff}"), ("blank", "\n", "\n\n", "")]
    {
        for quoted in [false, true] {
            let note = |number: usize| match number % 3 {
                0 if quoted => format!("\"old{end}{end}, or \"\"very\"\" old\""),
                1 if quoted => "\"\"\"\"".to_owned(),
                _ => "30".to_owned(),
            };
            let rows: Vec<String> = (0..12).map(|number| row(number, labels[number % 4], &note(number))).collect();
            let text = |rows: &[String]| {
                let rows: String = rows.iter().map(|row| format!("{blank}{row}{end}")).collect();
                format!("{mark}emotion,pixels,id,Usage,age{end}{rows}")
            };
            let images = assert_chunks_agree(&text(&rows), strict).unwrap();
            assert_eq!((images.len(), images.left_out, images.file_rows), (9, 3, 12), "{name}, quoted {quoted}");
            assert_eq!(images.unused_labels, ["joy"]);
            assert_eq!(images.rows, [0, 1, 3, 4, 5, 7, 8, 9, 11]);
            assert_eq!(images.groups.as_ref().unwrap()[0], note(0).trim_matches('"').replace("\"\"", "\""));
            // Without a line end after the last row.
            assert_chunks_agree(text(&rows).trim_end(), strict).unwrap();
            // Every row bad in turn: it begins and ends a chunk.
            for bad in 0..rows.len() {
                let mut rows = rows.clone();
                rows[bad] = match bad % 4 {
                    0 => row(bad, "nobody", "1"),
                    1 => "1,2 3".to_owned(),
                    2 => row(bad, "happy", "x,y"),
                    _ => row(bad, "happy", &note(0)).replacen(' ', " 256 ", 1),
                };
                let images = assert_chunks_agree(&text(&rows), lenient).unwrap();
                assert_eq!((images.skipped.count(), images.file_rows), (1, 12), "{name}, row {bad}");
                let message = assert_chunks_agree(&text(&rows), strict).unwrap_err().to_string();
                let breaks = |text: &str| text.matches('\n').count();
                let line = 1 + breaks(&text(&rows[..bad])) + breaks(blank);
                assert!(
                    message.contains(&format!("line {line}")),
                    "{name}, quoted {quoted}, row {bad}: {message:.300}"
                );
            }
        }
    }
}

#[test]
fn bad_rows_of_several_chunks_are_counted() {
    let classes = classes();
    let options = ReadOptions::new(&classes, LabelPolicy::Required);
    let rows: String = (0..9).map(|row| format!("{},{}\n", if row % 2 == 0 { "x" } else { "3" }, image(row))).collect();
    let message = assert_chunks_agree(&format!("emotion,pixels\n{rows}"), options).unwrap_err().to_string();
    assert!(message.contains("line 2, column emotion") && message.contains("line 10, column emotion"), "{message}");
    let options = ReadOptions { on_bad_row: OnBadRow::Skip, ..options };
    let images = assert_chunks_agree(&format!("emotion,pixels\n{rows}"), options).unwrap();
    assert_eq!((images.rows, images.skipped.count()), (vec![1, 3, 5, 7], 5));
    for empty in ["emotion,pixels\n", "emotion,pixels", "emotion,pixels\n\n"] {
        let images = assert_chunks_agree(empty, options).unwrap();
        assert_eq!((images.len(), images.file_rows, images.labels), (0, 0, Some(Vec::new())), "{empty:?}");
    }
}

fn message(text: &[u8]) -> String {
    format!("{:#}", read_text(text, LabelPolicy::Required, OnBadRow::Error).unwrap_err())
}

#[test]
fn both_readers_agree_on_every_kaggle_layout() {
    let (a, b) = (image(1), image(2));
    let train = good(&format!("emotion,pixels\n3,{a}\n6,{b}\n"));
    assert_eq!(train.len(), 2);
    assert_eq!(train.labels.as_deref(), Some(&[3, 6][..]));
    assert_eq!(&train.image(0).unwrap()[..3], &[1, 8, 15]);

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
    assert_eq!(read_text(text.as_bytes(), LabelPolicy::Required, OnBadRow::Error).unwrap().len(), 2);
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
    let images = read_text(text.as_bytes(), LabelPolicy::Required, OnBadRow::Skip).unwrap();
    assert_eq!(images.rows, [0, 3]);
    assert_eq!(images.labels.as_deref(), Some(&[0, 2][..]));
    let skipped: Vec<String> = images.skipped.kept().iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].starts_with("line 3, column emotion"), "{skipped:?}");
    assert_eq!(skipped[1], "line 4, column pixels: 3 pixels; expected 2304 (48x48)");
    let all_bad = read_text(b"emotion,pixels\n9,1\n", LabelPolicy::Required, OnBadRow::Skip).unwrap_err().to_string();
    assert!(all_bad.contains("all 1 were skipped"), "{all_bad}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_images_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let mut text = if header { b"emotion,pixels\n".to_vec() } else { Vec::new() };
        text.extend(bytes);
        // Neither reader may panic; an image of 2304 pixels does not fit into 300 bytes.
        prop_assert!(read_text(&text, LabelPolicy::Ignored, OnBadRow::Error).is_err());
        prop_assert!(read_text(&text, LabelPolicy::Required, OnBadRow::Skip).is_err());
    }
}

#[test]
fn carriage_returns_end_lines() {
    let text = format!("emotion,pixels\r3,{}\r6,{}\r", image(1), image(2));
    let images = read_text(text.as_bytes(), LabelPolicy::Required, OnBadRow::Error).unwrap();
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
    let options = ReadOptions { label_names: &names, ..ReadOptions::new(&classes, LabelPolicy::Required) };
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
