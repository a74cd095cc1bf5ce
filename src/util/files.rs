//! Files that are either whole or not there, and paths looked at before they are read.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use fs_err as fs;

use super::error::input;

/// How names of temporary files end: `.NAME.PROCESS.tmp`.
const TEMPORARY: &str = ".tmp";

/// Writes `bytes` to `path` so that a crash or a full disk leaves the old file or the new one, never a part of either:
/// a temporary file beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// Any I/O error, with the path; the temporary file is removed and what was at `path` stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_atomically(path, |temporary| {
        let mut file = fs::File::create(temporary)?;
        file.write_all(bytes)?;
        Ok(())
    })
}

/// As [`write_atomically`], for writers that want a path: `write` creates the file it is given.
///
/// # Errors
/// What `write` returns, or an I/O error with the path.
pub fn replace_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    replace_atomically_after(path, write, || Ok(()))
}

/// As [`replace_atomically`]; `then` runs when the new file is whole and on the disk, and has not yet taken the old one's place.
///
/// # Errors
/// What `write` and `then` return, or an I/O error with the path.
pub fn replace_atomically_after(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<()>,
    then: impl FnOnce() -> Result<()>,
) -> Result<()> {
    // Through a link, to the file it names: the link stays.
    let resolved = if path.is_symlink() && path.exists() { fs::canonicalize(path)? } else { path.to_path_buf() };
    let path = resolved.as_path();
    check_replaceable(path)?;
    let temporary = temporary_beside(path)?;
    // Created here, so that a folder that cannot be written to is named as such, whatever `write` would make of it.
    let result =
        fs::File::create(&temporary).map_err(anyhow::Error::from).and_then(|_| write(&temporary)).and_then(|()| {
            fs::File::open(&temporary)?.sync_all()?;
            then()?;
            fs::rename(&temporary, path)?;
            sync_folder_of(path)
        });
    if result.is_err() {
        // The first error is the one to report; a temporary file that cannot be removed either is harmless.
        drop(std::fs::remove_file(&temporary));
    }
    result.with_context(|| format!("cannot write {}", path.display()))
}

/// The name of a temporary file for what will be at `path`, in the same folder.
///
/// # Errors
/// When `path` names no file.
pub fn temporary_beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}{TEMPORARY}", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// Whether a file name is one that [`replace_atomically`] gives its temporary file: what a killed process leaves behind.
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    let process =
        name.strip_prefix('.').and_then(|rest| rest.strip_suffix(TEMPORARY)).and_then(|rest| rest.rsplit_once('.'));
    process.is_some_and(|(file, process)| !file.is_empty() && process.parse::<u32>().is_ok())
}

/// Makes a rename or a new file in the folder of `path` durable.
///
/// # Errors
/// An I/O error with the path.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match fs::File::open(folder) {
        // A folder that may be written to, but not listed.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        opened => Ok(opened?.sync_all()?),
    }
}

/// Checks that `path` is a regular file that can be opened; a folder, a FIFO or a device is refused before it is read.
///
/// # Errors
/// An input error (exit code 2) that names the path and what it is.
pub fn check_regular_file(path: &Path, what: &str) -> Result<()> {
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(input(format!("{shown}: no such file ({what})")));
        }
        Err(error) => return Err(input(format!("{shown}: cannot be read as {what}: {error}"))),
    };
    if metadata.is_dir() {
        return Err(input(format!("{shown}: is a folder; expected {what}")));
    }
    if !metadata.is_file() {
        return Err(input(format!("{shown}: is not a regular file (a pipe or a device); expected {what}")));
    }
    std::fs::File::open(path).map_err(|error| input(format!("{shown}: cannot be opened: {error}")))?;
    Ok(())
}

/// Reads a small text file such as a config, with a bound on its size.
///
/// # Errors
/// An input error when it is missing, not a regular file, larger than `limit` bytes or not UTF-8.
pub fn read_small_text(path: &Path, limit: u64, what: &str) -> Result<String> {
    check_regular_file(path, what)?;
    let size = fs::metadata(path)?.len();
    if size > limit {
        return Err(input(format!("{}: {size} bytes; {what} has at most {limit}", path.display())));
    }
    let bytes = fs::read(path)?;
    String::from_utf8(bytes).map_err(|error| {
        input(format!("{}: not UTF-8 (byte {}); expected {what}", path.display(), error.utf8_error().valid_up_to() + 1))
    })
}

/// Refuses to put a file in the place of something else: a folder, a pipe, a device.
fn check_replaceable(path: &Path) -> Result<()> {
    let shown = path.display();
    if path.is_dir() {
        return Err(anyhow!("{shown}: is a folder; expected the path of a file to write"));
    }
    if path.exists() && !path.is_file() {
        return Err(anyhow!(
            "{shown}: is a pipe or a device, which a file would replace; expected the path of a file to write"
        ));
    }
    Ok(())
}

/// Whether two paths name one file that exists.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

/// As [`check_output_file`], for a command that reads `inputs`: writing over one of them would lose it.
///
/// # Errors
/// As [`check_output_file`]; an input error when `path` is an input.
pub fn check_output_beside(path: &Path, inputs: &[&Path]) -> Result<()> {
    check_output_file(path)?;
    if inputs.iter().any(|input| is_same_file(path, input)) {
        return Err(input(format!(
            "{}: is read by this command, and would be lost; choose another --out",
            path.display()
        )));
    }
    Ok(())
}

/// Refuses an output file whose folder does not exist or that is a folder itself, before any work is done for it.
///
/// # Errors
/// An error (exit code 1) that names the path and what to do.
pub fn check_output_file(path: &Path) -> Result<()> {
    check_replaceable(path)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => return Ok(()),
    };
    if !folder.is_dir() {
        let shown = folder.display();
        if folder.exists() {
            return Err(anyhow!("{shown}: is a file; expected the folder to write {} to", path.display()));
        }
        return Err(anyhow!("{shown}: no such folder; create it first: mkdir -p {shown}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        write_atomically(&path, b"old").unwrap();
        let error = replace_atomically(&path, |temporary| {
            fs::write(temporary, "half")?;
            anyhow::bail!("power cut")
        })
        .unwrap_err();
        assert!(format!("{error:#}").contains("x.json"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn only_files_are_replaced_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(link.is_symlink() && fs::read(&target).unwrap() == b"new");
        assert!(format!("{:#}", write_atomically(Path::new("/dev/null"), b"x").unwrap_err()).contains("a device"));
        assert!(check_output_file(Path::new("/dev/null")).is_err() && check_output_file(folder.path()).is_err());
        let message = check_output_beside(&link, &[Path::new("x"), &target]).unwrap_err().to_string();
        assert!(message.contains("link: is read by this command"), "{message}");
        assert!(check_output_beside(&folder.path().join("new"), &[&target]).is_ok());
    }

    #[test]
    fn temporary_files_are_known_by_their_names() {
        let temporary = temporary_beside(Path::new("run/last.safetensors")).unwrap();
        assert!(is_temporary(temporary.file_name().unwrap()));
        for name in ["last.safetensors", ".lock", ".x.tmp", "x.12.tmp", ".12.tmp", ".notes.v2.tmp"] {
            assert!(!is_temporary(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn odd_paths_are_named_for_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| format!("{:#}", check_regular_file(path, "a CSV file").unwrap_err());
        assert!(message(folder.path()).contains("is a folder; expected a CSV file"));
        assert!(message(&folder.path().join("none.csv")).contains("no such file"));
        assert!(message(Path::new("/dev/null")).contains("not a regular file"));
    }
}
