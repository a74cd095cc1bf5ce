//! `data.labels`: which class a label of a file belongs to.
//!
//! A label in a file is a class number, such as `3` or `3.0`, or a word, such as `happy`. Without
//! `data.labels`, numbers are positions in `data.classes`, and words are class names.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use names::LabelNames;

use crate::data::advice::Advice;
use crate::util::text::short;

/// Names of FER2013's classes 0..6.
pub const CLASSES: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/// Value of `data.labels` for labels whose rows are left out.
pub const SKIP: &str = "skip";

/// Maximum characters of a label that a message prints as an entry of a map.
const MAX_KEY: usize = 40;

/// Words for one expression: the adjective and the noun are used alike by published datasets. The
/// first seven are FER2013's classes, in its order.
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

/// Whether a word names one of the expressions that published datasets label, regardless of case.
pub fn is_expression(word: &str) -> bool {
    let word = normalized(word);
    SYNONYMS.iter().flat_map(|names| names.iter()).any(|name| *name == word)
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
    /// Whether the classes of FER2013 are in its order, so that a number has only one meaning.
    in_fer2013_order: bool,
    /// The targets of the labels `0` to `9`, which most files have.
    digits: [Option<LabelTarget>; 10],
    seen: Arc<Seen>,
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
        let in_fer2013_order = fer2013_order(classes) != Some(false);
        let mut map =
            Self { classes: classes.to_vec(), names, in_fer2013_order, digits: [None; 10], seen: Arc::default() };
        for number in 0..10 {
            let target = map.resolve_key(&number.to_string());
            if let Some(slot) = map.digits.get_mut(number) {
                *slot = target;
            }
        }
        map.seen = Arc::default();
        map
    }

    /// The class names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of a label; `None` if it has none.
    pub fn resolve(&self, text: &str) -> Option<LabelTarget> {
        match text.as_bytes() {
            [digit @ b'0'..=b'9'] => {
                let digit = usize::from(digit - b'0');
                self.seen.insert_digit(digit);
                self.digits.get(digit).copied().flatten()
            }
            _ => self.resolve_key(&normalized(text)),
        }
    }

    fn resolve_key(&self, key: &str) -> Option<LabelTarget> {
        if let Some((entry, class)) = self.entry_of(key) {
            self.seen.insert(entry);
            return self.target(class);
        }
        let Some(number) = number_of(key) else { return self.class_of_word(key) };
        match &self.names {
            LabelNames::Classes => self.position(number),
            LabelNames::List(list) => self.target(list.get(number)?),
            LabelNames::Table(_) if self.is_ambiguous(number) => None,
            LabelNames::Table(_) => self.class_of_word(CLASSES.get(number)?),
        }
    }

    /// The class at this position.
    fn position(&self, number: usize) -> Option<LabelTarget> {
        u8::try_from(number).ok().filter(|_| number < self.classes.len()).map(LabelTarget::Class)
    }

    /// The entry of the table that a label belongs to, and its class.
    fn entry_of(&self, key: &str) -> Option<(&str, &str)> {
        let LabelNames::Table(table) = &self.names else { return None };
        let listed = |key: &str| table.get_key_value(key).map(|(entry, class)| (entry.as_str(), class.as_str()));
        listed(key).or_else(|| match number_of(key) {
            Some(number) if self.is_ambiguous(number) => None,
            Some(number) => self.entry_of_word(CLASSES.get(number)?),
            None => self.entry_of_word(key),
        })
    }

    /// The entry of the table for a word or a synonym of it. A synonym that is another class is
    /// another label.
    fn entry_of_word(&self, word: &str) -> Option<(&str, &str)> {
        let LabelNames::Table(table) = &self.names else { return None };
        let is_same = |synonym: &str| match (self.class(synonym), self.class(word)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        let found = synonyms(word).filter(|synonym| is_same(synonym)).find_map(|synonym| table.get_key_value(synonym));
        found.map(|(entry, class)| (entry.as_str(), class.as_str()))
    }

    /// Whether a number that a table does not list is one class by FER2013's numbers and another by
    /// its position in `data.classes`.
    fn is_ambiguous(&self, number: usize) -> bool {
        let Some(by_position) = self.position(number).filter(|_| !self.in_fer2013_order) else { return false };
        let Some(word) = CLASSES.get(number) else { return true };
        let by_name = match self.entry_of_word(word) {
            Some((_, class)) => self.target(class),
            None => self.class_of_word(word),
        };
        by_name != Some(by_position)
    }

    /// The class whose name is a word in lower case, or a synonym of it.
    fn class_of_word(&self, word: &str) -> Option<LabelTarget> {
        synonyms(word).find_map(|synonym| self.class(synonym))
    }

    /// The labels of `data.labels` that no label so far belonged to; a misspelled one belongs here.
    pub fn unused(&self) -> Vec<String> {
        let LabelNames::Table(table) = &self.names else { return Vec::new() };
        let is_seen = |entry: &String| self.seen.contains(entry) || self.seen.digits(self).any(|seen| seen == entry);
        table.keys().filter(|entry| !is_seen(entry)).cloned().collect()
    }

    /// The target that a value of `data.labels` names.
    fn target(&self, class: &str) -> Option<LabelTarget> {
        if is_skip(class) { Some(LabelTarget::Skip) } else { self.class(&class.to_lowercase()) }
    }

    fn class(&self, lower_case: &str) -> Option<LabelTarget> {
        self.position(self.classes.iter().position(|class| class.to_lowercase() == lower_case)?)
    }

    /// Describes a label without a class: what was expected, and how to map it.
    pub fn describe_unknown(&self, text: &str, advice: Advice) -> String {
        let names = self.classes.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        let more = if self.classes.len() > 10 { ", ..." } else { "" };
        let numbers = match &self.names {
            LabelNames::Classes => format!("0..{}", self.classes.len().saturating_sub(1)),
            LabelNames::List(list) => format!("0..{}", list.len().saturating_sub(1)),
            LabelNames::Table(_) => format!("a label of {}", advice.label_map()),
        };
        let shown = short(text.trim(), 40);
        let problem = format!("unknown label {shown:?}; expected {numbers} or a class name ({names}{more})");
        let label = normalized(text);
        if label.is_empty() {
            return problem;
        }
        if let (LabelNames::Table(_), Some(number)) = (&self.names, number_of(&label))
            && let (true, Some(position)) = (self.is_ambiguous(number), self.classes.get(number))
        {
            let by_name = CLASSES.get(number).map_or_else(|| "no class".to_owned(), |name| format!("{name:?}"));
            let map = advice.label_map();
            return format!(
                "label {number} is {position:?} by its position in {classes}, and {by_name} in FER2013; list every \
                 number in {map}",
                classes = advice.classes()
            );
        }
        match self.action(&label, advice) {
            Some(action) => {
                format!("{problem}; to map it, {action}, with a class name, or skip to leave such rows out")
            }
            None => format!("{problem}; rename it in the file"),
        }
    }

    /// How to map an unknown label; `None` if it cannot be written as an entry.
    fn action(&self, label: &str, advice: Advice) -> Option<String> {
        if label.chars().count() > MAX_KEY || label.chars().any(char::is_control) {
            return None;
        }
        // TOML's own quoting of keys.
        let entry = toml::to_string(&BTreeMap::from([(label, "CLASS")])).ok()?;
        let entry = entry.trim();
        Some(match (advice, &self.names) {
            (Advice::CommandLine, _) if label.contains([',', '=']) => return None,
            (Advice::CommandLine, _) => {
                format!("add --label-map {}", shlex::try_quote(&format!("{label}=CLASS")).ok()?)
            }
            (Advice::Config, LabelNames::Classes) => format!("set data.labels = {{ {entry} }}"),
            (Advice::Config, LabelNames::Table(_)) => format!("add {entry} to data.labels"),
            (Advice::Config, LabelNames::List(_)) => "add its class to the list data.labels".to_owned(),
        })
    }
}

