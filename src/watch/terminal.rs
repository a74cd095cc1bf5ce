//! The dashboard's loop: reads files, draws, and follows keys, until the user or a signal ends it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::screen::{Theme, draw};
use super::source::{Watched, look};
use super::sweep_panel::Selection;
use crate::util::error::Outcome;
use crate::util::signals::Signals;

/// Time between two looks at the files; a multiple of the time that a look takes, if that is more.
const INTERVAL: Duration = Duration::from_secs(1);
const SLOW: u32 = 5;

/// Longest time until a signal is noticed.
const TICK: Duration = Duration::from_millis(200);

/// Whether there is a terminal to draw on.
pub fn has_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Restores the terminal when the loop ends in any way; ratatui's panic hook does so before the
/// message of a panic is printed.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows what is at `path` until q, Esc or Ctrl-C is pressed.
///
/// # Errors
/// An input error for a file; an error of the terminal.
pub fn watch(path: &Path) -> Result<Outcome> {
    let mut watched = look(path)?;
    let signals = Signals::watch()?;
    signals.defer();
    // Before the terminal is changed: half a change is undone too.
    let _restore = Restore;
    let mut terminal =
        ratatui::try_init().context("cannot draw on this terminal; grimace watch --once prints plain text")?;
    let theme = Theme::from_environment();
    let mut selection = Selection::default();
    let mut problem: Option<String> = None;
    let mut next_look = Instant::now() + INTERVAL;
    loop {
        if let Some(signal) = signals.received() {
            return Ok(Outcome::Interrupted(signal));
        }
        if Instant::now() >= next_look {
            let began = Instant::now();
            // A file system may be away for a moment.
            match look(path) {
                Ok(found) => (watched, problem) = (found, None),
                Err(error) => problem = Some(format!("{error:#}")),
            }
            next_look = Instant::now() + INTERVAL.max(began.elapsed() * SLOW);
        }
        let now = SystemTime::now();
        terminal
            .draw(|frame| draw(frame, &watched, selection, theme, now, problem.as_deref()))
            .context("cannot draw on the terminal")?;
        if !event::poll(TICK).context("cannot read the keyboard")? {
            continue;
        }
        if let Event::Key(key) = event::read().context("cannot read the keyboard")?
            && follow(key, &watched, &mut selection)
        {
            return Ok(Outcome::Done);
        }
    }
}

/// Follows a key; whether it ends the dashboard.
fn follow(key: KeyEvent, watched: &Watched, selection: &mut Selection) -> bool {
    if key.kind == KeyEventKind::Release {
        return false;
    }
    let by = match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -10,
        KeyCode::PageDown => 10,
        _ => 0,
    };
    if let Watched::Sweep(sweep) = watched
        && by != 0
    {
        selection.shift(by, sweep);
    }
    false
}
