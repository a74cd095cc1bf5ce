//! The folder of a web export: what may be there already, and how it is replaced.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::export::output_path::hash_file;
use crate::run_dir::RunDir;
use crate::util::error::input;
use crate::util::files::{Output, OutputRules, exists, is_standard_output, read_small_text, sync_folder_of};
use crate::util::text::shell_quoted;

/// Name of the list of files.
const MANIFEST: &str = "web.json";

/// Maximum size of the list in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// The files of an export, by which the next one recognizes them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    grimace: String,
    /// BLAKE3 hash of each file, in hexadecimal, by its path in the folder.
    files: BTreeMap<String, String>,
    /// While an export replaces an earlier one: the files of that. If it is interrupted, the next one
    /// recognizes both.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    replaced: BTreeMap<String, String>,
}

impl Manifest {
    /// Whether the file `name` in `folder` is as an export wrote it.
    fn has(&self, folder: &Path, name: &str) -> bool {
        let hashes = [&self.files, &self.replaced].into_iter().filter_map(|files| files.get(name));
        let found = hash_file(&folder.join(name));
        found.is_ok_and(|found| hashes.into_iter().any(|hash| *hash == found))
    }

    /// Writes the list into `folder`; returns its bytes.
    fn write(&self, folder: &Path) -> Result<u64> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        Output::owned(folder.join(MANIFEST)).write(text.as_bytes())?;
        Ok(text.len() as u64)
    }
}

/// A folder that has passed the checks.
#[derive(Debug)]
pub struct WebFolder {
    path: PathBuf,
    /// Files that were there at the check and may be replaced.
    replaceable: Vec<String>,
}

impl WebFolder {
    /// Checks that `names`, paths in the folder at `path`, may be written.
    ///
    /// # Errors
    /// See [`check_web_folder`](super::check_web_folder).
    pub fn check(path: &Path, names: &[String], inputs: &[&Path], runs: &[PathBuf], force: bool) -> Result<Self> {
        let shown = path.display();
        if is_standard_output(path) || path.as_os_str().is_empty() {
            return Err(input(format!("--web {shown}: expected a folder, such as page")));
        }
        if exists(path) && !path.is_dir() {
            return Err(input(format!("{shown}: is a file; expected the folder to write the page to")));
        }
        let parent = parent_of(path);
        if !parent.is_dir() {
            let (name, quoted) = (parent.display(), shell_quoted(parent));
            return Err(anyhow!("{name}: no such folder; create it first: mkdir -p {quoted}"));
        }
        let manifest = read_manifest(path);
        let mut replaceable = Vec::new();
        for name in names.iter().map(String::as_str).chain([MANIFEST]) {
            let file = path.join(name);
            runs.iter().try_for_each(|run| RunDir::open(run)?.check_not_owned(&file))?;
            if !exists(&file) {
                continue;
            }
            // Whether what is there may be replaced follows below.
            Output::check(&file, OutputRules { inputs, force: true, json: false })?;
            let is_own = || match (&manifest, name) {
                (Some(_), MANIFEST) => true,
                (Some(found), _) => found.has(path, name),
                (None, _) => false,
            };
            if !force && !is_own() {
                return Err(input(format!(
                    "{}: exists, and is not as a web export wrote it; choose another --web, or overwrite it with --force",
                    file.display()
                )));
            }
            replaceable.push(name.to_owned());
        }
        Ok(Self { path: path.to_path_buf(), replaceable })
    }

    /// A folder beside the final one, to write the files to; it is removed on drop.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn stage(&self) -> Result<TempDir> {
        let name = self.path.file_name().map_or_else(|| "web".into(), |name| name.to_string_lossy());
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{name}.grimace-");
        builder.prefix(&prefix).suffix(".tmp").permissions(Permissions::from_mode(0o777));
        builder.tempdir_in(parent_of(&self.path)).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Puts the staged files, and a list of them, in their place: a new folder at once, in an existing one
    /// each file at once. Files of an earlier export that are no longer among them are removed, unless
    /// they have changed. Returns the number of files and their bytes.
    ///
    /// # Errors
    /// An input error for a file that was created since the check; I/O errors with the path.
    pub fn publish(&self, staged: TempDir) -> Result<(usize, u64)> {
        let mut manifest = Manifest { grimace: env!("CARGO_PKG_VERSION").to_owned(), ..Manifest::default() };
        let mut bytes = 0;
        for entry in WalkDir::new(staged.path()).sort_by_file_name() {
            let entry = entry?;
            fs::File::open(entry.path())?.sync_all()?;
            if entry.file_type().is_file() {
                bytes += entry.metadata()?.len();
                let name = entry.path().strip_prefix(staged.path())?.to_string_lossy().into_owned();
                manifest.files.insert(name, hash_file(entry.path())?);
            }
        }
        bytes += manifest.write(staged.path())?;
        let count = manifest.files.len() + 1;
        let is_new = !exists(&self.path) || (!self.path.is_symlink() && fs::read_dir(&self.path)?.next().is_none());
        if is_new {
            // An empty folder is replaced by the rename.
            fs::rename(staged.path(), &self.path)?;
            sync_folder_of(&self.path)?;
        } else {
            self.update(&staged, manifest)?;
        }
        Ok((count, bytes))
    }

