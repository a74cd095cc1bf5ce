//! Axes: from values to positions on the canvas, ticks and grid lines.

use super::canvas::{Align, Canvas, GRID, SMALL};

/// A value beyond this is treated as missing: sums and differences of such values are not finite.
const MAX_VALUE: f64 = 1e100;

/// Whether a value can be plotted: it is finite and not huge.
pub fn is_plottable(value: f64) -> bool {
    value.abs() <= MAX_VALUE
}

/// Min and max of the values that can be plotted.
pub fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| is_plottable(*value)).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// A range with a margin at both ends, a fraction of its span. Equal ends are set apart.
pub fn with_margin((low, high): (f64, f64), fraction: f64) -> (f64, f64) {
    let span = high - low;
    // Below this span, an f64 has no room for numbers between the ends.
    let min_span = low.abs().max(high.abs()) * 1e-9;
    let margin = if span > min_span && span > 1e-100 {
        span * fraction
    } else if low == 0.0 {
        0.5
    } else {
        low.abs() * 0.1
    };
    // A tenth of the smallest positive number is 0.
    (low - margin, high + margin.max(f64::MIN_POSITIVE * 1e20))
}

/// An axis: maps a range of values (`low` < `high`) to a range of positions.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    pub fn linear((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        Self { low, high, from, to, logarithmic: false }
    }

    /// A logarithmic axis, for values above 0.
    pub fn logarithmic((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        Self { low: low.log10(), high: high.log10(), from, to, logarithmic: true }
    }

    /// Position of a value; none for a value that cannot be plotted.
    pub fn position(&self, value: f64) -> Option<f64> {
        let value = if self.logarithmic { value.log10() } else { value };
        let position = self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from);
        (is_plottable(value) && position.is_finite()).then_some(position)
    }

    /// About `count` round values along the axis: position and label of each.
    pub fn ticks(&self, count: f64, unit: Unit) -> Vec<(f64, String)> {
        let values = if self.logarithmic { self.decades(count) } else { self.steps(count, unit) };
        values.into_iter().filter_map(|(value, text)| Some((self.position(value)?, text))).collect()
    }

    fn steps(&self, count: f64, unit: Unit) -> Vec<(f64, String)> {
        let wanted = (self.high - self.low) / count.max(1.0);
        let power = 10f64.powf(wanted.log10().floor());
        let step = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= wanted);
        let step = step.unwrap_or(10.0 * power);
        let step = if unit == Unit::Whole { step.max(1.0) } else { step };
        let first = (self.low / step - 1e-9).ceil();
        // A bound, in case rounding keeps the sum from growing.
        let values = (0..100).map(|number| (first + f64::from(number)) * step);
        let within = values.take_while(|value| *value <= self.high + step * 1e-9);
        within.map(|value| (value, unit.label(value, step))).collect()
    }

    /// Powers of ten, with 2 and 5 between them if they are few.
    fn decades(&self, count: f64) -> Vec<(f64, String)> {
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let decades = self.high - self.low;
        let digits: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / count.max(1.0)).ceil().max(1.0) as usize;
        let values =
            (first..=last).step_by(every).flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
        let within = |value: &f64| (self.low - 1e-9..=self.high + 1e-9).contains(&value.log10());
        let small = self.low < -3.0;
        let label = |value: f64| if small || value >= 1e5 { format!("{value:.0e}") } else { format!("{value}") };
        values.filter(within).map(|value| (value, label(value))).collect()
    }

    /// Draws the grid lines of a vertical axis from `left` to `right`, with labels at the left.
    pub fn draw_horizontal_grid(&self, canvas: &mut Canvas, (left, right): (f64, f64), count: f64, unit: Unit) {
        for (y, label) in self.ticks(count, unit) {
            canvas.horizontal(y, (left, right), 1.0, GRID);
            canvas.text((left - 7.0, y), &label, SMALL.aligned(Align::End));
        }
    }
}

/// How an axis labels its ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// With as many digits as the step needs.
    Plain,
    /// Integers only.
    Whole,
    /// A fraction as percent.
    Percent,
}

impl Unit {
    fn label(self, value: f64, step: f64) -> String {
        let (value, step, sign) =
            if self == Self::Percent { (value * 100.0, step * 100.0, "%") } else { (value, step, "") };
        if value.abs() < step / 2.0 {
            return format!("0{sign}");
        }
        let digits = (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
        let plain = format!("{value:.digits$}{sign}");
        if plain.len() <= 7 && step >= 1e-9 { plain } else { format!("{value:.2e}{sign}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, count: f64, unit: Unit) -> Vec<String> {
        axis.ticks(count, unit).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let axis = |low, high| Axis::linear((low, high), (0.0, 100.0));
        assert_eq!(labels(axis(0.0, 1.0), 5.0, Unit::Plain), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(axis(0.31, 0.68), 4.0, Unit::Percent), ["40%", "50%", "60%"]);
        assert_eq!(labels(axis(0.6123, 0.6181), 4.0, Unit::Percent), ["61.4%", "61.6%", "61.8%"]);
        assert_eq!(labels(axis(0.5, 1.5), 8.0, Unit::Whole), ["1"]);
        assert_eq!(labels(axis(-2e9, 2e9), 4.0, Unit::Plain), ["-2.00e9", "-1.00e9", "0", "1.00e9", "2.00e9"]);
        assert_eq!(axis(10.0, 20.0).position(15.0), Some(50.0));
        assert_eq!(axis(10.0, 20.0).position(f64::NAN), None);
    }

    #[test]
    fn logarithmic_ticks_are_decades() {
        let axis = |low, high| Axis::logarithmic((low, high), (0.0, 100.0));
        assert_eq!(labels(axis(1e-5, 1e-2), 4.0, Unit::Plain), ["1e-5", "1e-4", "1e-3", "1e-2"]);
        assert_eq!(labels(axis(2e-5, 4e-5), 4.0, Unit::Plain), ["2e-5"]);
        assert_eq!(labels(axis(1e-3, 2e-2), 4.0, Unit::Plain), ["0.001", "0.002", "0.005", "0.01", "0.02"]);
        assert!(labels(axis(1e-300, 1e10), 4.0, Unit::Plain).len() <= 5);
        assert_eq!(axis(1.0, 100.0).position(10.0), Some(50.0));
        assert!(axis(1.0, 100.0).position(0.0).is_none() && axis(1.0, 100.0).position(-1.0).is_none());
    }

    #[test]
    fn any_range_has_an_axis() {
        let numbers = [0.0f64, -0.0, 5e-324, 1e-310, 1e-99, 0.1, 0.5, 1.0, 1e15, 1e16, 1e99, 1e100];
        for low in numbers.into_iter().flat_map(|number| [number, -number]) {
            for high in [low, low + low.abs() * 1e-15, low + 1.0, 1e100] {
                let (from, to) = with_margin((low, high), 0.05);
                assert!(from < to, "{low} {high}");
                let axis = Axis::linear((from, to), (300.0, 10.0));
                assert!(axis.ticks(5.0, Unit::Plain).len() <= 100);
                assert!((10.0..=300.0).contains(&axis.position(low).unwrap()), "{low} {high}");
            }
        }
        assert_eq!(range([f64::NAN, 2.0, f64::INFINITY, 1.0, 1e200]), Some((1.0, 2.0)));
        assert_eq!(range([f64::NAN]), None);
    }
}
