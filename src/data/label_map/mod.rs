//! `data.labels`: which class a label of a file belongs to.
//!
//! A label in a file is a class number, such as `3` or `3.0`, or a word, such as `happy`. Without
//! `data.labels`, numbers are positions in `data.classes`, and words are class names.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::data::advice::Advice;
use crate::util::text::short;
use crate::util::validate::{InvalidValue, require};

/// Names of FER2013's classes 0..6.
pub const CLASSES: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/// Value of `data.labels` for labels whose rows are left out.
pub const SKIP: &str = "skip";

/// Maximum number of entries of `data.labels`.
const MAX_ENTRIES: usize = 1000;

/// Words for one expression: the adjective and the noun are used alike by published datasets.
const SYNONYMS: [&[&str]; 8] = [
    &["angry", "anger"],
    &["disgust", "disgusted"],
    &["fear", "fearful", "afraid", "scared"],
    &["happy", "happiness"],
    &["sad", "sadness"],
    &["surprise", "surprised"],
    &["neutral", "neutrality"],
    &["contempt", "contemptuous"],
];

/// `data.labels`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LabelNames {
    /// Not set: numbers are positions in `data.classes`.
    #[default]
    Classes,
    /// The class of each number, from 0; `skip` leaves its rows out.
    List(Vec<String>),
    /// The class of each label; labels that are not listed and are a class's name stay. Numbers
    /// that are not listed have FER2013's names.
    Table(BTreeMap<String, String>),
}

/// Where a row with a label goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelTarget {
    /// To the class with this number.
    Class(u8),
    /// It is left out.
    Skip,
}

/// [`LabelNames`] with the classes: finds the class of a label.
#[derive(Debug, Clone)]
pub struct LabelMap {
    classes: Vec<String>,
    names: LabelNames,
    /// The targets of the labels `0` to `9`, which most files have.
    digits: [Option<LabelTarget>; 10],
}

impl LabelNames {
    /// Whether `data.labels` is not set.
    pub fn is_classes(&self) -> bool {
        *self == Self::Classes
    }

    /// Parses `--label-map`: `LABEL=CLASS,...`, or the classes of the labels 0, 1, ... as
    /// `CLASS,CLASS,...`.
    ///
    /// # Errors
    /// What is wrong, if some entries have `=` and others do not, or a label is listed twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries: Vec<&str> = text.split(',').map(str::trim).collect();
        if entries.iter().any(|entry| entry.is_empty()) {
            return Err("an empty entry; expected LABEL=CLASS,LABEL=CLASS or CLASS,CLASS".to_owned());
        }
        if !entries.iter().any(|entry| entry.contains('=')) {
            return Ok(Self::List(entries.into_iter().map(str::to_owned).collect()));
        }
        let mut table = BTreeMap::new();
        for entry in entries {
            let Some((label, class)) = entry.split_once('=') else {
                return Err(format!("{:?}; expected LABEL=CLASS", short(entry, 40)));
            };
            if table.insert(label.trim().to_owned(), class.trim().to_owned()).is_some() {
                return Err(format!("label {:?} is listed twice", short(label, 40)));
            }
        }
        Ok(Self::Table(table))
    }

    /// The class names that `data.labels` implies if `data.classes` is not set: FER2013's, or, if it
    /// names others, these in alphabetical order, as torchvision's `ImageFolder` numbers classes.
    pub fn default_classes(&self) -> Vec<String> {
        let known = CLASSES.map(String::from).to_vec();
        let mut named: Vec<String> = self.targets().filter(|class| *class != SKIP).cloned().collect();
        if named.iter().all(|class| known.contains(class)) {
            return known;
        }
        named.sort();
        named.dedup();
        named
    }

    fn targets(&self) -> Box<dyn Iterator<Item = &String> + '_> {
        match self {
            Self::Classes => Box::new(std::iter::empty()),
            Self::List(list) => Box::new(list.iter()),
            Self::Table(table) => Box::new(table.values()),
        }
    }

    /// Checks that every label goes to one of `classes` or is skipped, and to one only.
    ///
    /// # Errors
    /// The first entry that does not.
    pub fn check(&self, classes: &[String]) -> Result<(), InvalidValue> {
        let count = self.targets().count();
        let set = !self.is_classes();
        require(!set || (1..=MAX_ENTRIES).contains(&count), "data.labels", count, "1 to 1000 entries")?;
        let taken = classes.iter().any(|class| class == SKIP);
        let reserved = "distinct names other than \"skip\", which data.labels uses to leave rows out";
        require(!set || !taken, "data.classes", format!("{classes:?}"), reserved)?;
        let names: Vec<String> = classes.iter().take(20).map(|class| format!("{class:?}")).collect();
        let allowed = format!("a class of data.classes ({}), or \"skip\" to leave its rows out", names.join(", "));
        let is_allowed = |class: &String| class == SKIP || classes.contains(class);
        match self {
            Self::Classes => Ok(()),
            Self::List(list) => list.iter().enumerate().try_for_each(|(number, class)| {
                require(is_allowed(class), &format!("data.labels[{number}]"), format!("{class:?}"), &allowed)
            }),
            Self::Table(table) => {
                let mut seen = BTreeMap::new();
                table.iter().try_for_each(|(label, class)| {
                    let key = format!("data.labels.{}", short(label, 40));
                    require(is_allowed(class), &key, format!("{class:?}"), &allowed)?;
                    let other = seen.insert(normalized(label), label);
                    let allowed = "each label once, regardless of case";
                    require(other.is_none(), &key, format!("{class:?}"), allowed)
                })
            }
        }
    }
}