/// The labels that were resolved, by several threads.
#[derive(Debug, Default)]
struct Seen {
    digits: [AtomicBool; 10],
    /// Entries of the table.
    entries: Mutex<BTreeSet<String>>,
}

impl Seen {
    fn insert(&self, entry: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains(entry) {
            entries.insert(entry.to_owned());
        }
    }

    fn insert_digit(&self, digit: usize) {
        if let Some(seen) = self.digits.get(digit).filter(|seen| !seen.load(Ordering::Relaxed)) {
            seen.store(true, Ordering::Relaxed);
        }
    }

    fn contains(&self, entry: &str) -> bool {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).contains(entry)
    }

    /// The entries of `map` that the digits belong to.
    fn digits<'a>(&'a self, map: &'a LabelMap) -> impl Iterator<Item = &'a str> {
        let seen = self.digits.iter().enumerate().filter(|(_, seen)| seen.load(Ordering::Relaxed));
        seen.filter_map(|(digit, _)| map.entry_of(&digit.to_string()).map(|(entry, _)| entry))
    }
}

/// The number that a normalized label is.
fn number_of(key: &str) -> Option<usize> {
    key.bytes().all(|byte| byte.is_ascii_digit()).then(|| key.parse().ok()).flatten()
}

/// A word in lower case, and then its synonyms.
fn synonyms(word: &str) -> impl Iterator<Item = &str> {
    let group = SYNONYMS.iter().find(|group| group.contains(&word)).copied().unwrap_or_default();
    std::iter::once(word).chain(group.iter().copied().filter(move |synonym| *synonym != word))
}

/// Whether a value of `data.labels` leaves rows out instead of naming a class.
fn is_skip(class: &str) -> bool {
    class.eq_ignore_ascii_case(SKIP)
}

/// Whether the classes that FER2013 has too are in its order; `None` if there is none.
fn fer2013_order(classes: &[String]) -> Option<bool> {
    let position = |class: &String| {
        let group = SYNONYMS.iter().position(|group| group.contains(&class.to_lowercase().as_str()))?;
        (group < CLASSES.len()).then_some(group)
    };
    let positions: Vec<usize> = classes.iter().filter_map(position).collect();
    (!positions.is_empty()).then(|| positions.is_sorted())
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

#[cfg(test)]
mod tests;
