//! CSV files of images.

use super::*;

/// Trains on a CSV; it must fail with the file name and every part, and create no run.
pub fn refuse_training_on(cases: &mut Cases, file: &str, parts: &[&str]) {
    let set = format!("data.train={file}");
    cases.expect(&["train", "tiny.toml", "--out", "none", "--set", &set], 2, &[&[file], parts].concat());
    cases.check_no_run();
}

/// Writes each CSV and trains on it; it must fail.
fn refuse_training(table: Vec<(&str, Vec<u8>, &[&str])>) {
    let mut cases = Cases::new();
    for (name, bytes, parts) in table {
        let file = format!("{name}.csv");
        cases.write(&file, bytes);
        refuse_training_on(&mut cases, &file, parts);
    }
    cases.finish();
}

#[test]
fn invalid_headers() {
    let (a, row) = (image(1), format!("0,{}", image(1)));
    let twice = |header: &str| csv(header, &[format!("0,{a},{a}")]);
    refuse_training(vec![
        ("empty", vec![], &["is empty", "columns emotion,pixels"]),
        ("only-a-byte-order-mark", "\u{feff}".into(), &["is empty"]),
        ("only-a-header", HEADER.into(), &["no images"]),
        ("byte-order-mark-and-header", format!("\u{feff}{HEADER}").into(), &["no images"]),
        ("blank-first-line", csv("\n", &[&row]), &["line 1 is blank; expected a header"]),
        ("no-pixels", csv("emotion,pixel\n", &[&row]), &["line 1: no column pixels", "\"emotion\", \"pixel\""]),
        ("no-emotion", csv("id,pixels\n", &[&row]), &["line 1: no column emotion", "\"id\", \"pixels\""]),
        ("a-similar-name", csv("label,pixels\n", &[&row]), &["line 1: no column emotion", "rename it to emotion"]),
        // Without a header, the first row of 8,000 bytes is truncated in the message.
        ("no-header", csv("", &[&row]), &["line 1: no column pixels", "\"0\""]),
        ("comment", csv("# images\nemotion,pixels\n", &[&row]), &["line 1: no column pixels", "\"# images\""]),
        ("bars", csv("emotion|pixels\n", &[row.replace(',', "|")]), &["line 1", "\"emotion|pixels\""]),
        ("two-cases", twice("emotion,pixels,Pixels\n"), &["line 1: duplicate column pixels", "regardless of case"]),
        ("open-quote", csv("\"emotion,pixels\n", &[&row]), &["line 1: no column pixels"]),
        ("line-break-in-a-name", csv("\"emo\ntion\",pixels\n", &[&row]), &["line 1: no column pixels"]),
        ("two-pixels", twice("emotion,pixels,pixels\n"), &["line 1: duplicate column pixels"]),
        ("two-pixels-and-blanks", twice("emotion,pixels, pixels \n"), &["line 1: duplicate column pixels"]),
        ("two-usages", csv("emotion,pixels,Usage,Usage\n", &[format!("{row},,")]), &["duplicate column Usage"]),
        ("utf-16", utf16("emotion,pixel\n"), &["line 1: no column pixels; found \"emotion\", \"pixel\""]),
        ("latin-1", b"emotion,pixels,\xe9tat\n".to_vec(), &["line 1: not UTF-8 at byte 16"]),
        ("nul-in-the-header", csv("emo\0tion,pixels\n", &[&row]), &["line 1: no column emotion", "emo\\0tion"]),
        ("nuls", vec![0; 60_000], &["line 1: no column pixels", "\\0\\0"]),
        (
            "gzip",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\xcd\n".to_vec(),
            &["gzip.csv: is gzip-compressed and cannot be decompressed", "create it again"],
        ),
        ("zip", b"PK\x03\x04\x14\0\0\0\x08\0\xfe\x5a\n".to_vec(), &["zip.csv: is a zip archive that cannot be read"]),
        ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), &["png.csv: is a PNG image; expected a CSV file of images"]),
        ("json", "[{\"emotion\":0,\"pixels\":\"1 2\"}]".into(), &["json.csv: is a JSON document; expected a CSV"]),
        ("escapes", csv("\u{1b}]0;title\u{7},pixel\n", &[&row]), &["line 1: no column pixels", "\\u{1b}"]),
        (
            "another-usage",
            csv("emotion,pixels,usage\n", &[format!("{row},fit")]),
            &["no row has Usage \"Training\"", "found \"fit\""],
        ),
        ("no-usage-at-all", csv("emotion,pixels,Usage\n", &[format!("{row},")]), &["no row has Usage \"Training\""]),
    ]);
}

