//! Output paths of commands, checked before any work is done, and writing to them.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::{folder_of, write_atomically};
use crate::util::error::input;

/// Stands for standard input and standard output on the command line.
pub const STANDARD_STREAM: &str = "-";

/// Whether `path` stands for standard input or standard output.
pub fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == STANDARD_STREAM
}

/// Refuses to replace anything but a regular file.
pub(super) fn check_replaceable(path: &Path) -> Result<()> {
    let name = path.display();
    if path.is_dir() {
        return Err(anyhow!("{name}: is a folder; expected the path of a file to write"));
    }
    if path.exists() && !path.is_file() {
        return Err(anyhow!(
            "{name}: is a pipe or a device, which a file would replace; expected the path of a file to write"
        ));
    }
    Ok(())
}

/// Whether two paths name the same existing file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

/// Checks an output path before any work is done: it must not be a folder, and its folder must
/// exist.
///
/// # Errors
/// An error (exit code 1) that names the path and what to do.
pub fn check_output_file(path: &Path) -> Result<()> {
    check_replaceable(path)?;
    let folder = folder_of(path);
    if !folder.is_dir() {
        let name = folder.display();
        if folder.exists() {
            return Err(anyhow!("{name}: is a file; expected the folder to write {} to", path.display()));
        }
        return Err(anyhow!("{name}: no such folder; create it first: mkdir -p {name}"));
    }
    Ok(())
}

/// [`check_output_file`] for a command that reads `inputs`, which it must not overwrite. `-` is no
/// file, neither as the output nor as an input.
///
/// # Errors
/// As [`check_output_file`]; an input error when `path` is one of the inputs.
pub fn check_output_beside(path: &Path, inputs: &[&Path]) -> Result<()> {
    if is_standard_stream(path) {
        return Ok(());
    }
    check_output_file(path)?;
    if inputs.iter().any(|input| !is_standard_stream(input) && is_same_file(path, input)) {
        return Err(input(format!(
            "{}: is read by this command and would be overwritten; choose another --out",
            path.display()
        )));
    }
    Ok(())
}

/// Refuses to overwrite an existing file without `--force`. Inputs and files of a run are checked
/// before, because `--force` does not apply to them.
///
/// # Errors
/// An input error with the path.
pub fn check_overwrite(path: &Path, force: bool) -> Result<()> {
    // Not `exists`: a symbolic link without a target would be replaced too.
    if force || is_standard_stream(path) || std::fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    Err(input(format!("{}: exists; choose another --out, or overwrite it with --force", path.display())))
}

/// Refuses `--out -` together with `--json`.
///
/// # Errors
/// An input error.
pub fn check_json_output(out: &Path, json: bool) -> Result<()> {
    if json && is_standard_stream(out) {
        return Err(input("--out - and --json both write to standard output; omit --json, or give --out a file name"));
    }
    Ok(())
}

/// Writes `bytes` to `path` atomically, or to standard output for `-`. A closed pipe is no error.
///
/// # Errors
/// Any I/O error; the file at `path` is then unchanged.
pub fn write_output(path: &Path, bytes: &[u8]) -> Result<()> {
    if !is_standard_stream(path) {
        return write_atomically(path, bytes);
    }
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // `grimace ... | head` closes the pipe early, which is not an error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::error::is_input;
    use fs_err as fs;

    #[test]
    fn inputs_folders_and_devices_are_no_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(check_output_file(Path::new("/dev/null")).is_err() && check_output_file(folder.path()).is_err());
        let message = check_output_beside(&link, &[Path::new("x"), &target]).unwrap_err().to_string();
        assert!(message.contains("link: is read by this command"), "{message}");
        assert!(check_output_beside(&folder.path().join("new"), &[&target]).is_ok());
        assert!(check_output_beside(Path::new("-"), &[Path::new("-")]).is_ok());
    }

    #[test]
    fn existing_files_need_force() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old, dangling) = (folder.path().join("new"), folder.path().join("old"), folder.path().join("link"));
        fs::write(&old, "x").unwrap();
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(check_overwrite(&new, false).is_ok() && check_overwrite(Path::new("-"), false).is_ok());
        for path in [&old, &dangling] {
            assert!(check_overwrite(path, true).is_ok());
            let error = check_overwrite(path, false).unwrap_err();
            let expected = format!("{}: exists; choose another --out, or overwrite it with --force", path.display());
            assert!(is_input(&error) && error.to_string() == expected, "{error}");
        }
    }

    #[test]
    fn json_and_the_result_do_not_share_standard_output() {
        assert!(check_json_output(Path::new("-"), true).is_err());
        assert!(check_json_output(Path::new("-"), false).is_ok() && check_json_output(Path::new("x"), true).is_ok());
    }
}
