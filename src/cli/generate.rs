//! `grimace generate`

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory as _, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::Cli;
use super::common::{print, print_json};
use crate::reference::{ConfigKind, cli_page, config_names, config_schema, config_text, configuration_page, man_pages};
use crate::util::error::Outcome;
use crate::util::files::{Output, OutputRules};

/// What to generate.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Print a config, to edit and train with
    #[command(after_help = "Example:\n  grimace generate config notebook > notebook.toml")]
    Config(ConfigArgs),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  grimace generate completions zsh > ~/.zfunc/_grimace\n  source <(grimace generate completions bash)"
    )]
    Completions(CompletionsArgs),
    /// Write a manual page for each command
    #[command(after_help = "Example:\n  grimace generate man --out ~/.local/share/man/man1")]
    Man(ManArgs),
    /// Print the JSON Schema of a config, for editors
    #[command(
        after_help = "Example:\n  grimace generate schema > train.schema.json\n\nThe first line of a config names it: #:schema train.schema.json"
    )]
    Schema(SchemaArgs),
    /// Print a page of the reference in docs/
    #[command(after_help = "Example:\n  grimace generate page configuration > docs/configuration.md")]
    Page(PageArgs),
}

/// `grimace generate config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Its name in configs/
    #[arg(value_parser = PossibleValuesParser::new(config_names()))]
    pub name: String,
}

/// `grimace generate completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `grimace generate man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Output folder, created if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
}

/// `grimace generate schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// The kind of config
    #[arg(default_value = "train")]
    pub config: ConfigKind,
}

/// `grimace generate page`
#[derive(Debug, Args)]
pub struct PageArgs {
    /// The page
    pub page: Page,
}

/// Pages of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// docs/configuration.md: every key of a config
    Configuration,
    /// docs/cli.md: every command
    Cli,
}

pub fn run(what: &Generate) -> Result<Outcome> {
    match what {
        Generate::Config(args) => print(config_text(&args.name).unwrap_or_default())?,
        Generate::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "grimace", &mut script);
            print(&String::from_utf8_lossy(&script))?;
        }
        Generate::Man(args) => {
            fs_err::create_dir_all(&args.out)?;
            let rules = OutputRules { force: args.force, ..OutputRules::default() };
            let pages = man_pages(&Cli::command())?.into_iter();
            let checked = pages.map(|(name, page)| Ok((Output::check(&args.out.join(name), rules)?, page)));
            for (output, page) in checked.collect::<Result<Vec<_>>>()? {
                output.write(&page)?;
            }
        }
        Generate::Schema(args) => print_json(&config_schema(args.config))?,
        Generate::Page(args) => print(&match args.page {
            Page::Configuration => configuration_page(),
            Page::Cli => cli_page(&Cli::command()),
        })?,
    }
    Ok(Outcome::Done)
}