    /// Replaces the files of the folder by the staged ones of `manifest`.
    fn update(&self, staged: &TempDir, mut manifest: Manifest) -> Result<()> {
        let before = read_manifest(&self.path).unwrap_or_default();
        let gone: Vec<&String> = before.files.keys().chain(before.replaced.keys()).collect();
        let gone = gone.into_iter().filter(|name| !manifest.files.contains_key(*name) && before.has(&self.path, name));
        let gone: Vec<PathBuf> = gone.map(|name| self.path.join(name)).collect();
        manifest.replaced = before.replaced.into_iter().chain(before.files).collect();
        let staged_manifest = staged.path().join(MANIFEST);
        fs::remove_file(&staged_manifest)?;
        manifest.write(staged.path())?;
        self.replace(&staged_manifest, MANIFEST)?;
        manifest.files.keys().try_for_each(|name| self.replace(&staged.path().join(name), name))?;
        for file in gone.iter().filter(|file| file.exists()) {
            fs::remove_file(file)?;
        }
        manifest.replaced.clear();
        manifest.write(&self.path).map(drop)
    }

    fn replace(&self, staged: &Path, name: &str) -> Result<()> {
        let target = self.path.join(name);
        fs::create_dir_all(target.parent().context("a file in a folder")?)?;
        let rules = OutputRules { force: self.replaceable.iter().any(|known| known == name), ..OutputRules::default() };
        Output::check(&target, rules)?.replace(|temporary| Ok(fs::rename(staged, temporary)?))
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The list of an earlier export.
fn read_manifest(folder: &Path) -> Option<Manifest> {
    let path = folder.join(MANIFEST);
    serde_json::from_str(&read_small_text(&path, MAX_MANIFEST, "a list of files").ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path, force: bool) -> Result<WebFolder> {
        WebFolder::check(path, &["index.html".to_owned(), "assets/a.js".to_owned()], &[], &[], force)
    }

    fn publish(path: &Path, text: &str, force: bool) -> Result<(usize, u64)> {
        let folder = check(path, force)?;
        let staged = folder.stage()?;
        fs::create_dir(staged.path().join("assets"))?;
        fs::write(staged.path().join("index.html"), text)?;
        fs::write(staged.path().join("assets/a.js"), "script")?;
        folder.publish(staged)
    }

    #[test]
    fn an_earlier_export_is_replaced_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("page");
        let index = path.join("index.html");
        assert_eq!(publish(&path, "one", false).unwrap().0, 3);
        fs::write(path.join("notes.txt"), "mine").unwrap();
        publish(&path, "two", false).unwrap();
        assert_eq!(fs::read_to_string(&index).unwrap(), "two");
        fs::write(&index, "edited").unwrap();
        let message = publish(&path, "three", false).unwrap_err().to_string();
        assert!(message.contains("index.html: exists, and is not as a web export wrote it"), "{message}");
        assert_eq!(fs::read_to_string(&index).unwrap(), "edited");
        publish(&path, "three", true).unwrap();
        assert_eq!(fs::read_to_string(&index).unwrap(), "three");
        assert_eq!(fs::read_to_string(path.join("notes.txt")).unwrap(), "mine");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "no temporary folder");
    }

    /// An export that is interrupted has replaced some files and left others.
    #[test]
    fn an_interrupted_export_is_replaced_too() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("page");
        publish(&path, "one", false).unwrap();
        fs::write(path.join("old.js"), "gone in the next version").unwrap();
        let mut manifest = read_manifest(&path).unwrap();
        manifest.files.insert("old.js".to_owned(), hash_file(&path.join("old.js")).unwrap());
        manifest.write(&path).unwrap();
        // The list is new; index.html is not, and assets/a.js is.
        let mut started = Manifest { replaced: manifest.files, ..Manifest::default() };
        fs::write(path.join("assets/a.js"), "new script").unwrap();
        started.files.insert("assets/a.js".to_owned(), hash_file(&path.join("assets/a.js")).unwrap());
        started.files.insert("index.html".to_owned(), "0".repeat(64));
        started.write(&path).unwrap();
        publish(&path, "two", false).unwrap();
        assert_eq!(fs::read_to_string(path.join("index.html")).unwrap(), "two");
        assert!(!path.join("old.js").exists() && read_manifest(&path).unwrap().replaced.is_empty());
        // A file of the earlier export that was edited stays, though it is no longer of the page.
        let mut manifest = read_manifest(&path).unwrap();
        manifest.files.insert("edited.js".to_owned(), "0".repeat(64));
        manifest.write(&path).unwrap();
        fs::write(path.join("edited.js"), "mine").unwrap();
        publish(&path, "three", false).unwrap();
        assert_eq!(fs::read_to_string(path.join("edited.js")).unwrap(), "mine");
    }

    #[test]
    fn files_of_others_and_odd_places_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("page");
        fs::create_dir(&path).unwrap();
        assert!(check(&path, false).is_ok(), "an empty folder");
        fs::create_dir(path.join("assets")).unwrap();
        fs::write(path.join("assets/a.js"), "mine").unwrap();
        assert!(check(&path, false).unwrap_err().to_string().contains("a.js: exists"));
        fs::write(path.join(MANIFEST), "{}").unwrap();
        assert!(check(&path, false).unwrap_err().to_string().contains("a.js: exists"), "not a list");
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        for (path, part) in
            [(file, "is a file"), (PathBuf::from("-"), "expected a folder"), (root.path().join("a/b"), "mkdir -p")]
        {
            let message = check(&path, true).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
