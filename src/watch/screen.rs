//! The screen of the dashboard, from what is watched.

use std::time::SystemTime;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use super::charts::draw_charts;
use super::run_status::{RunState, RunStatus};
use super::source::Watched;
use super::sweep_panel::{Selection, draw_sweep};
use crate::metrics::Monitor;
use crate::report::seconds;
use crate::report::text_table::thousands;
use crate::util::text::escaped;

/// Rows of a chart that shows anything.
const MIN_CHART: u16 = 7;
/// Rows of the lines about a run.
const FACTS: u16 = 5;

/// Colors, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// Whether there are colors.
    pub color: bool,
}

impl Theme {
    /// Colors unless `NO_COLOR` is set to anything (no-color.org).
    pub fn from_environment() -> Self {
        Self { color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// A color, if there are any.
    pub fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    /// What stands out.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What stands back: by its color alone.
    pub fn faint(self) -> Style {
        self.colored(Color::DarkGray)
    }

    /// A state.
    pub fn state(self, state: &RunState) -> Style {
        match state {
            RunState::Training => self.colored(Color::Cyan).add_modifier(Modifier::BOLD),
            RunState::Ended(reason) if reason == "diverged" => self.colored(Color::Red),
            RunState::Ended(_) => self.colored(Color::Green),
            RunState::Died | RunState::Failed(_) => self.colored(Color::Red),
            RunState::Waiting => self.faint(),
        }
    }
}

/// Draws the whole screen. `problem` is an error of the last look at the files.
pub fn draw(
    frame: &mut Frame<'_>,
    watched: &Watched,
    selection: Selection,
    theme: Theme,
    now: SystemTime,
    problem: Option<&str>,
) {
    let [body, footer] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    match watched {
        Watched::Nothing { path } => {
            let path = escaped(&path.display().to_string());
            let text = format!("{path}: no run yet. Waiting for one ...");
            frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), body);
        }
        Watched::Run(run) => draw_run(frame, body, run, theme, now),
        Watched::Sweep(sweep) => draw_sweep(frame, body, sweep, selection, theme, now),
    }
    let keys = if matches!(watched, Watched::Sweep(_)) { "up/down: select a run   q: quit" } else { "q: quit" };
    let footer_line = match problem {
        Some(problem) => Line::styled(escaped(problem), theme.colored(Color::Red)),
        None => Line::styled(keys, theme.faint()),
    };
    frame.render_widget(footer_line, footer);
}

fn draw_run(frame: &mut Frame<'_>, area: Rect, run: &RunStatus, theme: Theme, now: SystemTime) {
    let spare = area.height.saturating_sub(1 + FACTS);
    // A third of what is left for the epochs, at least their header and two of them.
    let epochs = if spare >= MIN_CHART + 3 && !run.records.is_empty() { (spare / 3).clamp(3, 14) } else { 0 };
    let [title, facts, charts, table] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(FACTS),
        Constraint::Fill(1),
        Constraint::Length(epochs),
    ])
    .areas(area);
    draw_title(frame, title, &escaped(&run.path.display().to_string()), &escaped(&run.name), &run.state, theme);
    draw_facts(frame, facts, run, theme, now);
    draw_curves(frame, charts, run, theme);
    draw_epochs(frame, table, run, theme);
}

/// Path and name at the left, the state at the right.
pub fn draw_title(frame: &mut Frame<'_>, area: Rect, path: &str, name: &str, state: &RunState, theme: Theme) {
    let state_text = state.describe();
    let width = u16::try_from(state_text.chars().count()).unwrap_or(u16::MAX).saturating_add(1);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    let same = path.ends_with(name);
    let name = if same { String::new() } else { format!("  {name}") };
    frame.render_widget(Line::from(vec![Span::styled(path, theme.strong()), Span::raw(name)]), left);
    frame.render_widget(Line::styled(state_text, theme.state(state)).right_aligned(), right);
}

/// The charts, or why there are none.
pub fn draw_curves(frame: &mut Frame<'_>, area: Rect, run: &RunStatus, theme: Theme) {
    if area.height < MIN_CHART || area.width < 40 {
        return;
    }
    if !run.records.is_empty() {
        draw_charts(frame, area, run, theme);
        return;
    }
    let text = match &run.state {
        RunState::Failed(error) => escaped(error),
        _ if run.is_forest => "A forest has no epochs, so it has no curves.".to_owned(),
        RunState::Waiting => "This run has not started.".to_owned(),
        RunState::Training => "The first epoch has not ended yet.".to_owned(),
        RunState::Ended(_) | RunState::Died => "No epoch was finished.".to_owned(),
    };
    let [_, middle] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), middle);
}

