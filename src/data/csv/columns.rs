//! Reading the header of a CSV: its separator, and the columns that are known.

use std::collections::BTreeSet;
use std::io::{BufReader, Read};

use super::source::CsvSource;
use crate::data::images::{Images, PIXELS as IMAGE_PIXELS};
use crate::data::read_options::LabelPolicy;
use crate::util::error::input;
use crate::util::text::short;

/// Maximum length of the header line in bytes.
const MAX_HEADER: usize = 1 << 16;

/// Maximum number of columns named in a message.
const MAX_LISTED: usize = 10;

/// Separators of fields, the preferred one first.
const SEPARATORS: [u8; 3] = *b",;\t";

/// Known columns. Names match regardless of case and surrounding space.
const PIXELS: Known = Known { name: "pixels", similar: &["pixel", "image", "images", "img", "face", "pixel values"] };
const EMOTION: Known = Known {
    name: "emotion",
    similar: &["label", "labels", "class", "target", "expression", "category", "emotion label", "y"],
};
const ID: Known = Known { name: "id", similar: &["ids", "image id", "imageid", "row id", "rowid", "index", "idx"] };
const USAGE: Known = Known { name: "Usage", similar: &["split", "subset", "partition", "set", "dataset"] };

/// A known column, and names that others give it.
struct Known {
    name: &'static str,
    similar: &'static [&'static str],
}

/// Positions of the known columns, from 0. Other columns are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub separator: u8,
    pub pixels: usize,
    pub emotion: Option<usize>,
    pub id: Option<usize>,
    pub usage: Option<usize>,
    pub group: Option<usize>,
    pub count: usize,
    /// Columns that are ignored although their names are similar to a known one, as sentences.
    pub notes: Vec<String>,
}

impl Columns {
    /// No images, with the columns that the file has.
    pub fn empty_images(&self) -> Images {
        Images {
            labels: self.emotion.map(|_| Vec::new()),
            ids: self.id.map(|_| Vec::new()),
            usages: self.usage.map(|_| Vec::new()),
            groups: self.group.map(|_| Vec::new()),
            ..Images::default()
        }
    }
}

/// The names of the columns of a CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Separates fields.
    pub separator: u8,
    /// Name of the file, for messages.
    file: String,
    /// Without surrounding space.
    names: Vec<String>,
    /// Names in lower case, to be compared.
    keys: Vec<String>,
}

impl Header {
    /// Reads the first line. The separator is the one that gives the column `required`, or else
    /// the most columns. `expected` describes a header, for messages.
    ///
    /// # Errors
    /// Input errors: an empty file, a line that is blank, too long or not UTF-8.
    pub fn read(source: &CsvSource, required: &str, expected: &str) -> anyhow::Result<Self> {
        let file = source.name();
        let line = first_line(source)?;
        if line.len() > MAX_HEADER {
            return Err(input(format!(
                "{file}: line 1 is longer than {MAX_HEADER} bytes; expected a header such as {expected}"
            )));
        }
        let text = std::str::from_utf8(&line).map_err(|error| {
            let at = error.valid_up_to() + 1;
            input(format!(
                "{file}: line 1: not UTF-8 at byte {at}; expected a header such as {expected}; save the file as UTF-8"
            ))
        })?;
        let text = text.trim_start_matches('\u{feff}');
        if text.is_empty() {
            return Err(input(format!("{file}: is empty; expected a CSV with the columns {expected}")));
        }
        if text.trim_matches([',', ';']).trim().is_empty() {
            return Err(input(format!("{file}: line 1 is blank; expected a header such as {expected}")));
        }
        let headers = SEPARATORS.map(|separator| Self::split(file, text, separator));
        let best = headers.iter().find(|header| header.has(required));
        let most = || headers.iter().rev().max_by_key(|header| header.names.len());
        best.or_else(most).cloned().ok_or_else(|| input(format!("{file}: line 1 cannot be read as a header")))
    }

    fn split(file: &str, text: &str, separator: u8) -> Self {
        let mut reader =
            ::csv::ReaderBuilder::new().has_headers(false).delimiter(separator).from_reader(text.as_bytes());
        let mut record = ::csv::StringRecord::new();
        // The text is UTF-8, and one record has no other length to differ from.
        let _ = reader.read_record(&mut record);
        let names: Vec<String> = record.iter().map(|name| name.trim().to_owned()).collect();
        let keys = names.iter().map(|name| key(name)).collect();
        Self { separator, file: file.to_owned(), names, keys }
    }

    fn has(&self, name: &str) -> bool {
        self.keys.contains(&key(name))
    }

    /// The names, without surrounding space.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The position, from 0, of the column `name`, regardless of case; `None` if there is none.
    ///
    /// # Errors
    /// An input error if there are two.
    pub fn find(&self, name: &str) -> anyhow::Result<Option<usize>> {
        let wanted = key(name);
        let mut positions = self.keys.iter().enumerate().filter(|(_, key)| **key == wanted).map(|(i, _)| i);
        let first = positions.next();
        match positions.next() {
            Some(_) => Err(input(format!(
                "{}: line 1: duplicate column {}; names are compared regardless of case; rename one of them",
                self.file,
                short(name, 40)
            ))),
            None => Ok(first),
        }
    }

