//! Progress and log lines: a progress bar on a terminal, plain lines on stderr and in `log.txt`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fs_err as fs;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::data::dataset::Dataset;
use crate::util::files::check_output_file;
use crate::util::text::escaped;

/// Writes to stderr and, once [`log_to`](Console::log_to) was called, to a log file too.
#[derive(Debug)]
pub struct Console {
    log: Option<fs::File>,
    bar: Option<ProgressBar>,
    terminal: bool,
    /// Prefix of every line on stderr.
    label: String,
    /// Whether nothing is written to stderr.
    silent: bool,
}

impl Default for Console {
    fn default() -> Self {
        Self { log: None, bar: None, terminal: std::io::stderr().is_terminal(), label: String::new(), silent: false }
    }
}

impl Console {
    /// A console that writes nothing to stderr.
    pub fn silent() -> Self {
        Self { terminal: false, silent: true, ..Self::default() }
    }

    /// Prefixes every further line on stderr with `[label]`, for several runs that share a
    /// terminal.
    pub fn label(&mut self, label: &str) {
        self.label = format!("[{label}] ");
    }

    /// Appends every further line to the file at `path` too.
    pub fn log_to(&mut self, path: &Path) -> Result<()> {
        // A pipe would block until it is read.
        check_output_file(path)?;
        self.log = Some(fs::OpenOptions::new().create(true).append(true).open(path)?);
        Ok(())
    }

    /// Writes one line to stderr and to the log.
    ///
    /// # Errors
    /// When the log cannot be written; errors of stderr are ignored.
    pub fn line(&mut self, text: &str) -> Result<()> {
        let shown = format!("{}{}", self.label, escaped(text));
        match &self.bar {
            Some(bar) => bar.suspend(|| eprint_line(&shown)),
            None if self.silent => {}
            None => eprint_line(&shown),
        }
        self.log_line(text)
    }

    /// Writes the size of a dataset that was read from `file`.
    pub fn announce(&mut self, file: &Path, data: &Dataset) -> Result<()> {
        let [train, validation] = [&data.train, &data.validation].map(|images| HumanCount(images.len() as u64));
        let (file, time) = (file.display(), duration(data.load_time));
        self.line(&format!("data: {file}: {train} training and {validation} validation images, read in {time}"))?;
        data.notes.iter().try_for_each(|note| self.line(&format!("data: {note}")))
    }

    /// Writes one line to the log only.
    pub fn log_line(&mut self, text: &str) -> Result<()> {
        if let Some(log) = &mut self.log {
            writeln!(log, "{}", escaped(text))?;
        }
        Ok(())
    }

    /// Starts a progress bar of `steps`, at `done`; does nothing when stderr is not a terminal.
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

    /// Advances the bar; `message` is called only when there is a bar.
    pub fn advance(&self, done: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
        }
    }

    /// Removes the bar.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn eprint_line(text: &str) {
    // A closed pipe must not end a training; eprintln! would panic.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Formats seconds like [`duration`]; numbers that are no duration as they are.
pub fn seconds(time: f64) -> String {
    Duration::try_from_secs_f64(time).map_or_else(|_| format!("{time} s"), duration)
}

/// Formats a duration: `4.5 s`, `12 min 30 s`, `2 h 05 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
