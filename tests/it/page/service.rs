//! The page with a service, played by the test.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grimace::serve::page::{CONTENT_SECURITY_POLICY, asset};
use serde_json::{Value, json};

use super::server::{Answer, Request, serve};
use super::{BARS, DONE, ENTER, READY, RIGHT, TAB, check_quiet, faces, scene, tab_to, video};
use crate::browser::{Browser, chromium};
use crate::common::{command, good, workshop};

/// What the service of a test does.
#[derive(Default)]
struct Play {
    /// Status of the answer to a prediction; 0 is 200.
    status: AtomicU16,
    /// Predictions so far.
    asked: AtomicUsize,
    /// The last query, and the kind of picture.
    last: Mutex<(String, String)>,
    token: Option<&'static str>,
    lacks_detector: bool,
    /// How long a search for faces takes, in milliseconds.
    search_ms: AtomicU64,
}

/// The keys of a JavaScript object that look like numbers come first, whatever their order was.
const CLASSES: [&str; 3] = ["calm", "<b>bold</b>", "1"];

fn face(x: f64, width: f64, class: usize) -> Value {
    let rest = [0.2, 0.1, 0.05];
    let probability = |index: usize| if index == class { 0.75 } else { rest[index] };
    let all: serde_json::Map<String, Value> =
        CLASSES.iter().enumerate().map(|(index, name)| (name.to_string(), json!(probability(index)))).collect();
    json!({"box": {"x": x, "y": 100.0, "width": width, "height": 120.0}, "score": 0.9, "class": CLASSES[class],
           "index": class, "probability": 0.75, "probabilities": all})
}