#[test]
fn rows_with_a_wrong_number_of_fields() {
    let (a, good) = (image(1), format!("0,{}", image(1)));
    let rows = |second: String| csv(HEADER, &[good.clone(), second]);
    let many = |first: &str, count: usize| {
        let rows = (0..count).map(|number| format!("{},{}", number % 7, image(number)));
        csv(HEADER, &[first.to_owned()].into_iter().chain(rows).collect::<Vec<_>>())
    };
    let truncated = format!("1,{}", &a[..500]);
    let pixels = format!("line 3, column pixels: {} pixels; expected 2304", a[..500].split_whitespace().count());
    refuse_training(vec![
        ("one-field", rows("1".into()), &["line 3: 1 fields; the header has 2"]),
        ("no-label", rows(a.clone()), &["line 3: 1 fields; the header has 2"]),
        ("three-fields", rows(format!("1,{a},5")), &["line 3: 3 fields; the header has 2"]),
        ("comma-at-the-end", rows(format!("1,{a},")), &["line 3: 3 fields; the header has 2"]),
        ("truncated", [&csv(HEADER, &[&good])[..], truncated.as_bytes()].concat(), &[pixels.as_str()]),
        ("trailing-garbage", [&csv(HEADER, &[&good])[..], b"\xde\xad\xbe\xef x\n"].concat(), &["line 3: 1 fields"]),
        ("commas-between-pixels", csv(HEADER, &[good.replace(' ', ",")]), &["line 2: 2305 fields; the header has 2"]),
        ("two-commas-between-pixels", csv(HEADER, &[good.replace(' ', ",,")]), &["line 2: 4608 fields"]),
        ("semicolons-in-rows", csv(HEADER, &[good.replace(',', ";")]), &["line 2: 1 fields; the header has 2"]),
        ("quote-before-a-comma", csv(HEADER, &[format!("0\",{a}")]), &["line 2, column emotion: unknown label"]),
        ("quote-among-pixels", csv(HEADER, &[format!("0,{}\"{}", &a[..40], &a[40..])]), &["line 2, column pixels"]),
        ("quote-behind-pixels", rows(format!("1,{a}\"")), &["line 3, column pixels: pixel 2304 is"]),
        ("lone-quote-at-the-end", [&csv(HEADER, &[&good])[..], b"\""].concat(), &["line 3"]),
        // An unclosed quote swallows the rows after it; the message must point to it.
        ("unclosed-and-few-rows", many(&format!("0,\"{a}"), 20), &["line 2", "quote"]),
        ("unclosed-and-many-rows", many(&format!("0,\"{a}"), 600), &["line 2 is longer than 1048576 bytes", "quote"]),
        ("unclosed-label", many(&format!("\"0,{a}"), 600), &["line 2 is longer than 1048576 bytes", "quote"]),
    ]);
}

