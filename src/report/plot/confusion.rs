//! Confusion matrix: rows by true class, columns by predicted class.

use anyhow::Result;
use indicatif::HumanCount;

use super::Plot;
use super::canvas::{Align, BLUE, Canvas, GRID, Point, SMALL, TEXT, TextStyle, WHITE, WIDTH};
use crate::metrics::ConfusionMatrix;

/// Space for the title of the rows, for recall at the right, and around.
const LEFT: f64 = 28.0;
const RECALL: f64 = 72.0;
const EDGE: f64 = 8.0;
/// Max width and height of a cell.
const MAX_CELL: (f64, f64) = (110.0, 46.0);
/// Max width of a class name.
const MAX_NAME: f64 = 150.0;
/// Min width of the plot: the note below the matrix needs it.
const MIN_WIDTH: f64 = 450.0;
/// From this opacity of a cell on, white text is easier to read than text in the color of the
/// theme.
const DARK: f64 = 0.85;
/// Min height of a row with one line of text, and with two.
const ONE_LINE: f64 = 14.0;
const TWO_LINES: f64 = 34.0;

/// Plots a confusion matrix with the recall of each class. The shade of a cell is its fraction of
/// the row.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn confusion(confusion: &ConfusionMatrix, classes: &[String]) -> Result<Plot> {
    Matrix::new(confusion, classes).plot()
}

struct Matrix<'a> {
    confusion: &'a ConfusionMatrix,
    /// Class names, shortened.
    names: Vec<String>,
    /// Whether the names of columns are rotated.
    rotated: bool,
    /// Left and upper edge of the cells.
    origin: Point,
    /// Width and height of a cell.
    cell: (f64, f64),
    content: CellContent,
}

/// The text for which all cells have room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellContent {
    Empty,
    Count,
    CountAndPercent,
}

impl<'a> Matrix<'a> {
    fn new(confusion: &'a ConfusionMatrix, classes: &[String]) -> Self {
        let count = confusion.rows().len();
        let name = |class: usize| classes.get(class).cloned().unwrap_or_else(|| class.to_string());
        let names: Vec<String> = (0..count).map(|class| SMALL.fit(&name(class), MAX_NAME)).collect();
        let longest = names.iter().map(|name| SMALL.width(name)).fold(0.0, f64::max);
        let left = LEFT + longest + 8.0;
        let width = ((f64::from(WIDTH) - left - RECALL - EDGE) / count.max(1) as f64).min(MAX_CELL.0);
        let rotated = longest > width - 6.0;
        let top = EDGE + 22.0 + if rotated { longest + 8.0 } else { 20.0 };
        let height = width.min(MAX_CELL.1);
        let counts = confusion.rows().iter().flatten().map(|count| SMALL.width(&number(*count)));
        let content = match counts.fold(0.0, f64::max) {
            longest if longest > width - 2.0 || height < ONE_LINE => CellContent::Empty,
            longest if longest.max(SMALL.bold().width("100%")) > width - 4.0 || height < TWO_LINES => {
                CellContent::Count
            }
            _ => CellContent::CountAndPercent,
        };
        Self { confusion, names, rotated, origin: (left, top), cell: (width, height), content }
    }

    /// Right and lower edge of the cells.
    fn end(&self) -> Point {
        let count = self.names.len() as f64;
        (self.origin.0 + count * self.cell.0, self.origin.1 + count * self.cell.1)
    }

    fn size(&self) -> (u32, u32) {
        let (right, bottom) = self.end();
        ((right + RECALL + EDGE).max(MIN_WIDTH).round() as u32, (bottom + 32.0).ceil() as u32)
    }

    /// Center of a cell.
    fn center(&self, row: usize, column: usize) -> Point {
        (self.origin.0 + (column as f64 + 0.5) * self.cell.0, self.origin.1 + (row as f64 + 0.5) * self.cell.1)
    }

    fn plot(&self) -> Result<Plot> {
        let ((left, top), (right, bottom)) = (self.origin, self.end());
        let (width, height) = self.size();
        let mut canvas = Canvas::new(width, height);
        if self.names.is_empty() {
            canvas.text((left, top), "no classes", TEXT);
            return canvas.finish();
        }
        for (row, counts) in self.confusion.rows().iter().enumerate() {
            for (column, count) in counts.iter().enumerate() {
                self.draw_cell(&mut canvas, row, column, *count);
            }
        }
        self.draw_grid(&mut canvas);
        self.draw_names(&mut canvas);
        self.draw_recall(&mut canvas);
        let title = TEXT.bold().aligned(Align::Middle);
        canvas.text((f64::midpoint(left, right), EDGE + 8.0), "Predicted class", title);
        let rotated = TextStyle { rotated: true, ..title };
        canvas.text((EDGE + 6.0, f64::midpoint(top, bottom)), "True class", rotated);
        let shown = if self.content == CellContent::CountAndPercent { "Shade and percent" } else { "Shade" };
        canvas.text((EDGE, bottom + 18.0), &format!("{shown}: fraction of the images of the true class"), SMALL);
        canvas.finish()
    }