    /// The position, from 0, of the column `name`.
    ///
    /// # Errors
    /// An input error if there is no such column, or two. `expected` describes the header.
    pub fn require(&self, name: &str, expected: &str) -> anyhow::Result<usize> {
        self.find(name)?.ok_or_else(|| self.missing(name, &format!("; expected {expected}")))
    }

    /// The name of the first column that is not among `known`.
    pub fn first_other_than(&self, known: &[&str]) -> Option<&str> {
        let is_known = |name: &&String| known.iter().any(|known| key(known) == key(name));
        self.names.iter().find(|name| !is_known(name)).map(String::as_str)
    }

    fn missing(&self, name: &str, advice: &str) -> anyhow::Error {
        let shown: Vec<String> =
            self.names.iter().take(MAX_LISTED).map(|name| format!("{:?}", short(name, 40))).collect();
        let rest = self.names.len().saturating_sub(MAX_LISTED);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        input(format!("{}: line 1: no column {name}; found {}{rest}{advice}", self.file, shown.join(", ")))
    }

    fn require_known(&self, known: &Known) -> anyhow::Result<usize> {
        if let Some(position) = self.find(known.name)? {
            return Ok(position);
        }
        if self.is_data() {
            return Err(self.missing(known.name, "; the first line is a row: add a line with the names of the columns"));
        }
        let pixel_columns = if known.name == PIXELS.name { self.pixel_columns() } else { None };
        let advice = match (pixel_columns, self.similar(known)) {
            (Some(prefix), _) => format!(
                "; a column per pixel is not read; join them in Python: df[\"pixels\"] = \
                 df.filter(regex=\"^{prefix}[0-9]+$\").astype(str).agg(\" \".join, axis=1)"
            ),
            (None, Some(similar)) => format!("; if {similar:?} is that column, rename it to {}", known.name),
            (None, None) => String::new(),
        };
        Err(self.missing(known.name, &advice))
    }

    /// The position of the column `id`, from 0, where rows without ids are taken in their order.
    ///
    /// # Errors
    /// An input error if there are two, or one that may be meant.
    pub fn find_id(&self) -> anyhow::Result<Option<usize>> {
        let found = self.find(ID.name)?;
        match (found, self.similar(&ID)) {
            (None, Some(similar)) => Err(input(format!(
                "{}: line 1: no column id, but {similar:?}; if it is id, rename it to id; if it is not, remove it: the \
                 rows are then taken in their order",
                self.file
            ))),
            _ => Ok(found),
        }
    }

    /// An optional known column; if there is none, a column with a similar name is noted.
    fn find_known(&self, known: &Known, notes: &mut Vec<String>) -> anyhow::Result<Option<usize>> {
        let found = self.find(known.name)?;
        if let (None, Some(similar)) = (found, self.similar(known)) {
            notes.push(format!(
                "column {similar:?} is ignored; if it is {name}, rename it to {name}",
                name = known.name
            ));
        }
        Ok(found)
    }

    /// Whether the names are values: an image, or as many numbers as an image has pixels, and not all
    /// different.
    fn is_data(&self) -> bool {
        let is_number = |text: &str| text.parse::<u8>().is_ok();
        let is_image =
            |name: &String| name.split_ascii_whitespace().filter(|text| is_number(text)).count() >= IMAGE_PIXELS;
        let distinct: BTreeSet<&String> = self.names.iter().collect();
        let numbers = self.names.iter().filter(|name| is_number(name)).count();
        self.names.iter().any(is_image) || (numbers >= IMAGE_PIXELS && distinct.len() < self.names.len())
    }

    /// The prefix of the names if there is a column per pixel, such as `pixel` of `pixel0`; it may be
    /// empty.
    fn pixel_columns<'a>(&'a self) -> Option<&'a str> {
        let prefix = |name: &'a String| name.trim_end_matches(|c: char| c.is_ascii_digit());
        let mut prefixes = self.names.iter().filter(|name| prefix(name) != name.as_str()).map(prefix);
        let first = prefixes.next()?;
        let is_word = first.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        (is_word && prefixes.count() + 1 >= IMAGE_PIXELS).then_some(first)
    }

    /// A column whose name is nearly that of a known one.
    fn similar(&self, known: &Known) -> Option<String> {
        let wanted = key(known.name);
        // One typing error in a short name, two in a longer one; a name of two letters has too many
        // neighbors.
        let distance = wanted.len() / 3;
        let is_near = |key: &&String| {
            known.similar.contains(&words(key).as_str()) || strsim::damerau_levenshtein(key, &wanted) <= distance
        };
        let all_known = [PIXELS, EMOTION, ID, USAGE].map(|known| known.name.to_lowercase());
        let found = self.keys.iter().zip(&self.names).find(|(key, _)| !all_known.contains(key) && is_near(key));
        found.map(|(_, name)| short(name, 40))
    }
}

