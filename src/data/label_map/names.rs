//! `data.labels` and `--label-map`: the entries of a map of labels.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::{CLASSES, fer2013_order, is_skip, normalized};
use crate::data::advice::Advice;
use crate::util::text::short;
use crate::util::validate::{InvalidValue, require};

/// Maximum number of entries.
const MAX_ENTRIES: usize = 1000;

/// `data.labels`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LabelNames {
    /// Not set: numbers are positions in `data.classes`.
    #[default]
    Classes,
    /// The class of each number, from 0; `skip` leaves its rows out.
    List(Vec<String>),
    /// The class of each label; labels that are not listed and are a class's name stay. Numbers
    /// that are not listed have FER2013's names, unless `data.classes` has these in another order.
    Table(BTreeMap<String, String>),
}

impl LabelNames {
    /// Whether `data.labels` is not set.
    pub fn is_classes(&self) -> bool {
        *self == Self::Classes
    }

    /// The labels of a table, as they are compared.
    pub fn labels(&self) -> Vec<String> {
        match self {
            Self::Table(table) => table.keys().map(|label| normalized(label)).collect(),
            Self::Classes | Self::List(_) => Vec::new(),
        }
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
            if label.trim().is_empty() {
                return Err(format!("{:?} has an empty label; expected LABEL=CLASS", short(entry, 40)));
            }
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
        let mut named: Vec<String> = self.targets().filter(|class| !is_skip(class)).cloned().collect();
        if named.iter().all(|class| known.contains(&class.to_lowercase())) {
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

    /// Checks that every label goes to one of `classes` or is skipped, and to one only. `advice` says
    /// whether messages name `data.labels` or `--label-map`.
    ///
    /// # Errors
    /// The first entry that does not.
    pub fn check(&self, classes: &[String], advice: Advice) -> Result<(), InvalidValue> {
        let count = self.targets().count();
        let set = !self.is_classes();
        let name = advice.label_map();
        require(!set || (1..=MAX_ENTRIES).contains(&count), name, count, "1 to 1000 entries")?;
        let taken = classes.iter().any(|class| is_skip(class));
        let reserved = format!("distinct names other than \"skip\", which {name} uses to leave rows out");
        require(!set || !taken, advice.classes(), format!("{classes:?}"), &reserved)?;
        let names: Vec<String> = classes.iter().take(20).map(|class| format!("{class:?}")).collect();
        let allowed = format!("one of the classes ({}), or \"skip\" to leave its rows out", names.join(", "));
        let lower: Vec<String> = classes.iter().map(|class| class.to_lowercase()).collect();
        let is_allowed = |class: &String| is_skip(class) || lower.contains(&class.to_lowercase());
        let entry = |label: &str| match advice {
            Advice::Config => format!("{name}.{}", short(label, 40)),
            Advice::CommandLine => format!("{name} {}", short(label, 40)),
        };
        match self {
            Self::Classes => Ok(()),
            Self::List(list) => list.iter().enumerate().try_for_each(|(number, class)| {
                require(is_allowed(class), &format!("{name}[{number}]"), format!("{class:?}"), &allowed)
            }),
            Self::Table(table) => {
                let mut seen = BTreeMap::new();
                table.iter().try_for_each(|(label, class)| {
                    require(is_allowed(class), &entry(label), format!("{class:?}"), &allowed)?;
                    let other = seen.insert(normalized(label), label);
                    let once = "each label once, regardless of case";
                    require(other.is_none(), &entry(label), format!("{class:?}"), once)
                })
            }
        }
    }

    /// This map with the entries of `over` added, which win: a `--label-map` is added to the map of
    /// the run. Numbers that neither lists keep the meaning that they have in this map.
    pub fn with(&self, over: &Self, classes: &[String]) -> Self {
        let Self::Table(entries) = over else {
            return if over.is_classes() { self.clone() } else { over.clone() };
        };
        let numbered = |names: &[String], from: usize| -> BTreeMap<String, String> {
            names.iter().enumerate().skip(from).map(|(number, class)| (number.to_string(), class.clone())).collect()
        };
        let mut table = match self {
            // FER2013's numbers have FER2013's names in a table.
            Self::Classes if fer2013_order(classes) == Some(true) => numbered(classes, CLASSES.len()),
            Self::Classes => numbered(classes, 0),
            Self::List(list) => numbered(list, 0),
            Self::Table(table) => table.iter().map(|(label, class)| (normalized(label), class.clone())).collect(),
        };
        table.extend(entries.iter().map(|(label, class)| (normalized(label), class.clone())));
        Self::Table(table)
    }
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

impl schemars::JsonSchema for LabelNames {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LabelNames".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "minProperties": 1,
                    "maxProperties": MAX_ENTRIES,
                    "description": "the class of each label, or \"skip\"",
                },
                {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "maxItems": MAX_ENTRIES,
                    "description": "the class of each number, from 0, or \"skip\"",
                },
            ]
        })
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
