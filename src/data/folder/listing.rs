//! The pictures in a folder: their order, their class folders and splits.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::data::bad_rows::{BadRow, BadRows, Place};
use crate::data::images::{TRAINING, is_split};
use crate::data::label_map::is_expression;
use crate::data::picture::{self, has_picture_name};
use crate::util::text::short;

/// Max extensions of other files that are counted.
const MAX_EXTENSIONS: usize = 20;

/// The pictures of a folder, in their order: by file name, numbers in it compared as numbers, then
/// by path. The rows of a converted CSV keep their order, whatever their class.
#[derive(Debug, Default)]
pub struct Listing {
    /// The pictures.
    pub files: Vec<Entry>,
    /// Files and folders that cannot be read.
    pub problems: BadRows,
    /// Number of other files by extension.
    pub ignored: BTreeMap<String, usize>,
    /// Number of folders around those of the classes or splits: 0 or 1.
    outer: usize,
}

/// A picture in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Its path in the folder, with `/`: the id of the image.
    pub id: String,
    /// Name of its class folder.
    pub class: Option<String>,
    /// The split that its class folder is in.
    pub usage: Option<String>,
}

impl Listing {
    /// Lists `root`, following links: a folder, without hidden files and folders, or a picture of any
    /// name.
    pub fn new(root: &Path) -> Self {
        let mut listing = Self::default();
        let visible = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry.file_name());
        // Links between folders may lead to each in many ways.
        let mut visited = HashSet::new();
        let mut entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter().filter_entry(visible);
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {
                    if let Ok(metadata) = entry.metadata()
                        && !visited.insert((metadata.dev(), metadata.ino()))
                    {
                        let problem = "is a folder that is read already by another path, through a link".to_owned();
                        listing.problems.push(BadRow { place: Place::File(id_of(root, entry.path())), problem });
                        entries.skip_current_dir();
                    }
                }
                Ok(entry) if !entry.file_type().is_file() => {}
                Ok(entry) if entry.depth() == 0 || has_picture_name(entry.path()) => {
                    listing.files.push(Entry::new(root, entry.into_path()))
                }
                Ok(entry) => listing.ignore(entry.path()),
                Err(error) => listing.problems.push(describe(root, &error)),
            }
        }
        listing.files.sort_by_cached_key(|entry| (natural_key(file_name(&entry.id)), entry.id.clone()));
        listing.unwrap_folder();
        listing.find_splits();
        listing
    }

    /// If all pictures are in folders of one folder, as in an archive that was extracted, that folder
    /// is no class.
    fn unwrap_folder(&mut self) {
        let outer = |entry: &Entry| entry.id.split('/').next().unwrap_or_default().to_owned();
        let Some(first) = self.files.first().map(outer) else { return };
        let is_wrapped = |entry: &Entry| outer(entry) == first && entry.id.split('/').count() > 2;
        let is_known = is_split(&first) || is_expression(&first);
        if is_known || !self.files.iter().all(is_wrapped) {
            return;
        }
        for entry in &mut self.files {
            entry.class = entry.folder(1);
        }
        self.outer = 1;
    }

    /// The number of other files by extension, for the log; `None` if there are none.
    pub fn ignored_note(&self, name: &str) -> Option<String> {
        let kinds: Vec<String> =
            self.ignored.iter().map(|(kind, files)| format!("{files} .{}", short(kind, 20))).collect();
        let formats = picture::FORMATS;
        (!kinds.is_empty())
            .then(|| format!("{name}: files that are not read: {}; expected {formats}", kinds.join(", ")))
    }

    fn ignore(&mut self, path: &Path) {
        let extension = path.extension().map_or_else(String::new, |text| text.to_string_lossy().to_lowercase());
        if self.ignored.len() < MAX_EXTENSIONS || self.ignored.contains_key(&extension) {
            *self.ignored.entry(extension).or_insert(0) += 1;
        }
    }

    /// If all pictures are in folders such as `train` and `test`, these are splits, and the class
    /// folders are in them. If only some are, but in class folders there, the others are problems.
    fn find_splits(&mut self) {
        let is_in_split = |entry: &Entry| entry.class.as_ref().is_some_and(|folder| is_split(folder));
        let in_split = self.files.iter().filter(|entry| is_in_split(entry)).count();
        if in_split == 0 {
            return;
        }
        if in_split < self.files.len() {
            let is_in_class = |entry: &Entry| is_in_split(entry) && entry.folder(self.outer + 1).is_some();
            if !self.files.iter().any(is_in_class) {
                return;
            }
            let (files, others) = std::mem::take(&mut self.files).into_iter().partition(is_in_split);
            self.files = files;
            for other in others {
                let problem = "is in no split, such as train or test, and other pictures are; move it, or remove it";
                self.problems.push(BadRow { place: Place::File(other.id), problem: problem.to_owned() });
            }
        }
        for entry in &mut self.files {
            let usage = entry.class.take().unwrap_or_default();
            entry.usage = Some(if usage.eq_ignore_ascii_case("train") { TRAINING.to_owned() } else { usage });
            entry.class = entry.folder(self.outer + 1);
        }
    }

    /// The names of the class folders, in alphabetical order, without those that differ only in case.
    pub fn class_folders(&self) -> Vec<String> {
        let names: BTreeMap<String, &String> = self
            .files
            .iter()
            .rev()
            .filter_map(|entry| entry.class.as_ref())
            .map(|name| (name.to_lowercase(), name))
            .collect();
        names.into_values().cloned().collect()
    }
}