#[test]
fn invalid_pixels() {
    let a = image(1);
    let cell = |pixels: &str| csv(HEADER, &[format!("0,{pixels}")]);
    let fifth = "line 2, column pixels: pixel 5 is";
    refuse_training(vec![
        ("one-too-few", cell(a.rsplit_once(' ').unwrap().0), &["line 2, column pixels: 2303 pixels; expected 2304"]),
        ("one-too-many", cell(&format!("{a} 9")), &["line 2, column pixels: 2305 pixels; expected 2304"]),
        ("none", cell(""), &["line 2, column pixels: no pixels; expected 2304 integers 0..255"]),
        ("blank", cell("    "), &["line 2, column pixels: no pixels"]),
        ("256", fifth_pixel("256"), &[fifth, "256; expected 0..255"]),
        ("negative", fifth_pixel("-1"), &[fifth, "\"-1\"; expected an integer 0..255"]),
        ("exponent", fifth_pixel("1e3"), &[fifth, "\"1e3\""]),
        ("fraction", fifth_pixel("3.5"), &[fifth, "\"3.5\""]),
        ("plus", fifth_pixel("+7"), &[fifth, "\"+7\""]),
        ("full-width-digits", fifth_pixel("１２"), &[fifth, "\"１２\""]),
        ("hexadecimal", fifth_pixel("0x1f"), &[fifth, "\"0x1f\""]),
        ("a-million-digits", fifth_pixel(&"9".repeat(1_000_000)), &[fifth, "9999...; expected 0..255"]),
        ("nul", fifth_pixel("1\0"), &[fifth, "\"1\\0\""]),
        ("escape", fifth_pixel("\u{1b}[2J"), &[fifth, "\\u{1b}"]),
        ("bars-between", cell(&a.replace(' ', "|")), &["line 2, column pixels: pixel 1 is \"1|8"]),
        ("no-break-space", cell(&a.replacen(' ', "\u{a0}", 1)), &["line 2, column pixels: pixel 1 is \"1\\u{a0}8\""]),
        ("a-python-tuple", cell(&format!("\"({})\"", a.replace(' ', ", "))), &["column pixels: pixel 1 is \"(1\""]),
        ("not-utf-8", [b"emotion,pixels\n0,1 2 \xff\xfe\n".to_vec()].concat(), &["column pixels: not UTF-8 at byte 5"]),
    ]);
}

#[test]
fn invalid_labels_and_their_line_numbers() {
    let unknown =
        |text: &str| format!("line 2, column emotion: unknown label {text:?}; expected 0..6 or a class name (angry,");
    let texts = ["-1", "7", "3.5", "joy", "", "99999999999999999999", "３", "3 4", "0x3", "nan", "\0", "\u{1b}[31m"];
    let mut cases = Cases::new();
    for (number, text) in texts.into_iter().enumerate() {
        let file = format!("label{number}.csv");
        cases.write(&file, label(text));
        refuse_training_on(&mut cases, &file, &[&unknown(text)]);
    }
    cases.write("long.csv", label(&"x".repeat(100_000)));
    refuse_training_on(&mut cases, "long.csv", &["line 2, column emotion: unknown label \"xxx"]);

    // Six rows with several kinds of line breaks; the last has the label 9.
    let mixed = |text: Vec<u8>| {
        let text = String::from_utf8(text).unwrap();
        let ends = ["\n", "\r\n"].into_iter().cycle();
        text.lines().zip(ends).map(|(line, end)| format!("{line}{end}")).collect::<String>().into_bytes()
    };
    let files = [
        ("lf.csv", bad_sixth_row(HEADER, "\n"), "line 7, column emotion"),
        ("crlf.csv", bad_sixth_row("emotion,pixels\r\n", "\r\n"), "line 7, column emotion"),
        ("both.csv", mixed(bad_sixth_row(HEADER, "\n")), "line 7, column emotion"),
        ("mark.csv", bad_sixth_row("\u{feff}emotion,pixels\r\n", "\r\n"), "line 7, column emotion"),
        ("cr.csv", bad_sixth_row("emotion,pixels\r", "\r"), "line 7, column emotion"),
        ("blank-lines.csv", bad_sixth_row("emotion,pixels\n\n", "\n\n"), "line 13, column emotion"),
        ("quoted-breaks.csv", bad_sixth_row("emotion,pixels,note\n", ",\"a\nb\nc\"\n"), "line 17, column emotion"),
    ];
    for (file, bytes, line) in files {
        cases.write(file, bytes);
        refuse_training_on(&mut cases, file, &[line, "unknown label \"9\""]);
    }
    cases.write("all.csv", csv(HEADER, &["9,1", "joy,2"]));
    let skip = ["train", "tiny.toml", "--out", "none", "--set", "data.train=all.csv", "--set", "data.on_bad_row=skip"];
    cases.expect(&skip, 2, &["all.csv: no images: all 2 were skipped, the first at line 2"]);
    cases.finish();
}

