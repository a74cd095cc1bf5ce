//! Output paths of commands, checked before any work is done, and writing to them.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::{create_atomically, folder_of, replace_atomically};
use crate::util::error::input;
use crate::util::text::shell_quoted;

/// Stands for standard input and standard output on the command line.
pub const STANDARD_STREAM: &str = "-";

/// Names of standard input as a file.
const STANDARD_INPUTS: [&str; 4] = [STANDARD_STREAM, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// Names of standard output as a file.
const STANDARD_OUTPUTS: [&str; 4] = [STANDARD_STREAM, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Whether an input path stands for standard input: `-` or `/dev/stdin`.
pub fn is_standard_input(path: &Path) -> bool {
    STANDARD_INPUTS.iter().any(|name| path.as_os_str() == *name)
}

/// The last part of a path, such as `first` of `runs/first`; of `.`, the folder's name.
pub fn last_name(path: &Path) -> String {
    let resolved = if path.file_name().is_none() { fs_err::canonicalize(path).ok() } else { None };
    let path = resolved.as_deref().unwrap_or(path);
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The name of an input for messages.
pub fn input_name(path: &Path) -> &Path {
    if is_standard_input(path) { Path::new("standard input") } else { path }
}

/// Whether an output path stands for standard output: `-` or `/dev/stdout`.
pub fn is_standard_output(path: &Path) -> bool {
    STANDARD_OUTPUTS.iter().any(|name| path.as_os_str() == *name)
}

/// An output path of a command that has passed the checks of [`Output::check`]: commands write to
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    path: PathBuf,
    /// Whether a file that is there when it is written may be overwritten.
    overwrite: bool,
}

/// What [`Output::check`] has to know about a command.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputRules<'a> {
    /// Files that the command reads. They are never overwritten, even with `force`.
    pub inputs: &'a [&'a Path],
    /// `--force`: overwrite an existing file.
    pub force: bool,
    /// `--json`: the command prints its result to standard output.
    pub json: bool,
}

impl Output {
    /// Checks `--out` before any work is done. Files of a run are checked apart
    /// (`RunDir::check_not_owned`).
    ///
    /// # Errors
    /// Input errors: an input of the command, an existing file without `force`, standard output
    /// together with `json`. Those of [`check_output_file`].
    pub fn check(path: &Path, rules: OutputRules<'_>) -> Result<Self> {
        let output = Self { path: path.to_path_buf(), overwrite: rules.force };
        if is_standard_output(path) {
            let shown = path.display();
            return if rules.json {
                Err(input(format!(
                    "--out {shown} and --json both write to standard output; omit --json, or give --out a file name"
                )))
            } else {
                Ok(output)
            };
        }
        check_output_beside(path, rules.inputs)?;
        if !rules.force && exists(path) {
            return Err(already_exists(path));
        }
        Ok(output)
    }

    /// A file of a directory that the command owns, which it may overwrite.
    pub fn owned(path: PathBuf) -> Self {
        Self { path, overwrite: true }
    }

    /// Whether it is standard output.
    pub fn is_standard_output(&self) -> bool {
        is_standard_output(&self.path)
    }

    /// The path, as on the command line.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `bytes`: to a file atomically, or to standard output, where a closed pipe is no error.
    ///
    /// # Errors
    /// Those of [`Output::replace`], or of standard output.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        if !self.is_standard_output() {
            return self.replace(|temporary| Ok(fs_err::write(temporary, bytes)?));
        }
        write_standard_output(bytes)
    }

    /// Creates the file atomically, or replaces it with `force`, with what `write` writes to the path
    /// that it is given. Not for standard output.
    ///
    /// # Errors
    /// Any I/O error, or an input error for a file that was created since the check; a file is then
    /// unchanged.
    pub fn replace(&self, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if self.overwrite {
            return replace_atomically(&self.path, write);
        }
        create_atomically(&self.path, write)
    }
}

/// The path, or `standard output`.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_standard_output() { f.write_str("standard output") } else { self.path.display().fmt(f) }
    }
}

