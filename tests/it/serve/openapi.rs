//! `/openapi.json` beside the service, and the client in docs/serving.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{FORM, form, pixels_json, test_image};
use crate::common::{Done, python, text, workshop};
use crate::photos::has_detector;
use crate::service::{Reply, Service};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];

/// The schema of the document with this name.
fn schema(document: &Value, name: &str) -> jsonschema::Validator {
    let reference = json!({"$ref": format!("#/components/schemas/{name}"), "components": document["components"]});
    jsonschema::draft202012::new(&reference).unwrap()
}

fn assert_valid(document: &Value, name: &str, value: &Value) {
    let problems: Vec<String> = schema(document, name).iter_errors(value).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{name}: {problems:?} in {value}");
}

/// The statuses of an operation.
fn statuses(document: &Value, path: &str, method: &str) -> BTreeSet<u16> {
    let responses = &document["paths"][path][method]["responses"];
    responses.as_object().unwrap().keys().map(|status| status.parse().unwrap()).collect()
}

fn document(service: &Service) -> Value {
    service.get("/openapi.json").json()
}

#[test]
fn the_description_has_the_paths_and_methods_of_the_router() {
    let service = Service::start(&[]);
    let document = document(&service);
    assert_eq!(document["openapi"], "3.1.1");
    let source = text(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/router.rs"));
    let routes: BTreeSet<String> = source
        .split(".route(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().replace("{*path}", "{path}"))
        .collect();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(routes, paths.keys().cloned().collect());
    for (path, operations) in paths {
        let target = path.replace("{path}", "page.css");
        for method in METHODS {
            let status = service.ask(method, &target, &[], b"").status;
            let is_described = operations.get(method.to_lowercase()).is_some();
            assert_eq!(status != 405, is_described, "{method} {target}: {status}");
            assert!(status != 404, "{method} {target}");
        }
    }
}

#[test]
fn responses_are_as_described() {
    let service = Service::start(&["--max-body", "1", "--timeout", "1"]);
    let document = document(&service);
    let (png, pixels) = test_image(0);
    let mut found: BTreeMap<(&str, &str), BTreeSet<u16>> = BTreeMap::new();
    let mut check = |path: &'static str, method: &'static str, reply: Reply| {
        let known = statuses(&document, path, &method.to_lowercase());
        assert!(known.contains(&reply.status), "{method} {path}: {} is not described: {}", reply.status, reply.text());
        if reply.status >= 400 {
            assert_valid(&document, "Error", &serde_json::from_slice(&reply.body).unwrap());
        }
        found.entry((path, method)).or_default().insert(reply.status);
        reply
    };
    for (path, target) in [
        ("/v1/model", "/v1/model"),
        ("/healthz", "/healthz"),
        ("/metrics", "/metrics"),
        ("/openapi.json", "/openapi.json"),
        ("/", "/"),
        ("/assets/{path}", "/assets/page.css"),
    ] {
        let reply = check(path, "GET", service.get(target));
        let described = document["paths"][path]["get"]["responses"]["200"]["content"].as_object().unwrap();
        let essence = reply.header("content-type").split(';').next().unwrap().to_owned();
        assert!(described.contains_key(&essence) || described.contains_key("*/*"), "{path}: {essence}");
        check(path, "GET", service.ask("GET", target, &[("Host", "evil.example")], b""));
        check(path, "GET", service.ask("GET", target, &[("Host", "a"), ("Host", "b")], b""));
    }
    check("/assets/{path}", "GET", service.get("/assets/none"));
    assert_valid(&document, "Model", &service.get("/v1/model").json());
    let predict = "/v1/predict";
    let numbers = pixels_json(&[pixels]);
    assert_valid(&document, "Pixels", &serde_json::from_slice(&numbers).unwrap());
    for (kind, body) in [("image/png", &png), (FORM, &form(&[("a.png", &png)])), ("application/json", &numbers)] {
        let reply = check(predict, "POST", service.post(predict, kind, body));
        assert_valid(&document, "Predictions", &reply.json());
    }
    for (kind, body) in [("image/png", b"x".to_vec()), ("text/plain", png.clone()), ("image/png", vec![0; 2 << 20])] {
        check(predict, "POST", service.post(predict, kind, &body));
    }
    check(predict, "POST", service.ask("POST", predict, &[("Host", "evil.example")], b""));
    // A body that never ends.
    check(predict, "POST", {
        let mut client = service.connect();
        let request = service.request("POST", predict, &[("Content-Type", "image/png")], &png);
        std::io::Write::write_all(&mut client, &request[..request.len() - 1]).unwrap();
        crate::service::read_reply(&mut client, false).unwrap()
    });
    check(predict, "POST", service.post("/v1/predict?faces=detect", "image/png", &png));
    let expected: BTreeSet<u16> = [200, 400, 403, 408, 413, 415].into();
    assert!(found[&(predict, "POST")].is_superset(&expected), "{found:?}");
    // With a detector 501 is never sent; a token, a failure and a full queue have tests of their own.
    let others: BTreeSet<u16> =
        statuses(&document, predict, "post").difference(&found[&(predict, "POST")]).copied().collect();
    assert!(others.is_subset(&[401, 500, 501, 503].into()), "{others:?} are described, but were not found");
}

#[test]
fn the_description_needs_the_token_like_other_paths() {
    let token = "a-token-of-some-length";
    let service = Service::start_run(&workshop().join("run"), &[], &[("GRIMACE_TOKEN", token)]);
    service.get("/openapi.json").error(401, "needs its token");
    let header = format!("Bearer {token}");
    let document = service.ask("GET", "/openapi.json", &[("Authorization", &header)], b"").json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let target = path.replace("{path}", "page.css");
            let status = service.ask(&method.to_uppercase(), &target, &[], b"").status;
            let is_open = operation.get("security") == Some(&json!([]));
            assert_eq!(status != 401, is_open, "{method} {path}: {status}");
            assert_eq!(statuses(&document, path, method).contains(&401), !is_open, "{method} {path}");
        }
    }
}

