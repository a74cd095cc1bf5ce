//! Curves of accuracy and loss by epoch, as a terminal draws them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType};

use super::run_status::RunStatus;
use super::screen::Theme;
use crate::metrics::EpochMetrics;

/// The value of a curve in an epoch.
type Value = fn(&EpochMetrics) -> f64;

/// One chart: a curve of training and one of validation.
struct CurvePair {
    title: &'static str,
    training: Value,
    validation: Value,
    label: fn(f64) -> String,
}

const ACCURACY: CurvePair = CurvePair {
    title: "accuracy",
    training: |record| record.accuracy,
    validation: |record| record.val_accuracy,
    label: |value| format!("{:.1}%", 100.0 * value),
};

const LOSS: CurvePair = CurvePair {
    title: "loss",
    training: |record| record.loss,
    validation: |record| record.val_loss,
    label: |value| format!("{value:.3}"),
};

/// Draws both charts side by side.
pub fn draw_charts(frame: &mut Frame<'_>, area: Rect, run: &RunStatus, theme: Theme) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    draw_chart(frame, left, run, &ACCURACY, theme);
    draw_chart(frame, right, run, &LOSS, theme);
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, run: &RunStatus, curves: &CurvePair, theme: Theme) {
    let points = |value: Value| -> Vec<(f64, f64)> {
        let all = run.records.iter().map(|record| (f64::from(record.epoch), value(record)));
        all.filter(|(_, value)| value.is_finite()).collect()
    };
    let (training, validation) = (points(curves.training), points(curves.validation));
    let both = || training.iter().chain(&validation).map(|(_, value)| *value);
    let (low, high) = bounds(both());
    let last = run.records.last().map_or(1, |record| record.epoch);
    // The lines differ in their marks too: a terminal may have no colors.
    let datasets = vec![
        Dataset::default().marker(Marker::Dot).graph_type(GraphType::Scatter).style(theme.training()).data(&training),
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(theme.validation())
            .data(&validation),
    ];
    let title = Line::from(vec![
        Span::styled(format!(" {} ", curves.title), theme.strong()),
        Span::styled("⠒⠒ validation ", theme.validation()),
        Span::styled("• training ", theme.training()),
    ]);
    let labels = [low, f64::midpoint(low, high), high].map(curves.label);
    let epochs = ["1".to_owned(), format!("epoch {last}")];
    let chart = Chart::new(datasets)
        .block(Block::bordered().title(title).border_style(theme.faint()))
        .legend_position(None)
        .x_axis(Axis::default().style(theme.faint()).bounds([1.0, f64::from(last.max(2))]).labels(epochs))
        .y_axis(Axis::default().style(theme.faint()).bounds([low, high]).labels(labels));
    frame.render_widget(chart, area);
}

/// Min and max of values, set apart if they are equal.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let range = values.fold(None, |range: Option<(f64, f64)>, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    });
    let (low, high) = range.unwrap_or((0.0, 1.0));
    let size = low.abs().max(high.abs());
    if high - low > size * 1e-9 { (low, high) } else { (low - size * 0.1 - 0.05, high + size * 0.1 + 0.05) }
}

impl Theme {
    fn training(self) -> Style {
        self.colored(Color::Yellow)
    }

    fn validation(self) -> Style {
        self.colored(Color::Cyan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_never_empty() {
        assert_eq!(bounds([0.5, 0.25, 0.75].into_iter()), (0.25, 0.75));
        assert_eq!(bounds([].into_iter()), (0.0, 1.0));
        for value in [0.5, 0.0, -1e300, 5e-324] {
            let (low, high) = bounds([value, value].into_iter());
            assert!(low < value && value < high, "{value}");
        }
    }
}