impl Entry {
    fn new(root: &Path, path: PathBuf) -> Self {
        let id = id_of(root, &path);
        let entry = Self { path, id, class: None, usage: None };
        Self { class: entry.folder(0), ..entry }
    }

    /// The name of the folder at this depth of its path, from 0.
    fn folder(&self, depth: usize) -> Option<String> {
        let mut parts = self.id.split('/').skip(depth);
        parts.next().filter(|_| parts.next().is_some()).map(str::to_owned)
    }
}

/// The path of a file in `root`, with `/`.
fn id_of(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).ok().filter(|inside| !inside.as_os_str().is_empty());
    // Of a root that is a file, its name.
    let inside = inside.or_else(|| path.file_name().map(Path::new)).unwrap_or(path);
    let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("/")
}

fn describe(root: &Path, error: &walkdir::Error) -> BadRow {
    let place = Place::File(error.path().map_or_else(|| ".".to_owned(), |path| id_of(root, path)));
    let problem = match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => format!("is a link to {}, which contains it", ancestor.display()),
        (None, Some(io)) if io.kind() == std::io::ErrorKind::NotFound => "is a link to nothing".to_owned(),
        (None, Some(io)) => format!("cannot be read: {io}"),
        (None, None) => "cannot be read".to_owned(),
    };
    BadRow { place, problem }
}

fn is_hidden(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    // macOS puts copies of metadata into archives.
    name.starts_with('.') || name == "__MACOSX"
}

fn file_name(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// A part of a name, to be compared: a number, or other text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Digits without leading zeros: longer ones are larger.
    Number(usize, String),
    Text(String),
}