#[test]
fn detected_faces_are_as_described() {
    if !has_detector("detected_faces_are_as_described") {
        return;
    }
    let service = Service::start(&[]);
    let found = service.post("/v1/predict?faces=detect", "image/png", &test_image(0).0).json();
    assert_valid(&document(&service), "Predictions", &found);
    let face = json!({"box": {"x": -1.5, "y": 2.0, "width": 30.0, "height": 40.0}, "score": 0.5, "class": "sad",
        "index": 0, "probability": 1.0, "probabilities": {"sad": 1.0}});
    assert_valid(&document(&service), "Face", &face);
}

#[test]
fn the_python_client_of_the_docs_works() {
    let page = text(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/serving.md"));
    let client = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let token = "a-token-of-some-length";
    let service = Service::start_run(&workshop().join("run"), &[], &[("GRIMACE_TOKEN", token)]);
    let folder = tempfile::tempdir().unwrap();
    let (png, _) = test_image(0);
    fs_err::write(folder.path().join("face.png"), &png).unwrap();
    fs_err::write(folder.path().join("client.py"), client.replace("127.0.0.1:8000", &service.addr)).unwrap();
    let run = |token: &str| -> Done {
        let mut command = Command::new(python());
        command.arg("client.py").current_dir(folder.path()).env("GRIMACE_TOKEN", token).env_remove("http_proxy");
        command.output().unwrap().into()
    };
    let header = format!("Bearer {token}");
    let headers = [("Content-Type", "image/png"), ("Authorization", header.as_str())];
    let expected = service.ask("POST", "/v1/predict", &headers, &png).json();
    let face = &expected["images"][0]["faces"][0];
    let done = run(token);
    assert_eq!(done.code, 0, "{}", done.all());
    let start = format!("{} {:.2}", face["class"].as_str().unwrap(), face["probability"].as_f64().unwrap());
    assert_eq!(done.stdout.trim(), start, "{}", done.all());
    let done = run("another-token-of-length");
    assert!(done.code == 1 && done.stderr.contains("401: this service needs its token"), "{}", done.all());
}
