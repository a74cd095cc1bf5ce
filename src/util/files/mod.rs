//! Atomic replacement of files, and checks of paths before they are read or written.

mod output;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use tempfile::{Builder, NamedTempFile, TempPath};

use super::error::input;
use output::check_replaceable;

pub use output::{
    Output, OutputRules, STANDARD_STREAM, already_exists, check_output_file, exists, input_name, is_same_file,
    is_standard_input, is_standard_output, last_name, write_standard_output,
};

/// Temporary files are named `.NAME.grimace-XXXXXX.tmp`, in the folder of the file that they
/// become.
const TEMPORARY_INFIX: &str = ".grimace-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Random letters and digits in the name of a temporary file.
const RANDOM_CHARS: usize = 6;

/// Writes `bytes` to `path` atomically: a crash or a full disk leaves the old file or the new one.
///
/// # Errors
/// Any I/O error; the file at `path` is then unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_atomically(path, |temporary| Ok(fs::write(temporary, bytes)?))
}

/// Replaces `path` atomically with the file that `write` writes to the path it is given: a
/// temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// The error of `write`, or an I/O error; the file at `path` is then unchanged.
pub fn replace_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    replace_atomically_after(path, write, || Ok(()))
}

/// Like [`replace_atomically`], and runs `then` between the fsync of the new file and the rename.
///
/// # Errors
/// The errors of `write` and `then`, or an I/O error.
pub fn replace_atomically_after(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<()>,
    then: impl FnOnce() -> Result<()>,
) -> Result<()> {
    // A symbolic link stays: its target is replaced.
    let resolved = if path.is_symlink() && path.exists() { fs::canonicalize(path)? } else { path.to_path_buf() };
    let path = resolved.as_path();
    check_replaceable(path)?;
    let replace = || -> Result<()> {
        let temporary = temporary_file(path)?;
        write(temporary.path())?;
        // Opened again: `write` may have replaced the file.
        fs::File::open(temporary.path())?.sync_all()?;
        then()?;
        temporary.persist(path).map_err(std::io::Error::from)?;
        sync_folder_of(path)
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}

/// Like [`replace_atomically`], but a file that exists by then is not replaced.
///
/// # Errors
/// An input error if there is a file; the error of `write`, or an I/O error.
pub(super) fn create_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    check_replaceable(path)?;
    let failed = || format!("cannot write {}", path.display());
    let temporary = temporary_file(path).with_context(failed)?;
    write(temporary.path()).with_context(failed)?;
    fs::File::open(temporary.path())?.sync_all()?;
    match temporary.persist_noclobber(path) {
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(already_exists(path)),
        persisted => {
            persisted.map_err(std::io::Error::from).with_context(failed)?;
            sync_folder_of(path)
        }
    }
}

/// Gives the file at `original` a second name, replacing what has that name: a hard link, or a copy
/// on a file system without links.
///
/// # Errors
/// An I/O error with the path.
pub fn link_atomically(original: &Path, name: &Path) -> Result<()> {
    // A hard link to a symbolic link would follow its later changes.
    let original = fs::canonicalize(original)?;
    let Ok(link) = temporary_link(&original, name) else {
        return write_atomically(name, &fs::read(&original)?);
    };
    let path = link.to_path_buf();
    let renamed = link.persist(name).map_err(std::io::Error::from);
    renamed.with_context(|| format!("cannot write {}", name.display()))?;
    // POSIX rename does nothing, and keeps both names, when they are links to the same file.
    if path.exists() {
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// Creates an empty temporary file for `path`, with the permissions of a new file (0666 & !umask);
/// it is removed on drop.
fn temporary_file(path: &Path) -> Result<NamedTempFile> {
    let prefix = temporary_prefix(path)?;
    Ok(builder(&prefix).permissions(Permissions::from_mode(0o666)).tempfile_in(folder_of(path))?)
}

/// Creates a temporary hard link to `original`, to be renamed to `name`; it is removed on drop.
fn temporary_link(original: &Path, name: &Path) -> Result<TempPath> {
    let prefix = temporary_prefix(name)?;
    Ok(builder(&prefix).make_in(folder_of(name), |link| std::fs::hard_link(original, link))?.into_temp_path())
}

fn builder(prefix: &OsStr) -> Builder<'_, 'static> {
    let mut builder = Builder::new();
    builder.prefix(prefix).suffix(TEMPORARY_SUFFIX).rand_bytes(RANDOM_CHARS);
    builder
}

fn temporary_prefix(path: &Path) -> Result<OsString> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    Ok([OsStr::new("."), name, OsStr::new(TEMPORARY_INFIX)].into_iter().collect())
}

/// Whether a file name is that of a temporary file of this module; a killed process leaves it
/// behind.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let stem = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(TEMPORARY_SUFFIX));
    let random = stem.and_then(|stem| stem.rsplit_once(TEMPORARY_INFIX)).filter(|(file, _)| !file.is_empty());
    random.is_some_and(|(_, chars)| chars.len() == RANDOM_CHARS && chars.bytes().all(|c| c.is_ascii_alphanumeric()))
}