impl LabelMap {
    /// The map of a file with these classes and names, which [`LabelNames::check`] has accepted.
    pub fn new(classes: &[String], names: &LabelNames) -> Self {
        let names = match names {
            LabelNames::Table(table) => {
                LabelNames::Table(table.iter().map(|(label, class)| (normalized(label), class.clone())).collect())
            }
            other => other.clone(),
        };
        let mut map = Self { classes: classes.to_vec(), names, digits: [None; 10] };
        for number in 0..10 {
            let target = map.resolve_key(&number.to_string());
            if let Some(slot) = map.digits.get_mut(number) {
                *slot = target;
            }
        }
        map
    }

    /// The class names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of a label; `None` if it has none.
    pub fn resolve(&self, text: &str) -> Option<LabelTarget> {
        match text.as_bytes() {
            [digit @ b'0'..=b'9'] => self.digits.get(usize::from(digit - b'0')).copied().flatten(),
            _ => self.resolve_key(&normalized(text)),
        }
    }

    fn resolve_key(&self, key: &str) -> Option<LabelTarget> {
        if key.is_empty() {
            return None;
        }
        if let LabelNames::Table(table) = &self.names
            && let Some(class) = table.get(key)
        {
            return self.target(class);
        }
        if key.bytes().all(|byte| byte.is_ascii_digit()) {
            let number: usize = key.parse().ok()?;
            return match &self.names {
                LabelNames::Classes => {
                    u8::try_from(number).ok().filter(|_| number < self.classes.len()).map(LabelTarget::Class)
                }
                LabelNames::List(list) => self.target(list.get(number)?),
                LabelNames::Table(_) => self.resolve_word(CLASSES.get(number)?),
            };
        }
        self.resolve_word(key)
    }

    /// The class of a word in lower case: listed, a class's name, or a synonym of either.
    fn resolve_word(&self, word: &str) -> Option<LabelTarget> {
        let direct = |word: &str| {
            let listed = match &self.names {
                LabelNames::Table(table) => table.get(word).and_then(|class| self.target(class)),
                _ => None,
            };
            listed.or_else(|| self.class(word))
        };
        direct(word).or_else(|| {
            let group = SYNONYMS.iter().find(|group| group.contains(&word))?;
            group.iter().find_map(|synonym| direct(synonym))
        })
    }

    /// The target that a value of `data.labels` names.
    fn target(&self, class: &str) -> Option<LabelTarget> {
        if class == SKIP { Some(LabelTarget::Skip) } else { self.class(&class.to_lowercase()) }
    }

    fn class(&self, lower_case: &str) -> Option<LabelTarget> {
        let position = self.classes.iter().position(|class| class.to_lowercase() == lower_case)?;
        u8::try_from(position).ok().map(LabelTarget::Class)
    }

    /// Describes a label without a class: what was expected, and how to map it.
    pub fn describe_unknown(&self, text: &str, advice: Advice) -> String {
        let names = self.classes.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        let more = if self.classes.len() > 10 { ", ..." } else { "" };
        let numbers = match &self.names {
            LabelNames::Classes => format!("0..{}", self.classes.len().saturating_sub(1)),
            LabelNames::List(list) => format!("0..{}", list.len().saturating_sub(1)),
            LabelNames::Table(_) => "a label of data.labels".to_owned(),
        };
        let shown = short(text.trim(), 40);
        let problem = format!("unknown label {shown:?}; expected {numbers} or a class name ({names}{more})");
        if shown.is_empty() {
            return problem;
        }
        let label = normalized(&shown);
        let key = if is_bare_key(&label) { label.clone() } else { format!("{label:?}") };
        let action = match (advice, &self.names) {
            (Advice::CommandLine, _) => format!("add --label-map '{label}=CLASS'"),
            (Advice::Config, LabelNames::Classes) => format!("set data.labels = {{ {key} = \"CLASS\" }}"),
            (Advice::Config, LabelNames::Table(_)) => format!("add {key} = \"CLASS\" to data.labels"),
            (Advice::Config, LabelNames::List(_)) => "add its class to the list data.labels".to_owned(),
        };
        format!("{problem}; to map it, {action}, with a class name, or skip to leave such rows out")
    }
}

/// A label to be compared: in lower case, without surrounding space; a number without leading zeros
/// and decimal zeros, as pandas writes an integer column with gaps.
fn normalized(label: &str) -> String {
    let text = label.trim();
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    };
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_lowercase();
    }
    let digits = whole.trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
}

/// Whether TOML accepts a key without quotes.
fn is_bare_key(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl Serialize for LabelNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Classes => serializer.serialize_none(),
            Self::List(list) => list.serialize(serializer),
            Self::Table(table) => table.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for LabelNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = LabelNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as { happiness = \"happy\" }, or a list with the class of each number")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LabelNames, A::Error> {
                Deserialize::deserialize(de::value::MapAccessDeserializer::new(map)).map(LabelNames::Table)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<LabelNames, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(LabelNames::List)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests;