/// A column name to be compared: in lower case, without surrounding space.
fn key(name: &str) -> String {
    name.trim().to_lowercase()
}

/// A name with spaces between its words.
fn words(key: &str) -> String {
    key.replace(['_', '-', '.'], " ")
}

/// The first line, with its line break; longer than [`MAX_HEADER`] if it is too long.
fn first_line(source: &CsvSource) -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    let reader = BufReader::new(source.reader());
    let read = reader.take(MAX_HEADER as u64 + 1).read_to_end(&mut line);
    read.map_err(|error| anyhow::anyhow!("{}: cannot be read: {error}", source.name()))?;
    if let Some(end) = memchr::memchr2(b'\n', b'\r', &line) {
        line.truncate(end + 1);
    }
    Ok(line)
}

/// Reads and checks the header of a CSV of images.
pub(super) fn read_columns(source: &CsvSource, labels: LabelPolicy, group: Option<&str>) -> anyhow::Result<Columns> {
    let header = Header::read(source, PIXELS.name, "emotion,pixels")?;
    let mut notes = Vec::new();
    Ok(Columns {
        separator: header.separator,
        pixels: header.require_known(&PIXELS)?,
        emotion: match labels {
            LabelPolicy::Required => Some(header.require_known(&EMOTION)?),
            LabelPolicy::Optional => header.find_known(&EMOTION, &mut notes)?,
            LabelPolicy::Ignored => None,
        },
        id: header.find_known(&ID, &mut notes)?,
        usage: header.find_known(&USAGE, &mut notes)?,
        group: group.map(|name| header.require(name, "the column of data.group")).transpose()?,
        count: header.names.len(),
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> CsvSource {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs_err::write(&path, text).unwrap();
        CsvSource::open(&path, "a CSV", &|_| Ok(())).unwrap()
    }

    fn columns(text: &str) -> Columns {
        read_columns(&open(text), LabelPolicy::Optional, None).unwrap()
    }

    fn message(text: &str) -> String {
        read_columns(&open(text), LabelPolicy::Required, None).unwrap_err().to_string()
    }

    #[test]
    fn a_column_per_pixel_is_named() {
        let names: Vec<String> = (0..IMAGE_PIXELS).map(|number| format!("pixel{number}")).collect();
        for header in [format!("emotion,{}\n", names.join(",")), format!("{}\n", names.join(",").replace("pixel", ""))]
        {
            assert!(message(&header).contains("; a column per pixel is not read; join them in Python"));
        }
        for row in [vec!["70"; IMAGE_PIXELS + 1].join(","), format!("3,{}", vec!["70"; IMAGE_PIXELS].join(" "))] {
            assert!(message(&row).ends_with("; the first line is a row: add a line with the names of the columns"));
        }
        assert!(message(&names.join("\t")).contains("regex=\"^pixel[0-9]+$\""), "{}", message(&names.join("\t")));
        let message = message("emotion,pixel0\n");
        assert!(message.contains("if \"pixel0\" is that column, rename it"), "{message}");
    }

    #[test]
    fn names_match_regardless_of_case_and_space() {
        for text in ["emotion,pixels,id,usage\n", "\u{feff} Emotion ,PIXELS,Id, USAGE\r\n", "EMOTION;Pixels;ID;Usage\r"]
        {
            let found = columns(text);
            assert_eq!(
                (found.emotion, found.pixels, found.id, found.usage),
                (Some(0), 1, Some(2), Some(3)),
                "{text:?}"
            );
            assert_eq!((found.count, found.notes.as_slice()), (4, &[][..]));
        }
        assert!(message("pixels,usage,Usage,emotion\n").contains("line 1: duplicate column Usage"));
    }

    #[test]
    fn the_separator_is_the_one_that_gives_the_pixels() {
        let separator = |text: &str| char::from(columns(text).separator);
        assert_eq!(separator("emotion\tpixels\n"), '\t');
        assert_eq!(separator("emotion;pixels\n"), ';');
        assert_eq!(separator("a;b;c;d,pixels\n"), ',');
        assert_eq!(separator("pixels\n"), ',');
        assert_eq!(separator("\"a,b,c\";pixels\n"), ';');
        assert!(message("emotion;pixel\n").contains("found \"emotion\", \"pixel\"; if \"pixel\" is that column"));
    }

    #[test]
    fn similar_names_are_reported() {
        let notes = columns("label,pixels,image_id,split\n").notes;
        assert_eq!(
            notes,
            [
                "column \"label\" is ignored; if it is emotion, rename it to emotion",
                "column \"image_id\" is ignored; if it is id, rename it to id",
                "column \"split\" is ignored; if it is Usage, rename it to Usage",
            ]
        );
        assert_eq!(columns("emotion,pixels,Usagge\n").notes.len(), 1, "a typing error");
        assert!(columns("emotion,pixels,note,who,in,as\n").notes.is_empty());
        assert!(
            message("emotoin,pixels\n").contains("no column emotion; found \"emotoin\", \"pixels\"; if \"emotoin\"")
        );
        assert!(message("Label,pixels\n").contains("if \"Label\" is that column, rename it to emotion"));
    }
}