/// The folder of `path`: `.` for a bare file name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename or a new file in the folder of `path` durable.
///
/// # Errors
/// An I/O error with the path.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    match fs::File::open(folder_of(path)) {
        // A folder that is writable but not readable.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        opened => Ok(opened?.sync_all()?),
    }
}

/// Checks that `path` is a regular file that can be opened. Folders, FIFOs and devices are refused
/// before anything reads them.
///
/// # Errors
/// An input error (exit code 2) that names the path and what is there.
pub fn check_regular_file(path: &Path, what: &str) -> Result<()> {
    // Before it is opened: opening a FIFO waits for a writer.
    if !input_metadata(path, what)?.is_file() {
        let name = path.display();
        return Err(input(format!("{name}: is not a regular file (a pipe or a device); expected {what}")));
    }
    open_input(path, what).map(drop)
}

/// Opens a file, a pipe or a device to read it. `what` describes the expected file for messages.
///
/// # Errors
/// An input error (exit code 2) that names the path and what is there.
pub fn open_input(path: &Path, what: &str) -> Result<File> {
    input_metadata(path, what)?;
    File::open(path).map_err(|error| input(format!("{}: cannot be opened: {error}", path.display())))
}

/// The metadata of an input path that is not a folder.
fn input_metadata(path: &Path, what: &str) -> Result<Metadata> {
    let name = path.display();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(input(format!("{name}: is a folder; expected {what}"))),
        Ok(metadata) => Ok(metadata),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(input(format!("{name}: no such file; expected {what}")))
        }
        Err(error) => Err(input(format!("{name}: cannot be read as {what}: {error}"))),
    }
}

/// Reads a text file of at most `limit` bytes, such as a config.
///
/// # Errors
/// An input error when the file is missing, not a regular file, too large or not UTF-8.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_removes_the_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        write_atomically(&path, b"old").unwrap();
        let error = replace_atomically(&path, |temporary| {
            fs::write(temporary, "half")?;
            anyhow::bail!("power cut")
        })
        .unwrap_err();
        assert!(format!("{error:#}").contains("x.json"));
        let panicked = std::panic::catch_unwind(|| replace_atomically(&path, |_| panic!("a panic while writing")));
        assert!(panicked.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary files are gone");
    }

    #[test]
    fn a_replaced_file_has_the_permissions_of_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, replaced) = (folder.path().join("plain"), folder.path().join("replaced"));
        fs::write(&plain, "x").unwrap();
        write_atomically(&replaced, b"x").unwrap();
        assert_eq!(mode_of(&replaced), mode_of(&plain));
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
    }

    #[test]
    fn a_link_replaces_a_name_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let (original, name) = (folder.path().join("original"), folder.path().join("name"));
        fs::write(&original, "new").unwrap();
        fs::write(&name, "old").unwrap();
        for _ in 0..2 {
            link_atomically(&original, &name).unwrap();
            assert_eq!(fs::read(&name).unwrap(), b"new");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn temporary_files_are_recognized_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = temporary_file(&folder.path().join("last.safetensors")).unwrap();
        assert!(is_temporary(temporary.path().file_name().unwrap()));
        assert!(is_temporary(".x.grimace-a1B2c3.tmp".as_ref()));
        for name in ["last.safetensors", ".lock", ".x.tmp", "x.grimace-a1B2c3.tmp", ".grimace-a1B2c3.tmp", ".x.v2.tmp"]
        {
            assert!(!is_temporary(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn errors_name_the_kind_of_path() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| format!("{:#}", check_regular_file(path, "a CSV file").unwrap_err());
        assert!(message(folder.path()).contains("is a folder; expected a CSV file"));
        assert!(message(&folder.path().join("none.csv")).contains("no such file"));
        assert!(message(Path::new("/dev/null")).contains("not a regular file"));
    }
}
