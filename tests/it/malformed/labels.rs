//! CSV files of labels for `evaluate --labels`.

use super::*;

#[test]
fn invalid_label_files() {
    let mut cases = Cases::new();
    let good = text(cases.path("data/my_emotion_test_labels.csv"));
    let lines: Vec<&str> = good.lines().collect();
    // The row of id 6 is on line 8.
    let row = |new: &str| [&lines[..7], &[new], &lines[8..]].concat().join("\n");
    let repeated = format!("{good}4,1\n");
    let missing = lines[..150].join("\n");
    let columns = |header: &str, more: &str| {
        lines[1..].iter().fold(header.to_owned(), |text, line| text + &format!("\n{line}{more}"))
    };
    let unknown = |text: &str| format!("labels.csv: line 8, column emotion: unknown label {text:?}; expected 0..6");
    let quote_open = format!("id,emotion\n\"0,1\n{}", "1,1\n".repeat(400_000));
    let mut table: Vec<(Vec<u8>, Vec<String>)> = vec![
        (vec![], vec!["labels.csv: is empty".into()]),
        ("id,emotion\n".into(), vec!["labels.csv: no label for id \"0\"".into()]),
        (missing.into(), vec!["labels.csv: no label for id \"149\"".into()]),
        (repeated.into(), vec!["labels.csv: line 152, column id: duplicate id \"4\"".into()]),
        (row("6\0,1").into(), vec!["labels.csv: no label for id \"6\"".into()]),
        (good.replace("emotion", "label").into(), vec!["labels.csv: line 1: no column emotion".into()]),
        (good.replace("id,", "image,").into(), vec!["labels.csv: line 1: no column id".into()]),
        (good.replace(',', "|").into(), vec!["labels.csv: line 1: no column id; found \"id|emotion\"".into()]),
        (columns("id,emotion,emotion", ",1").into(), vec!["line 1: duplicate column emotion".into()]),
        (columns("id,emotion,id", ",1").into(), vec!["line 1: duplicate column id".into()]),
        (row("6,1,1").into(), vec!["labels.csv: line 8".into(), "3 fields".into()]),
        (row("6").into(), vec!["labels.csv: line 8".into(), "1 fields".into()]),
        (format!("{good}garbage\n").into(), vec!["labels.csv: line 152".into(), "1 fields".into()]),
        (row("6,9").replace('\n', "\r\n").into(), vec![unknown("9")]),
        (row("\n\n6,9").into(), vec!["labels.csv: line 10, column emotion: unknown label \"9\"".into()]),
        (utf16(&good.replace("emotion", "label")), vec!["labels.csv: line 1: no column emotion; found \"id\"".into()]),
        ([good.as_bytes(), b"\xe9,1\n"].concat(), vec!["labels.csv".into(), "line 152".into(), "UTF-8".into()]),
        (vec![0; 1000], vec!["labels.csv: line 1: no column id".into()]),
        (b"\x1f\x8b\x08\0\n".to_vec(), vec!["labels.csv: is gzip-compressed and cannot be decompressed".into()]),
        (quote_open.into(), vec!["labels.csv: line 2 is longer than 1048576 bytes".into(), "quote".into()]),
    ];
    for text in ["7", "-1", "joy", "3.5", "", "99999999999999999999", "\0"] {
        table.push((row(&format!("6,{text}")).into(), vec![unknown(text)]));
    }
    table.push((row(&format!("6,{}", "x".repeat(100_000))).into(), vec!["line 8, column emotion".into()]));
    let score = score("labels.csv");
    for (bytes, parts) in table {
        cases.write("labels.csv", bytes);
        cases.expect(&score, 2, &parts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for (start, line, limit) in [("", 1, 65_536), ("id,emotion\n0,1\n", 3, 1 << 20), ("id,emotion\n0,\"1", 2, 1 << 20)]
    {
        cases.write_sparse("labels.csv", start, 10 * GIB);
        cases.expect(&score, 2, &[&format!("labels.csv: line {line} is longer than {limit} bytes")]);
    }
    cases.write_many("labels.csv", "id,emotion\n0,1", ",a", 10_000_000);
    cases.expect(&score, 2, &["labels.csv: line 2 is longer than 1048576 bytes"]);
    cases.write_many("labels.csv", "id,emotion\n", "a\n", 1_000_000);
    cases.expect(&score, 2, &["labels.csv: line 2", "1 fields"]);
    cases.write_many("labels.csv", "id,emotion\n", "\n", 1_000_000);
    cases.expect(&score, 2, &["labels.csv: no label for id \"0\""]);
    let swapped = ["evaluate", "run", "--data", "data/my_emotion_test_labels.csv"];
    cases.expect(&swapped, 2, &["my_emotion_test_labels.csv: line 1: no column pixels"]);
    cases.finish();
}