/// Writes to standard output, where a closed pipe is no error: `grimace ... | head` closes it early.
///
/// # Errors
/// Any other I/O error.
pub fn write_standard_output(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// The error for an output that is there already.
pub fn already_exists(path: &Path) -> anyhow::Error {
    input(format!("{}: exists; choose another --out, or overwrite it with --force", path.display()))
}

/// Whether there is something at `path`; a symbolic link without a target counts, because it would
/// be replaced too.
pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
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

/// Whether `path` is an existing file that is `input`, or in the folder `input`.
fn is_same_file_or_in(path: &Path, input: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(path).zip(real(input)).is_some_and(|(path, input)| path.starts_with(input))
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
        return Err(anyhow!("{name}: no such folder; create it first: mkdir -p {}", shell_quoted(folder)));
    }
    Ok(())
}

/// [`check_output_file`] for a command that reads `inputs`, which it must not overwrite. An input
/// that is standard input is no file; of one that is a folder, no file is overwritten.
///
/// # Errors
/// As [`check_output_file`]; an input error when `path` is one of the inputs, or a file in one.
fn check_output_beside(path: &Path, inputs: &[&Path]) -> Result<()> {
    check_output_file(path)?;
    if inputs.iter().any(|input| !is_standard_input(input) && is_same_file_or_in(path, input)) {
        return Err(input(format!(
            "{}: is read by this command and would be overwritten; choose another --out",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::error::is_input;
    use fs_err as fs;

    fn check(path: &Path, force: bool) -> Result<Output> {
        Output::check(path, OutputRules { force, ..OutputRules::default() })
    }

    #[test]
    fn inputs_folders_and_devices_are_no_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [Path::new("/dev/null"), folder.path(), &target.join("below"), &folder.path().join("a b/x")] {
            assert!(!is_input(&check(path, true).unwrap_err()), "{}", path.display());
        }
        let message = check(&folder.path().join("a b/x"), true).unwrap_err().to_string();
        assert!(message.contains("no such folder; create it first: mkdir -p '/"), "{message}");
        let inputs: [&Path; 3] = [Path::new("x"), Path::new("-"), &target];
        let rules = OutputRules { inputs: &inputs, force: true, json: false };
        let message = Output::check(&link, rules).unwrap_err().to_string();
        assert!(message.contains("link: is read by this command"), "{message}");
        assert!(Output::check(&folder.path().join("new"), rules).is_ok());
        // A file in a folder that is read.
        let rules = OutputRules { inputs: &[folder.path()], ..rules };
        assert!(Output::check(&target, rules).unwrap_err().to_string().contains("is read by this command"));
        assert!(Output::check(&folder.path().join("new"), rules).is_ok());
    }

    #[test]
    fn existing_files_need_force() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old, dangling) = (folder.path().join("new"), folder.path().join("old"), folder.path().join("link"));
        fs::write(&old, "x").unwrap();
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(check(&new, false).is_ok());
        for path in [&old, &dangling] {
            assert!(check(path, true).is_ok());
            let error = check(path, false).unwrap_err();
            let expected = format!("{}: exists; choose another --out, or overwrite it with --force", path.display());
            assert!(is_input(&error) && error.to_string() == expected, "{error}");
        }
        let output = check(&new, false).unwrap();
        fs::write(&new, "created since").unwrap();
        let error = output.write(b"mine").unwrap_err();
        assert!(is_input(&error) && error.to_string().contains("new: exists; choose another --out"), "{error:#}");
        assert_eq!(fs::read(&new).unwrap(), b"created since");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no temporary file");
        check(&old, true).unwrap().write(b"new").unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"new");
    }

    #[test]
    fn standard_output_is_no_file() {
        for name in ["-", "/dev/stdout", "/dev/fd/1"] {
            let output = check(Path::new(name), false).unwrap();
            assert!(output.is_standard_output() && output.to_string() == "standard output");
            let rules = OutputRules { json: true, ..OutputRules::default() };
            let error = Output::check(Path::new(name), rules).unwrap_err();
            assert!(is_input(&error) && error.to_string().contains("omit --json"), "{error}");
        }
        assert!(is_standard_input(Path::new("/dev/stdin")) && !is_standard_input(Path::new("./-")));
        assert!(!is_standard_output(Path::new("./-")) && !is_standard_output(Path::new("/dev/stdin")));
        let folder = tempfile::tempdir().unwrap();
        let rules = OutputRules { json: true, ..OutputRules::default() };
        let output = Output::check(&folder.path().join("x"), rules).unwrap();
        assert_eq!(output.to_string(), folder.path().join("x").display().to_string());
    }
}
