//! Advice in errors about data: it names only options that the command at hand has.

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

    /// Where the classes come from.
    pub fn classes(self) -> &'static str {
        match self {
            Self::Config => "data.classes",
            Self::CommandLine => "the classes",
        }
    }

    /// How to skip rows that cannot be read.
    pub fn skip_bad_rows(self) -> &'static str {
        match self {
            Self::Config => "set data.on_bad_row = \"skip\" to skip such rows",
            Self::CommandLine => "add --on-bad-row skip to skip such rows",
        }
    }
}
