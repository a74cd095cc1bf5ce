//! The npm package `onnxruntime-web`: which of its files a page needs, and where it is installed.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use fs_err as fs;
use serde_json::Value;

use crate::data::photos::program_folders;
use crate::util::error::input;
use crate::util::files::read_small_text;

/// Environment variable with the folder of the package.
const VARIABLE: &str = "GRIMACE_ONNXRUNTIME_WEB";

/// The version that the page was tested with.
const VERSION: &str = "1.30.0";

/// Maximum size of `package.json` in bytes.
const MAX_PACKAGE_JSON: u64 = 1 << 20;

/// The files that a page needs, and their paths in it: the build for WebAssembly, without those for
/// WebGPU, which are twice as large. The module gets the ending `.js`, because some web servers do not
/// know that `.mjs` is JavaScript.
const FILES: [(&str, &str); 2] = [
    ("dist/ort.wasm.bundle.min.mjs", "assets/onnxruntime/onnxruntime-web.js"),
    ("dist/ort-wasm-simd-threaded.wasm", "assets/onnxruntime/ort-wasm-simd-threaded.wasm"),
];

/// An installed package.
#[derive(Debug)]
pub struct Package {
    folder: PathBuf,
    /// Its version, such as `1.30.0`.
    pub version: String,
}

impl Package {
    /// Finds the package: in the folder that `GRIMACE_ONNXRUNTIME_WEB` names; or as
    /// `.venv/onnxruntime-web`, where `scripts/setup.sh --web` puts it, of the folders above the program
    /// and of the working directory; or in `node_modules` of the working directory.
    ///
    /// # Errors
    /// An input error that says what to run.
    pub fn find() -> Result<Self> {
        if let Some(folder) = env::var_os(VARIABLE).map(PathBuf::from) {
            return Self::open(&folder).map_err(|problem| {
                input(format!(
                    "{VARIABLE}: {problem}; set it to the folder of the npm package onnxruntime-web {VERSION}"
                ))
            });
        }
        let environments = program_folders().into_iter().chain([PathBuf::from(".venv")]);
        let places = environments.map(|folder| folder.join("onnxruntime-web"));
        let places = places.chain([PathBuf::from("node_modules/onnxruntime-web")]);
        let mut problem = "the npm package onnxruntime-web is not installed".to_owned();
        for folder in places.filter(|folder| folder.is_dir()) {
            match Self::open(&folder) {
                Ok(package) => return Ok(package),
                Err(found) => problem = format!("the npm package onnxruntime-web cannot be used: {found:#}"),
            }
        }
        Err(input(format!(
            "--web: {problem}; run scripts/setup.sh --web in the folder of Grimace's sources, or npm install \
             onnxruntime-web@{VERSION} here, or set {VARIABLE} to its folder"
        )))
    }

    /// A note for a version that the page was not tested with.
    pub fn note(&self) -> Option<String> {
        let version = &self.version;
        (version != VERSION)
            .then(|| format!("note: the page was tested with onnxruntime-web {VERSION}, and {version} is installed"))
    }

    fn open(folder: &Path) -> Result<Self> {
        let text = read_small_text(&folder.join("package.json"), MAX_PACKAGE_JSON, "the package.json of a package")?;
        let package: Value = serde_json::from_str(&text)?;
        let key = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
        if key("name") != "onnxruntime-web" {
            return Err(anyhow!("{} is the package {:?}", folder.display(), key("name")));
        }
        match FILES.iter().map(|(file, _)| folder.join(file)).find(|file| !file.is_file()) {
            Some(missing) => Err(anyhow!("{}: no such file", missing.display())),
            None => Ok(Self { folder: folder.to_path_buf(), version: key("version").to_owned() }),
        }
    }

    /// Paths of its files in the page.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(_, name)| *name)
    }

    /// Its files by their paths in the page.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        FILES.iter().map(|(file, name)| Ok((*name, fs::read(self.folder.join(file))?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_package_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let problem = || Package::open(folder.path()).unwrap_err().to_string();
        assert!(problem().contains("package.json: no such file"), "{}", problem());
        fs::write(folder.path().join("package.json"), r#"{"name": "other"}"#).unwrap();
        assert!(problem().ends_with("is the package \"other\""), "{}", problem());
        fs::write(folder.path().join("package.json"), r#"{"name": "onnxruntime-web", "version": "1.2.3"}"#).unwrap();
        assert!(problem().ends_with("ort.wasm.bundle.min.mjs: no such file"), "{}", problem());
        fs::create_dir(folder.path().join("dist")).unwrap();
        for (file, _) in FILES {
            fs::write(folder.path().join(file), file).unwrap();
        }
        let package = Package::open(folder.path()).unwrap();
        assert_eq!((package.version.as_str(), package.files().unwrap().len()), ("1.2.3", 2));
        assert!(package.note().unwrap().contains("1.2.3 is installed"));
        assert_eq!(Package { version: VERSION.to_owned(), ..package }.note(), None);
    }
}