impl Play {
    fn answer(&self, request: &Request) -> Answer {
        let path = request.line.split(' ').nth(1).unwrap();
        if let Some(found) = asset(path) {
            let headers = format!("Content-Security-Policy: {CONTENT_SECURITY_POLICY}\r\n");
            return Answer { status: 200, headers, content_type: found.content_type, bytes: found.bytes.to_vec() };
        }
        if self.token.is_some() && request.token.as_deref() != self.token {
            return Answer::json(401, &json!({"error": {"status": 401, "message": "this service needs its token"}}));
        }
        if path == "/v1/model" {
            let model = json!({"name": "played", "classes": CLASSES, "detector": !self.lacks_detector,
                               "detector_problem": self.lacks_detector.then_some("install the weights"),
                               "parameters": 1234, "val_accuracy": 0.5, "val_accuracy_dedup": null});
            return Answer::json(200, &model);
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        if path.contains("faces=detect") {
            std::thread::sleep(Duration::from_millis(self.search_ms.load(Ordering::SeqCst)));
        }
        let kind = image::guess_format(&request.body).map_or("none".to_owned(), |format| format!("{format:?}"));
        *self.last.lock().unwrap() = (path.to_owned(), kind);
        match self.status.load(Ordering::SeqCst) {
            0 => {}
            503 => {
                // Busy once.
                self.status.store(0, Ordering::SeqCst);
                let mut answer = Answer::json(503, &json!({"error": {"status": 503, "message": "busy"}}));
                answer.headers = "Retry-After: 1\r\n".to_owned();
                return answer;
            }
            204 => return Answer::json(200, &json!({"images": [{"width": 640, "height": 480, "faces": []}]})),
            status => {
                let message = "the picture is larger than this service reads";
                return Answer::json(status, &json!({"error": {"status": status, "message": message}}));
            }
        }
        let mut found = vec![face(400.0, 100.0, 2), face(100.0, 90.0, 0)];
        if path.contains("faces=whole") {
            found = vec![face(0.0, 1.0, 1)];
            found[0]["box"] = Value::Null;
        }
        Answer::json(200, &json!({"images": [{"name": null, "width": 640, "height": 480, "faces": found}]}))
    }
}

/// The page of a service that plays `play`.
fn open(program: &std::path::Path, play: Play, flags: &[String]) -> (Browser, Arc<Play>, String) {
    let play = Arc::new(play);
    let served = play.clone();
    let origin = serve(move |request| served.answer(request));
    let mut browser = Browser::start(program, flags);
    browser.open(&origin);
    (browser, play, origin)
}

/// A real service, which ends with the test.
struct Service(Child);

impl Service {
    /// Starts the service of the workshop's run; returns its address as well.
    fn start() -> (Self, String) {
        let mut command = command(workshop(), &["serve", "run", "--addr", "127.0.0.1:0", "--json"]);
        let mut child = command.env_remove("GRIMACE_TOKEN").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        (Self(child), ready["url"].as_str().unwrap().to_owned())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_page_of_a_service_shows_what_predict_writes() {
    let Some(program) = chromium("the_page_of_a_service_shows_what_predict_writes") else { return };
    let face = faces().swap_remove(7);
    let args = ["predict", "run", "--data", face.to_str().unwrap(), "--out", "-", "--probabilities"];
    let predicted = good(workshop(), &args).stdout;
    let expected: Vec<f64> =
        predicted.lines().nth(1).unwrap().split(',').skip(2).map(|value| value.parse().unwrap()).collect();
    let (_service, origin) = Service::start();
    let mut browser = Browser::start(&program, &[]);
    browser.open(&origin);
    browser.wait_for(READY);
    assert!(browser.text("model").starts_with("Model tiny"), "{}", browser.text("model"));
    browser.value("document.querySelector('[value=whole]').click()");
    browser.choose_file("file", &face);
    browser.wait_for("document.getElementById('which').innerText.startsWith('The whole picture')");
    let bars = browser.value(BARS);
    for (name, expected) in grimace::data::config::CLASSES.iter().zip(&expected) {
        assert!((bars[name].as_f64().unwrap() - expected).abs() < 1e-5, "{name}: {bars} and {expected}");
    }
    check_quiet(browser, &origin);
}

#[test]
fn several_faces_are_listed_and_selected_by_keyboard_and_mouse() {
    let Some(program) = chromium("several_faces_are_listed_and_selected_by_keyboard_and_mouse") else { return };
    let folder = tempfile::tempdir().unwrap();
    let photo = folder.path().join("photo.png");
    scene(&faces()[0], 200, 120).save(&photo).unwrap();
    let (mut browser, play, origin) = open(&program, Play::default(), &[]);
    browser.wait_for(READY);
    assert!(browser.text("model").contains("played · 1,234 parameters · 50.0% right"), "{}", browser.text("model"));
    assert!(browser.text("privacy").contains("on this machine and nowhere else"));
    play.status.store(503, Ordering::SeqCst);
    browser.choose_file("file", &photo);
    browser.wait_for(DONE);
    // A busy service is asked again. The most confident face is selected; faces are numbered from the left.
    assert_eq!(play.asked.load(Ordering::SeqCst), 2);
    assert_eq!(*play.last.lock().unwrap(), ("/v1/predict?faces=detect&min_face=32".to_owned(), "Png".to_owned()));
    assert_eq!(browser.text("which"), "Face 2 of 2, 100 × 120 pixels");
    assert_eq!(browser.text("status"), "2 faces. Face 2: 1, 75 percent.");
    assert_eq!(browser.value(BARS), json!({"calm": 0.2, "<b>bold</b>": 0.1, "1": 0.75}));
    // Arrows go through the list, with the text for a screen reader.
    browser.value("document.querySelector('[name=face]:checked').focus()");
    browser.press(RIGHT);
    assert_eq!(browser.text("which"), "Face 1 of 2, 90 × 120 pixels");
    // The radio button itself is read aloud.
    let label = browser.value("document.activeElement.parentElement.innerText");
    assert_eq!(label.as_str().unwrap().split_whitespace().collect::<Vec<_>>(), ["1", "calm", "75.0%"]);
    // A click on a box selects its face, and is announced.
    let place = browser.value("(r => [r.x, r.y, r.width])(document.getElementById('boxes').getBoundingClientRect())");
    let place: Vec<f64> = place.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    let scale = place[2] / 640.0;
    browser.click(place[0] + 450.0 * scale, place[1] + 160.0 * scale);
    assert_eq!(browser.text("which"), "Face 2 of 2, 100 × 120 pixels");
    assert_eq!(browser.text("status"), "2 faces. Face 2: 1, 75 percent.");
    assert_eq!(browser.value("document.querySelector('[name=face]:checked').value"), "1");
    // Without a face, the page offers to take the picture as one.
    play.status.store(204, Ordering::SeqCst);
    browser.value("document.getElementById('min-face').value = '64'");
    browser.value("document.getElementById('min-face').dispatchEvent(new Event('change', {bubbles: true}))");
    browser.wait_for("!document.getElementById('hint').hidden");
    assert!(play.last.lock().unwrap().0.ends_with("min_face=64"));
    assert_eq!((browser.text("which"), browser.text("status")), ("No face found".into(), "No face found.".into()));
    play.status.store(0, Ordering::SeqCst);
    tab_to(&mut browser, "as-one");
    browser.press(ENTER);
    browser.wait_for("document.getElementById('which').innerText.startsWith('The whole picture')");
    assert_eq!(browser.value("document.querySelector('#answer strong').innerText"), "<b>bold</b>");
    check_quiet(browser, &origin);
}

#[test]
fn pasted_and_dropped_files_are_taken() {
    let Some(program) = chromium("pasted_and_dropped_files_are_taken") else { return };
    let (mut browser, play, origin) = open(&program, Play::default(), &[]);
    browser.wait_for(READY);
    for (number, event) in ["paste", "drop"].into_iter().enumerate() {
        let give = format!(
            "new Promise(resolve => {{ const canvas = document.createElement('canvas'); canvas.toBlob(blob => {{ \
             const data = new DataTransfer(); data.items.add(new File([blob], 'a.png', {{type: blob.type}})); \
             const event = '{event}' === 'paste' ? new ClipboardEvent('paste', {{clipboardData: data, bubbles: true}}) \
             : new DragEvent('drop', {{dataTransfer: data, bubbles: true, cancelable: true}}); \
             document.getElementById('stage').dispatchEvent(event); resolve(); }}); }})"
        );
        browser.value("document.getElementById('answer').classList.add('none')");
        browser.value(&give);
        browser.wait_for(DONE);
        assert_eq!(play.asked.load(Ordering::SeqCst), number + 1, "{event}");
    }
    check_quiet(browser, &origin);
}

#[test]
fn problems_of_the_service_are_shown() {
    let Some(program) = chromium("problems_of_the_service_are_shown") else { return };
    let folder = tempfile::tempdir().unwrap();
    let photo = folder.path().join("photo.png");
    scene(&faces()[0], 200, 120).save(&photo).unwrap();
    let play = Play { token: Some("a-secret-of-the-service"), lacks_detector: true, ..Play::default() };
    let (mut browser, play, _) = open(&program, play, &[]);
    // The token is asked for, until it is right. One that no header can hold is wrong, too.
    for token in ["wrong", "\u{201c}curly\u{201d}", "a-secret-of-the-service"] {
        browser.wait_for("document.getElementById('token-dialog').open");
        browser.call("Input.insertText", json!({"text": token}));
        browser.press(ENTER);
    }
    browser.wait_for(READY);
    // Without a detector, pictures are faces.
    let hint = browser.text("hint");
    assert!(hint.contains("no face detector") && hint.contains("install the weights"), "{hint}");
    browser.choose_file("file", &photo);
    browser.wait_for("document.getElementById('which').innerText.startsWith('The whole picture')");
    assert!(play.last.lock().unwrap().0.ends_with("faces=whole"));
    assert_eq!(browser.text("hint").trim(), hint.trim(), "the reason stays");
    play.status.store(413, Ordering::SeqCst);
    browser.choose_file("file", &photo);
    browser.wait_for("!document.getElementById('error').hidden");
    assert_eq!(browser.text("error"), "the picture is larger than this service reads");
    // The service is gone: the browser is told so by the network.
    browser.call("Network.enable", json!({}));
    let offline = json!({"offline": true, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0});
    browser.call("Network.emulateNetworkConditions", offline);
    browser.choose_file("file", &photo);
    browser.wait_for("document.getElementById('error').innerText.startsWith('The service does not answer')");
}

#[test]
fn frames_of_the_webcam_are_sent_one_at_a_time() {
    let Some(program) = chromium("frames_of_the_webcam_are_sent_one_at_a_time") else { return };
    let folder = tempfile::tempdir().unwrap();
    let camera = folder.path().join("camera.mjpeg");
    video(&camera, &faces()[3]);
    let flags = [
        "--use-fake-device-for-media-stream".to_owned(),
        "--use-fake-ui-for-media-stream".to_owned(),
        format!("--use-file-for-fake-video-capture={}", camera.display()),
    ];
    let (mut browser, play, origin) = open(&program, Play::default(), &flags);
    browser.wait_for(READY);
    tab_to(&mut browser, "webcam");
    browser.press(ENTER);
    browser.wait_for("document.getElementById('rate').innerText.includes('frames/s')");
    let last = play.last.lock().unwrap().clone();
    assert_eq!(last, ("/v1/predict?faces=detect&min_face=80".to_owned(), "Jpeg".to_owned()));
    // Selected by keyboard, and followed from frame to frame.
    browser.value("document.querySelector('[name=face]:checked').focus()");
    browser.press(RIGHT);
    let asked = play.asked.load(Ordering::SeqCst);
    while play.asked.load(Ordering::SeqCst) < asked + 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(browser.text("which"), "Face 1 of 2, 90 × 120 pixels");
    browser.press(TAB);
    // A frame that fails stops the webcam.
    play.status.store(500, Ordering::SeqCst);
    browser.wait_for("!document.getElementById('error').hidden");
    assert_eq!(browser.text("webcam"), "Start webcam");
    let mut quiet = browser.console().to_vec();
    quiet.retain(|line| !line.contains("500"));
    assert!(quiet.is_empty(), "{quiet:?}");
    assert!(browser.close().iter().all(|url| url.starts_with(&origin)));
}

/// What is chosen meanwhile replaces a search, and what cannot be shown does not.
#[test]
fn a_search_ends_for_another_one_and_not_for_a_broken_file() {
    let Some(program) = chromium("a_search_ends_for_another_one_and_not_for_a_broken_file") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (photo, broken) = (folder.path().join("photo.png"), folder.path().join("broken.png"));
    scene(&faces()[0], 200, 120).save(&photo).unwrap();
    fs_err::write(&broken, "no picture").unwrap();
    let (mut browser, play, origin) = open(&program, Play::default(), &[]);
    browser.wait_for(READY);
    play.search_ms.store(1500, Ordering::SeqCst);
    browser.choose_file("file", &photo);
    browser.wait_for("!document.getElementById('busy').hidden");
    assert_eq!(browser.text("status"), "Looking…");
    browser.choose_file("file", &broken);
    browser.wait_for("document.getElementById('error').innerText.includes('broken.png is not a picture')");
    browser.wait_for("document.getElementById('which').innerText === 'Face 2 of 2, 100 × 120 pixels'");
    assert_eq!(browser.value("document.getElementById('busy').hidden"), true);
    // A GIF, which the service does not read, is sent as PNG.
    let gif = folder.path().join("photo.gif");
    fs_err::write(&gif, b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;")
        .unwrap();
    let asked = play.asked.load(Ordering::SeqCst);
    browser.choose_file("file", &gif);
    while play.asked.load(Ordering::SeqCst) == asked {
        std::thread::sleep(Duration::from_millis(20));
    }
    browser.wait_for("document.getElementById('busy').hidden");
    assert_eq!(play.last.lock().unwrap().1, "Png");
    // Another mode while a search goes on: its answer stays, and nothing moves after it.
    browser.choose_file("file", &photo);
    browser.wait_for("!document.getElementById('busy').hidden");
    browser.value("document.querySelector('[value=whole]').click()");
    browser.wait_for("document.getElementById('which').innerText.startsWith('The whole picture')");
    std::thread::sleep(Duration::from_millis(2000));
    assert!(browser.text("which").starts_with("The whole picture"), "{}", browser.text("which"));
    assert_eq!(browser.value("document.getElementById('busy').hidden"), true);
    check_quiet(browser, &origin);
}

/// The camera is asked for once, and is off if something else was chosen before the user allowed it.
#[test]
fn no_camera_stays_on() {
    let Some(program) = chromium("no_camera_stays_on") else { return };
    let folder = tempfile::tempdir().unwrap();
    let photo = folder.path().join("photo.png");
    scene(&faces()[0], 200, 120).save(&photo).unwrap();
    let flags = ["--use-fake-device-for-media-stream".to_owned(), "--use-fake-ui-for-media-stream".to_owned()];
    let (mut browser, _, origin) = open(&program, Play::default(), &flags);
    browser.wait_for(READY);
    // The user takes half a second to allow it.
    browser.value(
        "globalThis.streams = []; const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices); \
         navigator.mediaDevices.getUserMedia = async (options) => { const number = streams.push(null) - 1; \
         await new Promise(resolve => setTimeout(resolve, 500)); return streams[number] = await real(options); }; 0",
    );
    browser.value("document.getElementById('webcam').click(); document.getElementById('webcam').click(); 0");
    browser.wait_for("document.getElementById('webcam').innerText === 'Stop webcam'");
    assert_eq!(browser.value("streams.length"), 1);
    browser.value("document.getElementById('webcam').click(); 0");
    browser.value("document.getElementById('webcam').click(); 0");
    browser.choose_file("file", &photo);
    browser.wait_for("streams.length === 2 && streams[1] !== null");
    browser.wait_for("document.getElementById('which').innerText === 'Face 2 of 2, 100 × 120 pixels'");
    browser.wait_for("streams.every(stream => stream.getTracks().every(track => track.readyState === 'ended'))");
    assert_eq!(browser.value("document.getElementById('photo').hidden"), false);
    check_quiet(browser, &origin);
}
