//! Chromium without a window: found, driven through its DevTools protocol as a user would, and watched.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::text;

/// Longest time to wait for a page, in seconds: other programs may use the cores too.
const MAX_WAIT: u64 = 120;

/// A Chromium that runs without a window; reports when there is none.
pub fn chromium(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GRIMACE_CHROMIUM").map(PathBuf::from);
    let known = ["chromium", "chromium-browser", "google-chrome"];
    let found =
        known.iter().find(|name| Command::new(name).arg("--version").output().is_ok_and(|done| done.status.success()));
    let browser = named.or_else(|| found.map(PathBuf::from));
    if browser.is_none() {
        println!(
            "skipped {test}: no Chromium on the path; install one (apt install chromium), or set GRIMACE_CHROMIUM"
        );
    }
    browser
}

/// The addresses that a page requested, from a Chromium net log. The browser's own services
/// (updates, accounts, time) differ between versions; their requests have no initiator, which
/// Chromium logs as "not an origin".
pub fn requested_by_page(net_log: &Value) -> Vec<String> {
    let events = net_log["events"].as_array().unwrap().iter().map(|event| &event["params"]);
    let by_page = events.filter(|params| params["initiator"].as_str().is_some_and(|from| from != "not an origin"));
    let addresses = by_page.filter_map(|params| params["url"].as_str());
    addresses.filter(|url| !url.starts_with("file:") && !url.starts_with("data:")).map(str::to_owned).collect()
}

/// A browser with one page. Commands and events go through two pipes, which the shell opens as file
/// descriptors 3 and 4.
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    last: u64,
    console: Vec<String>,
    folder: TempDir,
}

impl Browser {
    /// Starts the browser with more `flags`.
    pub fn start(program: &Path, flags: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [to, from, net] = ["to", "from", "net.json"].map(|name| folder.path().join(name));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        // A browser that hangs must not hang the tests.
        let mut command = Command::new("timeout");
        command.args(["300", "sh", "-c", r#"exec "$0" "$@" 3<"$TO" 4>"$FROM""#]).arg(program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--no-first-run", "--disable-domain-reliability", "--window-size=1200,900"]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg(format!("--log-net-log={}", net.display())).args(flags);
        command.env("TO", &to).env("FROM", &from).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let to = File::options().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let mut browser = Self { child, to, from, session: None, last: 0, console: Vec::new(), folder };
        let targets = browser.call("Target.getTargets", json!({}));
        let targets = targets["targetInfos"].as_array().unwrap();
        let page = targets.iter().find(|target| target["type"] == "page").expect("a page")["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": page, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command and returns its result; what the page prints meanwhile is kept.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "the browser ended during {method}");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            let params = &answer["params"];
            match answer["method"].as_str() {
                Some("Runtime.consoleAPICalled") => self.console.push(params["args"].to_string()),
                Some("Runtime.exceptionThrown") => self.console.push(params["exceptionDetails"].to_string()),
                Some("Log.entryAdded") => self.console.push(params["entry"].to_string()),
                _ => {}
            }
        }
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{opened}");
    }

    /// The value of a JavaScript expression; a promise is awaited.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// The visible text of the element with this id.
    pub fn text(&mut self, id: &str) -> String {
        let value = self.value(&format!("document.getElementById({id:?}).innerText"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true. While the page loads, it may fail.
    pub fn wait_for(&mut self, expression: &str) {
        let start = Instant::now();
        let attempt = format!("(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()");
        while self.value(&attempt) != true {
            let error = self.value("document.querySelector('[role=alert]')?.innerText");
            let waited = start.elapsed().as_secs();
            assert!(waited < MAX_WAIT, "{expression} is not true; error {error}, console {:?}", self.console);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Chooses a file in the input with this id, as the file dialog does.
    pub fn choose_file(&mut self, id: &str, file: &Path) {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let found = self.call("DOM.querySelector", json!({"nodeId": root, "selector": format!("#{id}")}));
        self.call("DOM.setFileInputFiles", json!({"nodeId": found["nodeId"], "files": [file]}));
    }

    /// Presses and releases a key: its name and code as in JavaScript, and its number on Windows.
    pub fn press(&mut self, (key, code, number): (&str, &str, u32)) {
        for kind in ["rawKeyDown", "char", "keyUp"] {
            let mut params = json!({"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number});
            if kind == "char" {
                if key.chars().count() != 1 && key != "Enter" {
                    continue;
                }
                params["text"] = json!(if key == "Enter" { "\r" } else { key });
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Clicks at a point of the window.
    pub fn click(&mut self, x: f64, y: f64) {
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// What the page printed, and errors of the browser.
    pub fn console(&self) -> &[String] {
        &self.console
    }

    /// Ends the browser. Returns the addresses that its page and workers requested.
    pub fn close(mut self) -> Vec<String> {
        self.session = None;
        self.call("Browser.close", json!({}));
        self.child.wait().unwrap();
        requested_by_page(&serde_json::from_str(&text(self.folder.path().join("net.json"))).unwrap())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After a failed test; after `close` it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