    fn draw_cell(&self, canvas: &mut Canvas, row: usize, column: usize, count: u64) {
        let (width, height) = self.cell;
        let (x, y) = self.center(row, column);
        let fraction = ratio(count, self.confusion.labeled(row));
        if let Some(opacity) = fraction.filter(|fraction| *fraction > 0.0) {
            let corners = ((x - width / 2.0, y - height / 2.0), (x + width / 2.0, y + height / 2.0));
            canvas.rect(corners.0, corners.1, BLUE, opacity);
        }
        let color = if fraction >= Some(DARK) { WHITE } else { SMALL.color };
        let style = TextStyle { color, ..SMALL }.aligned(Align::Middle);
        let number = number(count);
        // The diagonal is bold if bold digits have room.
        let is_bold = row == column && SMALL.bold().width(&number) <= width - 2.0;
        let style = if is_bold { style.bold() } else { style };
        match self.content {
            CellContent::Empty => {}
            CellContent::Count => canvas.text((x, y), &number, style),
            CellContent::CountAndPercent => {
                canvas.text((x, y - 8.0), &number, style);
                canvas.text((x, y + 8.0), &percent(fraction, 0), style);
            }
        }
    }

    /// Draws lines between cells; only the outline when lines would take more than a tenth of the
    /// cells.
    fn draw_grid(&self, canvas: &mut Canvas) {
        let ((left, top), (right, bottom), count) = (self.origin, self.end(), self.names.len());
        let lines = |size: f64| (0..=count).filter(move |line| size >= 10.0 || line % count == 0);
        for line in lines(self.cell.0) {
            canvas.vertical(left + line as f64 * self.cell.0, (top, bottom), 1.0, GRID);
        }
        for line in lines(self.cell.1) {
            canvas.horizontal(top + line as f64 * self.cell.1, (left, right), 1.0, GRID);
        }
    }

    /// Draws the names of rows and columns, as many as there is room for.
    fn draw_names(&self, canvas: &mut Canvas) {
        let (left, top) = self.origin;
        for (class, name) in self.names.iter().enumerate().step_by(stride(self.cell.1)) {
            canvas.text((left - 8.0, self.center(class, 0).1), name, SMALL.aligned(Align::End));
        }
        // Rotated names are as close as lines of text; others fit into their columns.
        for (class, name) in self.names.iter().enumerate().step_by(stride(self.cell.0)) {
            let x = self.center(0, class).0;
            if self.rotated {
                canvas.text((x, top - 8.0), name, TextStyle { rotated: true, ..SMALL });
            } else {
                canvas.text((x, top - 12.0), name, SMALL.aligned(Align::Middle));
            }
        }
    }

    fn draw_recall(&self, canvas: &mut Canvas) {
        let (right, height) = (f64::from(self.size().0) - EDGE, self.cell.1);
        canvas.text((right, self.origin.1 - 12.0), "Recall", SMALL.bold().aligned(Align::End));
        for row in (0..self.names.len()).step_by(stride(height)) {
            let y = self.center(row, 0).1;
            let images = self.confusion.labeled(row);
            let recall = percent(ratio(self.confusion.correct(row), images), 1);
            let style = SMALL.aligned(Align::End);
            if height >= TWO_LINES {
                canvas.text((right, y - 8.0), &recall, style.bold());
                canvas.text((right, y + 8.0), &format!("of {}", number(images)), style);
            } else {
                canvas.text((right, y), &recall, style);
            }
        }
    }
}

/// Every how many rows or columns of a size there is room for a line of text.
fn stride(size: f64) -> usize {
    (ONE_LINE / size).ceil().max(1.0) as usize
}

fn number(count: u64) -> String {
    HumanCount(count).to_string()
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A fraction as percent; a dash for none.
fn percent(fraction: Option<f64>, digits: usize) -> String {
    fraction.map_or_else(|| "–".to_owned(), |fraction| format!("{:.digits$}%", fraction * 100.0))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, size, texts};
    use super::*;

    fn names(count: usize, length: usize) -> Vec<String> {
        (0..count).map(|number| format!("{}{number}", "class & ".repeat(length))).collect()
    }

    #[test]
    fn cells_show_counts_and_percentages() {
        let matrix = ConfusionMatrix::new(&[0, 0, 0, 1], &[0, 0, 1, 1], 3);
        let plot = confusion(&matrix, &["angry", "happy", "sad"].map(String::from)).unwrap();
        check(&plot, size(&plot.svg));
        let texts = texts(&plot.svg);
        for text in ["angry", "happy", "sad", "Recall", "True class", "Predicted class", "67%", "66.7%", "of 3", "–"]
        {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
    }

    #[test]
    fn any_number_of_classes_is_plotted() {
        for count in [0, 1, 2, 3, 7, 12, 20, 50, 100] {
            let labels: Vec<u8> = (0..200u8).map(|row| row % 100).collect();
            let predicted: Vec<u8> = (0..200u8).map(|row| row / 2).collect();
            for length in [0, 1, 20] {
                let matrix = ConfusionMatrix::new(&labels, &predicted, count);
                let plot = confusion(&matrix, &names(count, length)).unwrap();
                let (width, height) = size(&plot.svg);
                check(&plot, (width, height));
                assert!(width <= 760 && height <= 900, "{count} {length}: {width} {height}");
                check(&confusion(&matrix, &[]).unwrap(), size(&confusion(&matrix, &[]).unwrap().svg));
            }
        }
    }

    #[test]
    fn without_images_there_are_no_percentages() {
        let empty = confusion(&ConfusionMatrix::new(&[], &[], 7), &names(7, 0)).unwrap();
        assert_eq!(texts(&empty.svg).iter().filter(|text| *text == "–").count(), 7 * 7 + 7);
        check(&empty, size(&empty.svg));
    }
}