/// The parts of a name, so that `a2` comes before `a10`.
fn natural_key(name: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for c in name.chars() {
        match (c.is_ascii_digit(), parts.last_mut()) {
            (true, Some(Part::Number(_, digits))) => digits.push(c),
            (true, _) => parts.push(Part::Number(0, c.to_string())),
            (false, Some(Part::Text(text))) => text.push(c),
            (false, _) => parts.push(Part::Text(c.to_string())),
        }
    }
    for part in &mut parts {
        if let Part::Number(length, digits) = part {
            *digits = digits.trim_start_matches('0').to_owned();
            *length = digits.len();
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use fs_err as fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        folder
    }

    fn ids(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|entry| entry.id.as_str()).collect()
    }

    #[test]
    fn files_are_ordered_by_name_with_numbers_as_numbers() {
        let data = folder(&["sad/10.png", "happy/9.png", "sad/a2.JPG", "happy/a010.jpg", "sad/009.png", "b.png"]);
        let listing = Listing::new(data.path());
        assert_eq!(
            ids(&listing),
            ["happy/9.png", "sad/009.png", "sad/10.png", "sad/a2.JPG", "happy/a010.jpg", "b.png"]
        );
        let classes: Vec<_> = listing.files.iter().map(|entry| entry.class.as_deref()).collect();
        let [happy, sad] = [Some("happy"), Some("sad")];
        assert_eq!(classes, [happy, sad, sad, sad, happy, None]);
        assert_eq!(natural_key("007"), natural_key("7"));
        assert_eq!(
            natural_key("x99999999999999999999999").cmp(&natural_key("x100000000000000000000000")),
            Ordering::Less
        );
    }

    #[test]
    fn train_and_test_are_splits_and_deeper_folders_belong_to_a_class() {
        let data = folder(&["train/happy/1.png", "Test/Happy/sub/2.png", "train/3.png"]);
        let listing = Listing::new(data.path());
        let found: Vec<_> =
            listing.files.iter().map(|entry| (entry.usage.as_deref().unwrap(), entry.class.as_deref())).collect();
        assert_eq!(found, [(TRAINING, Some("happy")), ("Test", Some("Happy")), (TRAINING, None)]);
        assert_eq!(listing.class_folders(), ["happy"]);
        // One other folder, and they are classes.
        let mixed = folder(&["train/a.png", "happy/b.png"]);
        let listing = Listing::new(mixed.path());
        assert!(listing.files.iter().all(|entry| entry.usage.is_none()));
        assert_eq!(listing.class_folders(), ["happy", "train"]);
    }

    #[test]
    fn a_folder_around_all_is_no_class() {
        for (prefix, usage) in [("archive", None), ("archive/train", Some(TRAINING))] {
            let data = folder(&[format!("{prefix}/happy/1.png").as_str(), &format!("{prefix}/sad/2.png")]);
            let listing = Listing::new(data.path());
            assert_eq!(listing.class_folders(), ["happy", "sad"], "{prefix}");
            assert!(listing.files.iter().all(|entry| entry.usage.as_deref() == usage), "{prefix}");
        }
        let one_class = folder(&["Happiness/a/1.png", "Happiness/b/2.png"]);
        assert_eq!(Listing::new(one_class.path()).class_folders(), ["Happiness"]);
    }

    #[test]
    fn pictures_beside_splits_with_classes_are_problems() {
        let data = folder(&["train/happy/1.png", "test/happy/2.png", "extra/3.png", "4.png"]);
        let listing = Listing::new(data.path());
        assert_eq!(ids(&listing), ["train/happy/1.png", "test/happy/2.png"]);
        assert_eq!(listing.class_folders(), ["happy"]);
        let problems: Vec<String> = listing.problems.kept().iter().map(ToString::to_string).collect();
        assert!(problems[0].starts_with("extra/3.png: is in no split") && problems.len() == 2, "{problems:?}");
    }

    #[test]
    fn a_folder_that_links_lead_to_twice_is_read_once() {
        let data = folder(&["a/1.png", "b/2.png", "c/3.png"]);
        for (from, to) in [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")] {
            let link = data.path().join(from).join(format!("to-{to}"));
            std::os::unix::fs::symlink(data.path().join(to), link).unwrap();
        }
        let listing = Listing::new(data.path());
        let mut names: Vec<&str> = ids(&listing).into_iter().map(file_name).collect();
        names.sort_unstable();
        assert_eq!(names, ["1.png", "2.png", "3.png"]);
        let is_listed = |text: &str| listing.problems.kept().iter().any(|row| row.to_string().contains(text));
        assert!(is_listed("read already by another path") && is_listed("which contains it"), "{:?}", listing.problems);
    }

    #[test]
    fn other_files_are_counted_and_hidden_ones_left_out() {
        let data =
            folder(&["a/1.png", "a/.DS_Store", "__MACOSX/a/1.png", ".git/x.png", "a/read.txt", "a/2.gif", "b.TXT"]);
        let listing = Listing::new(data.path());
        assert_eq!(ids(&listing), ["a/1.png"]);
        assert_eq!(listing.ignored.into_iter().collect::<Vec<_>>(), [("gif".to_owned(), 1), ("txt".to_owned(), 2)]);
    }

    #[test]
    fn links_are_followed_and_loops_reported() {
        let data = folder(&["a/1.png"]);
        let other = folder(&["2.png"]);
        std::os::unix::fs::symlink(other.path(), data.path().join("b")).unwrap();
        std::os::unix::fs::symlink(data.path(), data.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", data.path().join("a/3.png")).unwrap();
        let listing = Listing::new(data.path());
        assert_eq!(ids(&listing), ["a/1.png", "b/2.png"]);
        let mut problems: Vec<String> = listing.problems.kept().iter().map(ToString::to_string).collect();
        problems.sort();
        assert_eq!(problems[0], "a/3.png: is a link to nothing");
        assert!(problems[1].starts_with("a/loop: is a link to ") && problems[1].ends_with(", which contains it"));
    }
}
