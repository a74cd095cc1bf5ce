//! `report.html` in a real browser: an empty console, no network requests, and readable in light
//! and dark.

use std::path::Path;
use std::process::Command;

use crate::browser::{chromium, requested_by_page};
use crate::common::{good, text, workshop};

/// Opens a page. Returns a screenshot, the console messages and the requested addresses.
fn open(browser: &Path, page: &Path, dark: bool) -> (Vec<u8>, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (shot, net) = (folder.path().join("shot.png"), folder.path().join("net.json"));
    // A browser that hangs must not hang the tests.
    let mut command = Command::new("timeout");
    command.arg("120").arg(browser).args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1000,2400",
    ]);
    command.args(["--enable-logging=stderr", "--disable-background-networking", "--disable-component-update"]);
    command.args(["--disable-sync", "--no-first-run", "--disable-domain-reliability"]);
    command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    command.arg(format!("--screenshot={}", shot.display())).arg(format!("--log-net-log={}", net.display()));
    if dark {
        command.arg("--force-dark-mode");
    }
    let done = command.arg(format!("file://{}", page.display())).output().unwrap();
    let log = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && shot.exists(), "the browser failed: {log}");
    let console = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    let requested = requested_by_page(&serde_json::from_str(&text(&net)).unwrap());
    (fs_err::read(&shot).unwrap(), console, requested)
}

/// Mean brightness of a screenshot's upper left corner, which shows only the page's background.
fn background(png: &[u8]) -> f64 {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let row = &pixels[..info.line_size];
    row[..30].iter().map(|value| f64::from(*value)).sum::<f64>() / 30.0
}

#[test]
fn a_report_requests_nothing_and_follows_the_readers_theme() {
    let Some(browser) = chromium("a_report_requests_nothing_and_follows_the_readers_theme") else { return };
    let page = workshop().join("run/report.html");
    let (light, console, requested) = open(&browser, &page, false);
    assert!(console.is_empty() && requested.is_empty(), "console: {console:?}, requested: {requested:?}");
    let (dark, console, requested) = open(&browser, &page, true);
    assert!(console.is_empty() && requested.is_empty(), "console: {console:?}, requested: {requested:?}");
    assert!(background(&light) > 200.0 && background(&dark) < 60.0, "{} and {}", background(&light), background(&dark));
}

/// The test above can fail: each kind of request is detected.
#[test]
fn requests_of_a_page_are_detected() {
    let Some(browser) = chromium("requests_of_a_page_are_detected") else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let html = r#"<link rel="stylesheet" href="http://127.0.0.1:9/style"><img src="http://127.0.0.1:9/image">
        <iframe src="http://127.0.0.1:9/frame"></iframe><script>fetch("http://127.0.0.1:9/fetch")</script>"#;
    fs_err::write(&page, html).unwrap();
    let (_, console, requested) = open(&browser, &page, false);
    for path in ["style", "image", "frame", "fetch"] {
        let url = format!("http://127.0.0.1:9/{path}");
        assert!(requested.contains(&url), "{url} is not in {requested:?}");
    }
    assert!(!console.is_empty(), "a failed request is reported on the console");
}

#[test]
fn a_report_is_self_contained_and_opens_with_the_result() {
    let page = text(workshop().join("run/report.html"));
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http://") && !addresses.contains("https://"), "an address");
    assert!(!page.contains("<script"));
    // Except in the bytes of images, which may spell anything.
    let words = page.split("base64,").map(|part| part.split_once('"').map_or(part, |(_, rest)| rest));
    assert!(words.skip(1).all(|part| !part.contains("NaN")));
    let body = page.split("<body>").nth(1).unwrap();
    let place = |part: &str| body.find(part).unwrap_or_else(|| panic!("{part} is not in the report"));
    let result = place("Validation accuracy: ");
    assert!(result < 400 && place("optimistic") < place("<svg") && place("<svg") < place("Metrics by class"));
    for part in ["surprise", "data:image/png;base64,", "validation accuracy", "kind = &quot;cnn&quot;"] {
        place(part);
    }
    // The report and evaluate agree.
    let run = workshop().join("run");
    let summary = crate::common::json(run.join("summary.json"));
    assert!(body.contains(&format!("{:.4}", summary["best_val_accuracy"].as_f64().unwrap())));
    for name in ["curves", "confusion", "reliability", "mistakes"] {
        assert!(run.join(format!("{name}.svg")).exists() && run.join(format!("{name}.png")).exists(), "{name}");
    }
    let predictions = text(run.join("validation.csv"));
    assert!(predictions.starts_with("row,hash,label,predicted,duplicate,angry,disgust,"), "{}", &predictions[..80]);
    assert_eq!(predictions.lines().count(), 121);
}

#[test]
fn a_hostile_name_is_escaped() {
    let folder = crate::common::bench();
    let classes = r#"data.classes=["<script>alert(1)</script>","disgust","fear","happy","sad","surprise","neutral"]"#;
    good(folder.path(), &["train", "tiny.toml", "--set", classes, "--set", "train.epochs=1", "--out", "odd"]);
    let page = text(folder.path().join("odd/report.html"));
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
}
