//! `data.labels`: which class a label of a file belongs to.
//!
//! A label in a file is a class number, such as `3` or `3.0`, or a word, such as `happy`. Without
//! `data.labels`, numbers are positions in `data.classes`, and words are class names.

mod names;

use std::collections::BTreeMap;

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
        let mut map = Self { classes: classes.to_vec(), names, in_fer2013_order, digits: [None; 10] };
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
                LabelNames::Table(_) if self.is_ambiguous(number) => None,
                LabelNames::Table(_) => self.resolve_word(CLASSES.get(number)?),
            };
        }
        self.resolve_word(key)
    }

    /// Whether a number that a table does not list is one class by FER2013's numbers and another by
    /// its position in `data.classes`.
    fn is_ambiguous(&self, number: usize) -> bool {
        let by_position = (number < self.classes.len()).then(|| u8::try_from(number).ok().map(LabelTarget::Class));
        let by_name = CLASSES.get(number).and_then(|word| self.resolve_word(word));
        !self.in_fer2013_order && by_position.is_some_and(|class| class != by_name)
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
        let label = normalized(text);
        if label.is_empty() {
            return problem;
        }
        if let (LabelNames::Table(_), Ok(number)) = (&self.names, label.parse::<usize>())
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