#[test]
fn oversized_files() {
    let mut cases = Cases::new();
    let good = format!("{HEADER}0,{a}\n1,{a}\n", a = image(1));
    let over = |line: u32| format!("line {line} is longer than 1048576 bytes");
    let sparse = [
        ("nuls.csv", String::new(), "line 1 is longer than 65536 bytes".to_owned(), ""),
        ("line.csv", HEADER.to_owned(), over(2), ""),
        ("pixels.csv", format!("{HEADER}3,1 2 3"), over(2), ""),
        ("unclosed.csv", format!("{HEADER}3,\"1 2 3"), over(2), "quote"),
        ("header.csv", "emotion,pixels,\"no\n".to_owned(), over(1), "quote"),
        ("behind-rows.csv", good, over(4), ""),
    ];
    for (file, start, problem, quote) in sparse {
        cases.write_sparse(file, start, 10 * GIB);
        cases.expect(&["data", "check", file], 2, &[file, &problem, quote]);
    }
    refuse_training_on(&mut cases, "behind-rows.csv", &[&over(4)]);
    cases.expect(&predict("line.csv"), 2, &["line.csv", &over(2)]);

    cases.write_many("wide.csv", "pixels", ",a", 10_000_000);
    cases.expect(&["data", "check", "wide.csv"], 2, &["wide.csv: line 1 is longer than 65536 bytes"]);
    cases.write_many("wide-row.csv", &format!("{HEADER}3"), ",", 10_000_000);
    cases.expect(&["data", "check", "wide-row.csv"], 2, &["wide-row.csv", &over(2)]);
    cases.write_many("long-id.csv", "id,pixels\n", "x", 2 << 20);
    cases.expect(&["data", "check", "long-id.csv"], 2, &["long-id.csv", &over(2)]);

    let header = format!("emotion,pixels{}\n", ",".repeat(60_000));
    cases.write_many("many-columns.csv", &header, &header.replace("emotion,pixels", "9,1"), 200);
    refuse_training_on(&mut cases, "many-columns.csv", &["line 2, column emotion", "and 195 more bad rows"]);
    cases.write_many("carriage-returns.csv", "emotion,pixels\r9,1\r3,", "1 ", 1 << 20);
    refuse_training_on(&mut cases, "carriage-returns.csv", &[&over(3)]);
    cases.finish();
}

#[test]
fn a_million_empty_or_short_lines() {
    let mut cases = Cases::new();
    let million = 1_000_000;
    cases.write_many("short.csv", HEADER, "a\n", million);
    refuse_training_on(&mut cases, "short.csv", &["line 2: 1 fields; the header has 2", "and 999995 more bad rows"]);
    cases.expect(&["data", "check", "short.csv"], 2, &["1,000,000 rows cannot be read"]);
    cases.write_many("commas.csv", HEADER, ",\n", million);
    refuse_training_on(&mut cases, "commas.csv", &["line 2, column emotion: unknown label \"\""]);
    cases.write_many("quotes.csv", HEADER, "\"\n", million);
    refuse_training_on(&mut cases, "quotes.csv", &["line 2: 1 fields", "and 499995 more bad rows"]);
    cases.write_many("blank.csv", HEADER, "\n", million);
    refuse_training_on(&mut cases, "blank.csv", &["no images"]);
    cases.write_many("blank-crlf.csv", HEADER, "\r\n", million);
    refuse_training_on(&mut cases, "blank-crlf.csv", &["no images"]);
    cases.write_many("blank-header.csv", "", "\n", million);
    refuse_training_on(&mut cases, "blank-header.csv", &["line 1 is blank; expected a header"]);
    let bytes = fs_err::read(cases.path("blank.csv")).unwrap();
    cases.write("bad-row.csv", [&bytes[..], b"9,1\n"].concat());
    refuse_training_on(&mut cases, "bad-row.csv", &["line 1000002, column emotion: unknown label \"9\""]);
    cases.finish();
}

