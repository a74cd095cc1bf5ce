//! Reads the only CSV of a zip archive.

use std::fs::File;
use std::io::BufReader;

use anyhow::Result;
use zip::result::ZipError;

use super::file_kind::Foreign;
use super::source::{CsvSource, Opened};
use crate::util::error::input;
use crate::util::text::{shell_quoted, short};

/// Maximum number of file names in a message.
const MAX_LISTED: usize = 8;

impl Opened<'_> {
    /// Reads the only CSV of a zip archive.
    pub(super) fn read_zip(&mut self, file: File) -> Result<CsvSource> {
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| self.bad_zip(&error))?;
        let files: Vec<(usize, String)> = archive
            .file_names_raw()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .enumerate()
            .filter(|(_, name)| is_content(name))
            .collect();
        if files.iter().any(|(_, name)| name.starts_with("xl/")) {
            return Err(self.foreign(Foreign::WORKBOOK));
        }
        let [(index, table)] = files.iter().filter(|(_, name)| is_table(name)).collect::<Vec<_>>()[..] else {
            return Err(self.not_one_csv(files.iter().map(|(_, name)| name.as_str())));
        };
        let entry = archive.by_index(*index).map_err(|error| self.bad_zip(&error))?;
        self.name = format!("{}/{table}", self.name);
        let size = entry.compressed_size();
        self.read_compressed(entry, size, "zip-compressed")
    }

    /// The error for an archive that cannot be opened.
    fn bad_zip(&self, error: &ZipError) -> anyhow::Error {
        let name = &self.name;
        input(match error {
            // A password, or a compression method that is not deflate.
            ZipError::UnsupportedArchive(problem) => {
                let unzip = self.file_path().map_or_else(String::new, |path| format!(": unzip {}", shell_quoted(path)));
                format!("{name}: is a zip archive that cannot be read directly: {problem}; extract it first{unzip}")
            }
            error => format!("{name}: is a zip archive that cannot be read: {error}; download or create it again"),
        })
    }

    /// The error for an archive whose files are `names`: with no CSV, or with several.
    fn not_one_csv<'a>(&self, names: impl Iterator<Item = &'a str>) -> anyhow::Error {
        let (name, what) = (&self.name, self.what);
        let list = |names: &[&str]| {
            let shown: Vec<String> =
                names.iter().take(MAX_LISTED).map(|name| format!("{:?}", short(name, 80))).collect();
            let rest = names.len().saturating_sub(MAX_LISTED);
            shown.join(", ") + &if rest > 0 { format!(" and {rest} more") } else { String::new() }
        };
        let names: Vec<&str> = names.collect();
        let tables: Vec<&str> = names.iter().copied().filter(|name| is_table(name)).collect();
        if tables.is_empty() {
            let found = if names.is_empty() { "nothing".to_owned() } else { list(&names) };
            return input(format!("{name}: a zip archive without a CSV; it holds {found}; expected {what}"));
        }
        let extract = match self.file_path() {
            Some(path) => format!(": unzip {} NAME", shell_quoted(path)),
            None => String::new(),
        };
        input(format!(
            "{name}: a zip archive with {} CSVs: {}; expected one; extract the one to use{extract}",
            tables.len(),
            list(&tables)
        ))
    }
}

/// Whether a file of an archive is content: no folder, and none of macOS's hidden files.
fn is_content(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or_default();
    !name.starts_with("__MACOSX/") && !base.is_empty() && !base.starts_with('.')
}

/// Whether a file of an archive is a CSV, by its name.
fn is_table(name: &str) -> bool {
    let name = name.to_lowercase();
    name.ends_with(".csv") || name.ends_with(".tsv")
}
