//! The page at `/`: a photo or the webcam in, boxes and probabilities out. Written by hand, without a
//! framework or a build step, and part of the program.
//!
//! `grimace export --web` writes the same files with another backend, which computes in the browser.

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Value of the header `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub bytes: &'static [u8],
}

/// Value of the header `Content-Security-Policy` of everything that the page consists of: its own
/// files and nothing else, no inline script or style.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The same for the web export, in its HTML: WebAssembly in a worker.
const WEB_CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'";

/// Where the policy of the web export goes.
const CHARSET: &str = "<meta charset=\"utf-8\">\n";

const INDEX: &str = include_str!("page/index.html");

const SCRIPT: &str = "text/javascript; charset=utf-8";

const fn script(text: &'static str) -> Asset {
    Asset { content_type: SCRIPT, bytes: text.as_bytes() }
}

/// Files below `assets/` that service and web export have in common.
const SHARED: [(&str, Asset); 7] = [
    ("page.css", Asset { content_type: "text/css; charset=utf-8", bytes: include_bytes!("page/page.css") }),
    ("icon.svg", Asset { content_type: "image/svg+xml", bytes: include_bytes!("page/icon.svg") }),
    ("main.js", script(include_str!("page/main.js"))),
    ("drawing.js", script(include_str!("page/drawing.js"))),
    ("results.js", script(include_str!("page/results.js"))),
    ("token.js", script(include_str!("page/token.js"))),
    ("webcam.js", script(include_str!("page/webcam.js"))),
];

/// The backend of the service.
const SERVICE: [(&str, Asset); 1] = [("backend.js", script(include_str!("page/service.js")))];

/// The backend of the web export.
const BROWSER: [(&str, Asset); 4] = [
    ("backend.js", script(include_str!("page/browser.js"))),
    ("detector.js", script(include_str!("page/detector.js"))),
    ("picture.js", script(include_str!("page/picture.js"))),
    ("worker.js", script(include_str!("page/worker.js"))),
];

/// The file that the service answers `GET path` with: `/`, or one below `/assets/`.
pub fn asset(path: &str) -> Option<Asset> {
    if path == "/" {
        return Some(Asset { content_type: "text/html; charset=utf-8", bytes: INDEX.as_bytes() });
    }
    let name = path.strip_prefix("/assets/")?;
    SHARED.iter().chain(&SERVICE).find(|(known, _)| *known == name).map(|(_, asset)| *asset)
}

/// The files of the page that computes in the browser, by their paths in its folder.
pub fn web_files() -> Vec<(String, Vec<u8>)> {
    let policy =
        format!("{CHARSET}<meta http-equiv=\"Content-Security-Policy\" content=\"{WEB_CONTENT_SECURITY_POLICY}\">\n");
    let index = INDEX.replacen(CHARSET, &policy, 1);
    let assets = SHARED.iter().chain(&BROWSER).map(|(name, asset)| (format!("assets/{name}"), asset.bytes.to_vec()));
    std::iter::once(("index.html".to_owned(), index.into_bytes())).chain(assets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules that a script imports, and whether they are there.
    fn imports(text: &str) -> Vec<&str> {
        text.lines()
            .filter(|line| line.starts_with("import "))
            .filter_map(|line| line.split("\"./").nth(1)?.split('"').next())
            .collect()
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let index = asset("/").unwrap();
        assert_eq!(index.content_type, "text/html; charset=utf-8");
        for name in INDEX.split("\"assets/").skip(1).map(|part| part.split('"').next().unwrap()) {
            assert!(asset(&format!("/assets/{name}")).is_some(), "{name}");
        }
        for (name, file) in SHARED.iter().chain(&SERVICE) {
            for import in imports(std::str::from_utf8(file.bytes).unwrap()) {
                assert!(asset(&format!("/assets/{import}")).is_some(), "{name} imports {import}");
            }
        }
        for path in ["", "/x", "/assets/", "/assets/../page.rs", "/assets/worker.js", "assets/main.js"] {
            assert_eq!(asset(path), None, "{path}");
        }
    }

    #[test]
    fn the_web_page_has_its_policy_and_its_backend() {
        let files = web_files();
        let text = |name: &str| {
            let (_, bytes) = files.iter().find(|(path, _)| path == name).unwrap_or_else(|| panic!("{name}"));
            String::from_utf8(bytes.clone()).unwrap()
        };
        assert!(text("index.html").contains("'wasm-unsafe-eval'; style-src 'self'"), "{}", text("index.html"));
        assert!(text("assets/backend.js").contains("worker.js"));
        for import in imports(&text("assets/worker.js")).into_iter().filter(|name| !name.contains("onnxruntime")) {
            text(&format!("assets/{import}"));
        }
    }

    #[test]
    fn nothing_is_inline_or_from_elsewhere() {
        assert!(!INDEX.contains("<script>") && !INDEX.contains("<style") && !INDEX.contains("style=\""));
        for (name, asset) in SHARED.iter().chain(&SERVICE).chain(&BROWSER) {
            let text = std::str::from_utf8(asset.bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{name}");
        }
    }
}