#[test]
fn data_check_reports_unreadable_files_and_rows() {
    let mut cases = Cases::new();
    let a = image(1);
    for (file, bytes, part) in [
        ("empty.csv", vec![], "empty.csv: is empty"),
        ("gzip.csv", b"\x1f\x8b\x08\0\n".to_vec(), "gzip.csv: is gzip-compressed and cannot be decompressed"),
        ("bars.csv", csv("emotion|pixels\n", &[&a]), "bars.csv: line 1: no column pixels"),
        ("two.csv", csv("pixels,pixels\n", &[&a]), "two.csv: line 1: duplicate column pixels"),
    ] {
        cases.write(file, bytes);
        cases.expect(&["data", "check", file], 2, &[part]);
        cases.expect(&["data", "check", "data/my_emotion_test.csv", file], 2, &[part]);
    }
    // Bad rows are listed in the report on stdout; the error is that there are any.
    for (file, bytes, row) in [
        ("pixels.csv", csv("pixels\n", &["1 2 3"]), "line 2, column pixels: 3 pixels; expected 2304"),
        ("label.csv", label("7"), "line 2, column emotion: unknown label \"7\"; expected 0..6"),
        ("fields.csv", csv(HEADER, &["1"]), "line 2: 1 fields; the header has 2"),
        ("id.csv", csv("id,pixels\n", &[format!(",{a}")]), "line 2, column id: empty"),
        ("unclosed.csv", csv(HEADER, &[format!("0,\"{a}"), format!("1,{a}")]), "quote"),
    ] {
        cases.write(file, bytes);
        let done = cases.expect(&["data", "check", file], 2, &["1 row cannot be read"]);
        cases.check(done.is_some_and(|done| done.stdout.contains(row)), &format!("{file}: no {row:?} in the report"));
    }
    // Valid, but wider than any table.
    cases.write("usage.csv", csv("emotion,pixels,Usage\n", &[format!("0,{a},{}", "u".repeat(70_000))]));
    cases.expect(&["data", "check", "usage.csv"], 0, &[]);
    let long = format!("{},b,c,d,e,f,g", "x".repeat(70_000));
    cases.expect(&["data", "check", "data/my_emotion_train.csv", "--classes", &long], 2, &["--classes"]);
    cases.expect(
        &["data", "check", "data/my_emotion_train.csv", "--classes", "a,A"],
        2,
        &["--classes", "differ not only in case"],
    );
    cases.expect(&["data", "check", "data/my_emotion_train.csv", "--classes", ""], 2, &["--classes", "2 to 100 names"]);
    let check = ["data", "check", "data/my_emotion_train.csv", "--label-map"];
    let one = ["--label-map names only the class \"contempt\"; expected LABEL=CLASS,"];
    cases.expect(&[&check[..], &["contempt=contempt"]].concat(), 2, &one);
    let unknown = ["--label-map joy = \"glad\" is not allowed", "one of the classes (\"sad\", \"happy\")"];
    cases.expect(&[&check[..], &["joy=glad", "--classes", "sad,happy"]].concat(), 2, &unknown);
    let hundred = (0..=100).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
    cases.expect(&["data", "check", "data/my_emotion_train.csv", "--classes", &hundred], 2, &["2 to 100 names"]);
    cases.finish();
}