/// A bar of `width` characters that needs no color.
pub fn bar(fraction: f64, width: usize) -> String {
    let filled = ((fraction.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    "█".repeat(filled) + &"░".repeat(width - filled)
}

fn draw_facts(frame: &mut Frame<'_>, area: Rect, run: &RunStatus, theme: Theme, now: SystemTime) {
    let label = |text: &'static str| Span::styled(format!("{text:<9}"), theme.faint());
    let mut lines = Vec::new();
    let done = run.records.len();
    if !run.is_forest {
        let epochs = run.max_epochs.map_or(format!("{done}"), |all| format!("{done} of {all}"));
        let mut spans = vec![label("epochs"), Span::raw(format!("{epochs:<14}"))];
        if let Some(progress) = run.progress(now) {
            let width = usize::from(area.width).saturating_sub(34).min(60);
            spans.push(Span::styled(bar(progress, width), theme.colored(Color::Cyan)));
            spans.push(Span::raw(format!(" {:>3.0}%", 100.0 * progress)));
        }
        lines.push(Line::from(spans));
    }
    for (name, text) in facts(run, now) {
        lines.push(Line::from(vec![label(name), Span::raw(text)]));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Name and text of the lines about a run, below its progress.
pub fn facts(run: &RunStatus, now: SystemTime) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let best = run.describe_best().unwrap_or_else(|| "-".to_owned());
    match run.best() {
        Some(record) => {
            let by = match run.monitor {
                Monitor::ValAccuracy => String::new(),
                Monitor::LastEpoch => ", the last".to_owned(),
                monitor => format!(" by {monitor}"),
            };
            let name = if run.monitor.selects() { "best" } else { "kept" };
            facts.push((name, format!("val_acc {best} in epoch {}{by}", record.epoch)));
        }
        None => facts.extend(run.forest_accuracy.map(|_| ("best", format!("val_acc {best}")))),
    }
    if let Some(last) = run.records.last() {
        facts.push((
            "last",
            format!(
                "val_acc {:.4}  val_loss {:.4}  acc {:.4}  loss {:.4}  lr {:.2e}",
                last.val_accuracy, last.val_loss, last.accuracy, last.loss, last.lr
            ),
        ));
    }
    let device = run.device.as_ref().map_or(String::new(), |device| format!("   {}", escaped(device)));
    if let Some((last, middle)) = run.speed() {
        let number = |speed: f64| if speed.is_finite() { thousands(speed as usize) } else { "-".to_owned() };
        facts.push(("speed", format!("{} images/s, median {}{device}", number(last), number(middle))));
    }
    facts.push(("time", describe_time(run, now)));
    facts
}

/// Elapsed and left, and what early stopping may cut short.
fn describe_time(run: &RunStatus, now: SystemTime) -> String {
    let elapsed = seconds(run.elapsed(now));
    if run.state != RunState::Training {
        return elapsed;
    }
    let left = run.seconds_left(now).map_or("time left is known after an epoch".to_owned(), |left| {
        format!("{} left{}", seconds(left), if run.patience > 0 { " at most" } else { "" })
    });
    let without = run.epochs_without_improvement().filter(|_| run.patience > 0);
    let patience = without.map_or(String::new(), |epochs| format!("   patience {epochs} of {}", run.patience));
    format!("{elapsed}   {left}{patience}")
}

/// The last epochs, newest first.
fn draw_epochs(frame: &mut Frame<'_>, area: Rect, run: &RunStatus, theme: Theme) {
    let best = run.best().filter(|_| run.monitor.selects()).map(|best| best.epoch);
    let header = ["epoch", "loss", "acc", "val_loss", "val_acc", "lr", "images/s", "time"];
    let rows = run.records.iter().rev().take(usize::from(area.height)).map(|record| {
        let mark = if Some(record.epoch) == best { " *" } else { "" };
        let cells = [
            format!("{}{mark}", record.epoch),
            format!("{:.4}", record.loss),
            format!("{:.4}", record.accuracy),
            format!("{:.4}", record.val_loss),
            format!("{:.4}", record.val_accuracy),
            format!("{:.2e}", record.lr),
            format!("{:.0}", record.images_per_second),
            seconds(record.seconds),
        ];
        let style = if mark.is_empty() { Style::new() } else { theme.strong() };
        Row::new(cells).style(style)
    });
    let widths = [7, 8, 8, 8, 8, 9, 9, 12].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(Row::new(header).style(theme.faint())), area);
}
