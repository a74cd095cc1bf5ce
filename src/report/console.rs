//! Progress and log: a bar for each epoch on a terminal, plain lines elsewhere, and the same lines in `log.txt`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fs_err as fs;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table::thousands;
use crate::data::dataset::Dataset;
use crate::util::files::check_output_file;
use crate::util::text::escaped;

/// Writes to stderr and, once [`log_to`](Console::log_to) was called, to a log file too.
#[derive(Debug)]
pub struct Console {
    log: Option<fs::File>,
    bar: Option<ProgressBar>,
    terminal: bool,
    /// Stands before every line on stderr.
    label: String,
}

impl Default for Console {
    fn default() -> Self {
        Self { log: None, bar: None, terminal: std::io::stderr().is_terminal(), label: String::new() }
    }
}

impl Console {
    /// Puts `[label]` before every further line on stderr, where several runs write theirs.
    pub fn label(&mut self, label: &str) {
        self.label = format!("[{label}] ");
    }

    /// Appends every further line to the file at `path` as well.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn log_to(&mut self, path: &Path) -> Result<()> {
        // A pipe would block until somebody reads it.
        check_output_file(path)?;
        self.log = Some(fs::OpenOptions::new().create(true).append(true).open(path)?);
        Ok(())
    }

    /// One line.
    ///
    /// # Errors
    /// When the log cannot be written; a closed stderr is no reason to stop a training.
    pub fn line(&mut self, text: &str) -> Result<()> {
        let shown = format!("{}{}", self.label, escaped(text));
        match &self.bar {
            Some(bar) => bar.suspend(|| eprint_line(&shown)),
            None => eprint_line(&shown),
        }
        self.log_line(text)
    }

    /// Says what was read from `file`.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn announce(&mut self, file: &Path, data: &Dataset) -> Result<()> {
        let (train, validation) = (thousands(data.train.len()), thousands(data.validation.len()));
        let (file, time) = (file.display(), duration(data.load_time));
        self.line(&format!("data: {file}: {train} training and {validation} validation faces, read in {time}"))?;
        data.notes.iter().try_for_each(|note| self.line(&format!("data: {note}")))
    }

    /// One line for the log alone.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn log_line(&mut self, text: &str) -> Result<()> {
        if let Some(log) = &mut self.log {
            writeln!(log, "{}", escaped(text))?;
        }
        Ok(())
    }

    /// Begins a bar of `steps`, at `done`; does nothing when stderr is no terminal.
    pub fn begin(&mut self, title: &str, steps: u64, done: u64) {
        if !self.terminal {
            return;
        }
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos:>4}/{len}  {msg}  {eta} left");
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(5));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(title.to_owned());
        bar.set_position(done);
        bar.reset_eta();
        self.bar = Some(bar);
    }

    /// Moves the bar; `message` is made only when there is one to show.
    pub fn advance(&self, done: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
        }
    }

    /// Ends the bar without a trace.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn eprint_line(text: &str) {
    // A reader that went away (a closed pipe) must not end a training; println! would panic.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Seconds as people read them; a hostile file may claim any number.
pub fn seconds(time: f64) -> String {
    Duration::try_from_secs_f64(time).map_or_else(|_| format!("{time} s"), duration)
}

/// A time as people read it: `45 s`, `12 min 30 s`, `2 h 05 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