#[test]
fn unusual_but_valid_files() {
    let mut cases = Cases::new();
    let (a, b) = (image(1), image(2));
    for (file, text) in [
        ("double-blanks.csv", format!("{HEADER}0,{}\n", a.replace(' ', "  "))),
        ("leading-zeros.csv", format!("{HEADER}0,{}\n", a.replacen("8", "008", 1))),
        ("byte-order-mark.csv", format!("\u{feff}{HEADER}0,{a}\n")),
        ("crlf.csv", format!("{HEADER}0,{a}\n").replace('\n', "\r\n")),
        ("both-line-ends.csv", format!("{HEADER}0,{a}\r\n1,{b}\n")),
        ("blank-lines.csv", format!("{HEADER}\n\n0,{a}\n\n\n1,{b}\n\n")),
        ("no-last-line-break.csv", format!("{HEADER}0,\"{a}\"")),
        ("capitals.csv", format!("Emotion,PIXELS\n0,{a}\n")),
        ("semicolons.csv", format!("emotion;pixels\n3.0;{a}\n")),
        ("tabs.csv", format!("emotion\tpixels\nhappy\t{a}\n")),
        ("carriage-returns.csv", format!("emotion,pixels\r0,{a}\r1,{b}\r")),
        ("tabs-between-pixels.csv", format!("{HEADER}0,{}\n", a.replace(' ', "\t"))),
        ("an-array-in-lines.csv", format!("{HEADER}0,\"[{}]\"\n", a.replace(' ', "\n "))),
        ("a-python-list.csv", format!("{HEADER}0,\"[{}]\"\n", a.replace(' ', ", "))),
        ("inches.csv", format!("emotion,pixels,note\n0,{a},19\"\" screen\n1,{b},5\" disk\n")),
        ("line-break-in-a-note.csv", format!("emotion,pixels,note\n0,{a},\"one\ntwo \"\"three\"\"\"\n1,{b},x\n")),
    ] {
        cases.write(file, text);
        cases.expect(&["data", "check", file], 0, &[]);
    }
    cases.finish();
}

#[test]
fn invalid_files_for_predict() {
    let mut cases = Cases::new();
    let (a, b) = (image(1), image(2));
    for (file, bytes, parts) in [
        ("empty.csv", vec![], &["empty.csv: is empty"][..]),
        ("header.csv", b"id,pixels\n".to_vec(), &["header.csv: no images"]),
        ("labels.csv", b"id,emotion\n0,1\n".to_vec(), &["labels.csv: line 1: no column pixels"]),
        ("two-ids.csv", csv("id,id,pixels\n", &[format!("0,1,{a}")]), &["line 1: duplicate column id"]),
        ("no-id.csv", csv("id,pixels\n", &[format!("0,{a}"), format!(",{b}")]), &["line 3, column id: empty"]),
        ("high.csv", fifth_pixel("256"), &["line 2, column pixels: pixel 5 is 256; expected 0..255"]),
        ("short.csv", csv("pixels\n", &[&a[..], "1 2"]), &["line 3, column pixels: 2 pixels; expected 2304"]),
        ("not-utf-8.csv", b"id,pixels\n\xff,1\n".to_vec(), &["not-utf-8.csv: line 2"]),
    ] {
        cases.write(file, bytes);
        cases.expect(&predict(file), 2, parts);
    }
    let usage = ["--usage", "PublicTest"];
    let test = [&predict("data/my_emotion_test.csv")[..], &usage].concat();
    cases.expect(&test, 2, &["my_emotion_test.csv: no column Usage"]);
    cases.write("usage.csv", csv("pixels,Usage\n", &[format!("{a},Training"), format!("{b},PrivateTest")]));
    let usages = [&predict("usage.csv")[..], &usage].concat();
    cases.expect(&usages, 2, &["usage.csv: no row has Usage \"PublicTest\"", "\"PrivateTest\"", "\"Training\""]);
    cases.check(!cases.path("none.csv").exists(), "predictions were written");
    cases.finish();
}
