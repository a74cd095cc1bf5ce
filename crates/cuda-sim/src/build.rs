//! Compiling into a folder that is named after its sources, so that it can be used again.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;

/// To be changed with how sources are compiled, so that older builds are not used.
const FORMAT: u32 = 1;

/// The C++ compiler: `CXX` or g++.
pub fn compiler() -> Command {
    Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()))
}

/// Runs a command and returns its standard output.
///
/// # Errors
/// If it cannot be started or fails: its first line on standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| format!("{name} cannot be started"))?;
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        let first = errors.lines().find(|line| line.contains("error")).or(errors.lines().next());
        bail!("{name} failed: {}", first.unwrap_or("without a message"));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Files below `folder` with one of these extensions, sorted.
///
/// # Errors
/// If the folder cannot be read.
pub fn sources(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}: cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path, extensions)?);
        } else if path.extension().and_then(OsStr::to_str).is_some_and(|extension| extensions.contains(&extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The folder in `cache` with what `build` makes of the files in `from` with `libtorch`. `build` runs
/// only if it is not there yet, in a folder of its own that is renamed when it is complete.
///
/// # Errors
/// Those of `build`.
pub fn cached(
    cache: &Path,
    name: &str,
    from: &Path,
    libtorch: &Path,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for path in sources(from, &["cpp", "h"])? {
        path.hash(&mut hasher);
        fs::read(&path)?.hash(&mut hasher);
    }
    (libtorch, FORMAT, compiler().get_program()).hash(&mut hasher);
    let library = libtorch.join("lib/libtorch_cpu.so");
    let library = fs::metadata(&library).with_context(|| format!("{}: cannot be read", library.display()))?;
    (library.len(), library.modified().ok()).hash(&mut hasher);
    let finished = cache.join(format!("{name}-{:016x}", hasher.finish()));
    if finished.is_dir() {
        return Ok(finished);
    }
    let temporary = cache.join(format!("{name}-{}.tmp", std::process::id()));
    fs::create_dir_all(&temporary)?;
    let built = build(&temporary);
    if built.is_ok() && fs::rename(&temporary, &finished).is_err() && !finished.is_dir() {
        bail!("{}: cannot be renamed", temporary.display());
    }
    // It is gone unless the build failed or another process was faster.
    drop(fs::remove_dir_all(&temporary));
    built.map(|()| finished)
}
