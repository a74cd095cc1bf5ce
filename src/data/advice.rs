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
    /// How to skip rows that cannot be read.
    pub fn skip_bad_rows(self) -> &'static str {
        match self {
            Self::Config => "set data.on_bad_row = \"skip\" to skip such rows",
            Self::CommandLine => "add --on-bad-row skip to skip such rows",
        }
    }
}
