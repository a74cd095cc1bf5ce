//! From values to places, and the numbers beside an axis.

use anyhow::Result;
use plotters::prelude::DrawingBackend;

use super::page::{Align, GRID_COLOUR, Page, SMALL};

/// A number beyond this is drawn as if it were missing: sums and differences of such numbers are not finite.
const MAX_WEIGHT: f64 = 1e100;

/// Whether a value can be drawn.
pub fn drawable(value: f64) -> bool {
    value.abs() <= MAX_WEIGHT
}

/// The least and the greatest of the values that can be drawn.
pub fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| drawable(*value)).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// A range with some room at both ends; equal ends are set apart.
pub fn widened((low, high): (f64, f64), share: f64) -> (f64, f64) {
    let span = high - low;
    // Less than this, and numbers between the ends have no room in an f64.
    let least = low.abs().max(high.abs()) * 1e-9;
    let room = if span > least && span > 1e-100 {
        span * share
    } else if low == 0.0 {
        0.5
    } else {
        low.abs() * 0.1
    };
    // The least of all numbers times 0.1 is 0.
    (low - room, high + room.max(f64::MIN_POSITIVE * 1e20))
}

/// An axis: a range of values (`low` < `high`) upon a range of places.
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

    /// A logarithmic one, for values above 0.
    pub fn logarithmic((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        Self { low: low.log10(), high: high.log10(), from, to, logarithmic: true }
    }

    /// The place of a value; none for a value that cannot be drawn.
    pub fn at(&self, value: f64) -> Option<f64> {
        let value = if self.logarithmic { value.log10() } else { value };
        let place = self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from);
        (drawable(value) && place.is_finite()).then_some(place)
    }

    /// Round values along the axis, about `count` of them, each with its place and how it is written.
    pub fn ticks(&self, count: f64, unit: Unit) -> Vec<(f64, String)> {
        let values = if self.logarithmic { self.decades(count) } else { self.steps(count, unit) };
        values.into_iter().filter_map(|(value, text)| Some((self.at(value)?, text))).collect()
    }

    fn steps(&self, count: f64, unit: Unit) -> Vec<(f64, String)> {
        let wanted = (self.high - self.low) / count.max(1.0);
        let power = 10f64.powf(wanted.log10().floor());
        let step = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= wanted);
        let step = step.unwrap_or(10.0 * power);
        let step = if unit == Unit::Whole { step.max(1.0) } else { step };
        let first = (self.low / step - 1e-9).ceil();
        // A bound, should rounding keep the sum where it is.
        let values = (0..100).map(|number| (first + f64::from(number)) * step);
        let within = values.take_while(|value| *value <= self.high + step * 1e-9);
        within.map(|value| (value, unit.text(value, step))).collect()
    }

    /// Powers of ten, with 2 and 5 between them where they are few.
    fn decades(&self, count: f64) -> Vec<(f64, String)> {
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let decades = self.high - self.low;
        let digits: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / count.max(1.0)).ceil().max(1.0) as usize;
        let values =
            (first..=last).step_by(every).flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
        let within = |value: &f64| (self.low - 1e-9..=self.high + 1e-9).contains(&value.log10());
        let small = self.low < -3.0;
        let text = |value: f64| if small || value >= 1e5 { format!("{value:.0e}") } else { format!("{value}") };
        values.filter(within).map(|value| (value, text(value))).collect()
    }

    /// Grid lines across `across` with their numbers at its left, for an axis that goes up.
    pub fn draw_rising<B: DrawingBackend>(
        &self,
        page: &Page<B>,
        across: (f64, f64),
        count: f64,
        unit: Unit,
    ) -> Result<()> {
        for (y, text) in self.ticks(count, unit) {
            page.level(y, across, 1.0, GRID_COLOUR)?;
            page.text((across.0 - 7.0, y), &text, SMALL.aligned(Align::End))?;
        }
        Ok(())
    }
}

/// How the numbers of an axis are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As they are.
    Plain,
    /// Without a fraction.
    Whole,
    /// A share as percent.
    Percent,
}

impl Unit {
    fn text(self, value: f64, step: f64) -> String {
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

    fn texts(axis: Axis, count: f64, unit: Unit) -> Vec<String> {
        axis.ticks(count, unit).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = |low, high| Axis::linear((low, high), (0.0, 100.0));
        assert_eq!(texts(axis(0.0, 1.0), 5.0, Unit::Plain), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(axis(0.31, 0.68), 4.0, Unit::Percent), ["40%", "50%", "60%"]);
        assert_eq!(texts(axis(0.6123, 0.6181), 4.0, Unit::Percent), ["61.4%", "61.6%", "61.8%"]);
        assert_eq!(texts(axis(0.5, 1.5), 8.0, Unit::Whole), ["1"]);
        assert_eq!(texts(axis(-2e9, 2e9), 4.0, Unit::Plain), ["-2.00e9", "-1.00e9", "0", "1.00e9", "2.00e9"]);
        assert_eq!(axis(10.0, 20.0).at(15.0), Some(50.0));
        assert_eq!(axis(10.0, 20.0).at(f64::NAN), None);
    }

    #[test]
    fn logarithmic_ticks_are_decades() {
        let axis = |low, high| Axis::logarithmic((low, high), (0.0, 100.0));
        assert_eq!(texts(axis(1e-5, 1e-2), 4.0, Unit::Plain), ["1e-5", "1e-4", "1e-3", "1e-2"]);
        assert_eq!(texts(axis(2e-5, 4e-5), 4.0, Unit::Plain), ["2e-5"]);
        assert_eq!(texts(axis(1e-3, 2e-2), 4.0, Unit::Plain), ["0.001", "0.002", "0.005", "0.01", "0.02"]);
        assert!(texts(axis(1e-300, 1e10), 4.0, Unit::Plain).len() <= 5);
        assert_eq!(axis(1.0, 100.0).at(10.0), Some(50.0));
        assert!(axis(1.0, 100.0).at(0.0).is_none() && axis(1.0, 100.0).at(-1.0).is_none());
    }

    #[test]
    fn any_range_has_an_axis() {
        let numbers = [0.0f64, -0.0, 5e-324, 1e-310, 1e-99, 0.1, 0.5, 1.0, 1e15, 1e16, 1e99, 1e100];
        for low in numbers.into_iter().flat_map(|number| [number, -number]) {
            for high in [low, low + low.abs() * 1e-15, low + 1.0, 1e100] {
                let (from, to) = widened((low, high), 0.05);
                assert!(from < to, "{low} {high}");
                let axis = Axis::linear((from, to), (300.0, 10.0));
                assert!(axis.ticks(5.0, Unit::Plain).len() <= 100);
                assert!((10.0..=300.0).contains(&axis.at(low).unwrap()), "{low} {high}");
            }
        }
        assert_eq!(range([f64::NAN, 2.0, f64::INFINITY, 1.0, 1e200]), Some((1.0, 2.0)));
        assert_eq!(range([f64::NAN]), None);
    }
}
