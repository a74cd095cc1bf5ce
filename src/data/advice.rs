//! Advice in errors about data: it names only options that the command at hand has.

use crate::util::text::short;

/// How advice names an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Advice {
    /// As keys of a config: `data.on_bad_row`, `data.labels`.
    #[default]
    Config,
    /// As options of a command: `--on-bad-row`, `--label-map`.
    CommandLine,
}

impl Advice {
    /// The name of the option with the class of each label.
    pub fn label_map(self) -> &'static str {
        match self {
            Self::Config => "data.labels",
            Self::CommandLine => "--label-map",
        }
    }

    /// What leaves rows out, in a note: with a command, the run's `data.labels` or `--label-map`.
    pub fn label_rule(self) -> &'static str {
        match self {
            Self::Config => "data.labels",
            Self::CommandLine => "the label map",
        }
    }

    /// A note about labels of the map that no row has; a misspelled one belongs here.
    pub fn unused_labels(self, labels: &[String]) -> Option<String> {
        let shown: Vec<String> = labels.iter().take(10).map(|label| format!("{:?}", short(label, 40))).collect();
        let more = if labels.len() > shown.len() { ", ..." } else { "" };
        (!shown.is_empty()).then(|| format!("{}: no row has the label {}{more}", self.label_map(), shown.join(" or ")))
    }

    /// Where the classes come from.
    pub fn classes(self) -> &'static str {
        match self {
            Self::Config => "data.classes",
            Self::CommandLine => "the classes",
        }
    }

    /// The option that skips rows that cannot be read.
    pub fn skip_bad_rows(self) -> &'static str {
        match self {
            Self::Config => "set data.on_bad_row = \"skip\"",
            Self::CommandLine => "add --on-bad-row skip",
        }
    }
}
