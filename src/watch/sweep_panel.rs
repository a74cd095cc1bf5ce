//! The screen of a sweep: its runs, and the curves of the selected one.

use std::time::SystemTime;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::run_status::{RunState, RunStatus};
use super::screen::{Theme, bar, draw_curves};
use super::source::SweepStatus;
use crate::metrics::{accuracy_cell, accuracy_interval};
use crate::report::seconds;
use crate::report::text_table::thousands;
use crate::util::text::escaped;

/// Rows of the curves, at least.
const MIN_CURVES: u16 = 8;

/// The selected run of a sweep: the first that trains, until the user chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    chosen: Option<usize>,
}

impl Selection {
    /// The position of the selected run.
    pub fn position(self, sweep: &SweepStatus) -> usize {
        let training = || sweep.runs.iter().position(|run| run.state == RunState::Training);
        let last_ended = || sweep.runs.iter().rposition(|run| !run.records.is_empty());
        let position = self.chosen.or_else(training).or_else(last_ended).unwrap_or(0);
        position.min(sweep.runs.len().saturating_sub(1))
    }

    /// Selects another run, `by` rows further.
    pub fn shift(&mut self, by: isize, sweep: &SweepStatus) {
        let position = self.position(sweep).saturating_add_signed(by);
        self.chosen = Some(position.min(sweep.runs.len().saturating_sub(1)));
    }
}

/// Draws a sweep.
pub fn draw_sweep(
    frame: &mut Frame<'_>,
    area: Rect,
    sweep: &SweepStatus,
    selection: Selection,
    theme: Theme,
    now: SystemTime,
) {
    let rows = u16::try_from(sweep.runs.len()).unwrap_or(u16::MAX).saturating_add(1);
    let spare = area.height.saturating_sub(3);
    let curves = if spare >= MIN_CURVES + 4 { spare.saturating_sub(rows).clamp(MIN_CURVES, spare * 2 / 3) } else { 0 };
    let [head, table, title, below] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(u16::from(curves > 0)),
        Constraint::Length(curves),
    ])
    .areas(area);
    draw_head(frame, head, sweep, theme, now);
    let selected = selection.position(sweep);
    draw_table(frame, table, sweep, selected, theme, now);
    if let Some(run) = sweep.runs.get(selected) {
        frame.render_widget(Line::styled(format!("{}:", escaped(&run.name)), theme.strong()), title);
        draw_curves(frame, below, run, theme);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, sweep: &SweepStatus, theme: Theme, now: SystemTime) {
    let path = escaped(&sweep.path.display().to_string());
    let progress = sweep.progress(now);
    let width = usize::from(area.width).saturating_sub(34).min(60);
    let left = sweep.seconds_left(now).map_or(String::new(), |left| format!("   {} left at most", seconds(left)));
    let lines = vec![
        Line::from(vec![Span::styled(path, theme.strong()), Span::raw(format!("   {}", describe_counts(sweep)))]),
        Line::from(vec![
            Span::styled(bar(progress, width), theme.colored(Color::Cyan)),
            Span::raw(format!(" {:>3.0}%{left}", 100.0 * progress)),
        ]),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

/// Such as `3 of 25 runs done, 1 training, 1 failed`.
pub fn describe_counts(sweep: &SweepStatus) -> String {
    let done = sweep.count(|state| matches!(state, RunState::Ended(_)));
    let mut text = format!("{done} of {} runs done", sweep.runs.len());
    let others = [
        ("training", sweep.count(|state| *state == RunState::Training)),
        ("failed", sweep.count(|state| matches!(state, RunState::Failed(_)))),
        ("died", sweep.count(|state| *state == RunState::Died)),
    ];
    for (name, count) in others {
        if count > 0 {
            text += &format!(", {count} {name}");
        }
    }
    text
}

/// Header of [`cells`].
pub const HEADER: [&str; 6] = ["run", "state", "epochs", "best val_acc (95% CI)", "images/s", "left"];

/// Name, state, epochs, best accuracy, speed and time left of a run.
pub fn cells(run: &RunStatus, now: SystemTime) -> [String; 6] {
    let accuracy = run.best_accuracy();
    let interval = accuracy.zip(run.validation_rows).and_then(|(accuracy, rows)| accuracy_interval(accuracy, rows));
    let done = run.records.len();
    let speed = run.speed().map(|(_, median)| median).filter(|speed| speed.is_finite());
    [
        escaped(&run.name),
        run.state.describe().to_owned(),
        run.max_epochs.map_or(format!("{done}"), |all| format!("{done}/{all}")),
        accuracy_cell(accuracy, interval),
        speed.map_or("-".to_owned(), |speed| thousands(speed as usize)),
        run.seconds_left(now).map_or("-".to_owned(), seconds),
    ]
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, sweep: &SweepStatus, selected: usize, theme: Theme, now: SystemTime) {
    // The names of runs need the room more than their speed does.
    let is_wide = area.width >= 100;
    // Only the rows that can be seen: a sweep may have many runs.
    let height = usize::from(area.height).saturating_sub(1).max(1);
    let first = selected.saturating_sub(height.saturating_sub(1) / 2).min(sweep.runs.len().saturating_sub(height));
    let rows = sweep.runs.iter().skip(first).take(height).map(|run| {
        let [name, state, epochs, best, speed, left] = cells(run, now);
        let state = Cell::from(Span::styled(state, theme.state(&run.state)));
        let speed = is_wide.then(|| Cell::from(speed));
        let first = [Cell::from(name), state, Cell::from(epochs), Cell::from(best)];
        Row::new(first.into_iter().chain(speed).chain([Cell::from(left)]))
    });
    let widths = [
        Some(Constraint::Fill(1)),
        Some(Constraint::Length(11)),
        Some(Constraint::Length(7)),
        Some(Constraint::Length(25)),
        is_wide.then_some(Constraint::Length(9)),
        Some(Constraint::Length(12)),
    ];
    let columns = || HEADER.into_iter().zip(widths);
    let header = columns().filter_map(|(name, width)| width.map(|_| name));
    let table = Table::new(rows, columns().filter_map(|(_, width)| width))
        .header(Row::new(header).style(theme.faint()))
        .highlight_symbol("> ")
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD));
    let mut state = TableState::default().with_selected(selected.checked_sub(first));
    frame.render_stateful_widget(table, area, &mut state);
}
