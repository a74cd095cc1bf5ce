//! A confusion matrix: rows by true class, columns by predicted class.

use anyhow::Result;
use plotters::prelude::DrawingBackend;

use super::Picture;
use super::page::{Align, BLUE, Drawing, GRID_COLOUR, Look, Page, SMALL, TEXT, WHITE, WIDTH};
use crate::metrics::Confusion;
use crate::report::table::thousands;

/// Space at the left for the title of the rows, at the right of the cells for recall, and around.
const LEFT: f64 = 28.0;
const RECALL: f64 = 72.0;
const EDGE: f64 = 8.0;
/// Greatest width and height of a cell.
const CELL: (f64, f64) = (110.0, 46.0);
/// Greatest length of a class's name.
const NAME: f64 = 150.0;
/// Least width of the page: the note below needs it.
const LEAST: f64 = 430.0;
/// From this share on, white is easier to read on a cell than what the theme writes with.
const DARK: f64 = 0.85;
/// Rows and columns closer than this have no room for each name.
const LINE: f64 = 14.0;
/// Height of rows that have room for two lines.
const TWO_LINES: f64 = 34.0;

/// AugmentParams a confusion matrix, each cell shaded by its share of the faces of the true class, and the recall of each class.
///
/// # Errors
/// When it cannot be drawn.
pub fn confusion(confusion: &Confusion, classes: &[String]) -> Result<Picture> {
    Picture::of(&Matrix::of(confusion, classes))
}

struct Matrix<'a> {
    confusion: &'a Confusion,
    /// Names as shown.
    names: Vec<String>,
    /// Whether the names of columns are turned.
    turned: bool,
    /// Left and upper edge of the cells.
    origin: (f64, f64),
    /// Width and height of a cell.
    cell: (f64, f64),
    /// What all cells have room for.
    room: Room,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Nothing,
    Count,
    CountAndPercent,
}

impl<'a> Matrix<'a> {
    fn of(confusion: &'a Confusion, classes: &[String]) -> Self {
        let count = confusion.rows().len();
        let name = |class: usize| classes.get(class).cloned().unwrap_or_else(|| class.to_string());
        let names: Vec<String> = (0..count).map(|class| SMALL.fit(&name(class), NAME)).collect();
        let longest = names.iter().map(|name| SMALL.width(name)).fold(0.0, f64::max);
        let left = LEFT + longest + 8.0;
        let width = ((f64::from(WIDTH) - left - RECALL - EDGE) / count.max(1) as f64).min(CELL.0);
        let turned = longest > width - 6.0;
        let top = EDGE + 22.0 + if turned { longest + 8.0 } else { 20.0 };
        let height = width.min(CELL.1);
        let counts = confusion.rows().iter().flatten().map(|count| SMALL.width(&number(*count)));
        let room = match counts.fold(0.0, f64::max) {
            longest if longest > width - 2.0 || height < LINE => Room::Nothing,
            longest if longest.max(SMALL.bold().width("100%")) > width - 4.0 || height < TWO_LINES => Room::Count,
            _ => Room::CountAndPercent,
        };
        Self { confusion, names, turned, origin: (left, top), cell: (width, height), room }
    }

    /// Right and lower edge of the cells.
    fn end(&self) -> (f64, f64) {
        let count = self.names.len() as f64;
        (self.origin.0 + count * self.cell.0, self.origin.1 + count * self.cell.1)
    }

    /// The middle of a row and a column.
    fn middle(&self, row: usize, column: usize) -> (f64, f64) {
        (self.origin.0 + (column as f64 + 0.5) * self.cell.0, self.origin.1 + (row as f64 + 0.5) * self.cell.1)
    }

    fn draw_cell<B: DrawingBackend>(&self, page: &Page<B>, row: usize, column: usize, count: u64) -> Result<()> {
        let (width, height) = self.cell;
        let (x, y) = self.middle(row, column);
        let share = ratio(count, self.confusion.labeled(row));
        let corners = ((x - width / 2.0, y - height / 2.0), (x + width / 2.0, y + height / 2.0));
        page.rect(corners.0, corners.1, BLUE, share.unwrap_or(0.0))?;
        let colour = if share >= Some(DARK) { WHITE } else { SMALL.colour };
        let look = Look { colour, ..SMALL }.aligned(Align::Middle);
        let number = number(count);
        // What is right stands out, where bold figures have room.
        let is_bold = row == column && SMALL.bold().width(&number) <= width - 2.0;
        let look = if is_bold { look.bold() } else { look };
        match self.room {
            Room::Nothing => Ok(()),
            Room::Count => page.text((x, y), &number, look),
            Room::CountAndPercent => {
                page.text((x, y - 8.0), &number, look)?;
                page.text((x, y + 8.0), &percent(share, 0), look)
            }
        }
    }

    /// The names of rows and columns, as many as have room.
    fn draw_names<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let (left, top) = self.origin;
        let every = |size: f64| (LINE / size).ceil().max(1.0) as usize;
        for (number, name) in self.names.iter().enumerate().step_by(every(self.cell.1)) {
            page.text((left - 8.0, self.middle(number, 0).1), name, SMALL.aligned(Align::End))?;
        }
        // Turned names stand as close as lines do; the others fit into their columns.
        for (number, name) in self.names.iter().enumerate().step_by(every(self.cell.0)) {
            let x = self.middle(0, number).0;
            if self.turned {
                page.text((x, top - 8.0), name, Look { turned: true, ..SMALL })?;
            } else {
                page.text((x, top - 12.0), name, SMALL.aligned(Align::Middle))?;
            }
        }
        Ok(())
    }

    fn draw_recall<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let (right, height) = (f64::from(self.size().0) - EDGE, self.cell.1);
        page.text((right, self.origin.1 - 12.0), "Recall", SMALL.bold().aligned(Align::End))?;
        let every = (LINE / height).ceil().max(1.0) as usize;
        for row in (0..self.names.len()).step_by(every) {
            let y = self.middle(row, 0).1;
            let faces = self.confusion.labeled(row);
            let recall = percent(ratio(self.confusion.correct(row), faces), 1);
            let look = SMALL.aligned(Align::End);
            if height >= TWO_LINES {
                page.text((right, y - 8.0), &recall, look.bold())?;
                page.text((right, y + 8.0), &format!("of {}", number(faces)), look)?;
            } else {
                page.text((right, y), &recall, look)?;
            }
        }
        Ok(())
    }
}

impl Drawing for Matrix<'_> {
    fn size(&self) -> (u32, u32) {
        let (right, bottom) = self.end();
        ((right + RECALL + EDGE).max(LEAST).round() as u32, (bottom + 32.0).ceil() as u32)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let ((left, top), (right, bottom)) = (self.origin, self.end());
        if self.names.is_empty() {
            return page.text((left, top), "no classes", TEXT);
        }
        for (row, counts) in self.confusion.rows().iter().enumerate() {
            for (column, count) in counts.iter().enumerate() {
                self.draw_cell(page, row, column, *count)?;
            }
        }
        // Lines between cells, where they do not take more than a tenth of them.
        let (columns, rows) = (self.names.len(), self.names.len());
        let lines = |size: f64, count: usize| (0..=count).filter(move |line| size >= 10.0 || line % count == 0);
        for line in lines(self.cell.0, columns) {
            page.upright(left + line as f64 * self.cell.0, (top - 0.5, bottom + 0.5), 1.0, GRID_COLOUR)?;
        }
        for line in lines(self.cell.1, rows) {
            page.level(top + line as f64 * self.cell.1, (left - 0.5, right + 0.5), 1.0, GRID_COLOUR)?;
        }
        self.draw_names(page)?;
        self.draw_recall(page)?;
        let centred = TEXT.bold().aligned(Align::Middle);
        page.text((f64::midpoint(left, right), EDGE + 8.0), "Predicted class", centred)?;
        let rows = Look { turned: true, ..centred };
        page.text((EDGE + 6.0, f64::midpoint(top, bottom)), "True class", rows)?;
        let shown = if self.room == Room::CountAndPercent { "Shade and percent" } else { "Shade" };
        page.text((EDGE, bottom + 18.0), &format!("{shown}: share of the faces of the true class"), SMALL)
    }
}

fn number(count: u64) -> String {
    thousands(usize::try_from(count).unwrap_or(usize::MAX))
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A share as percent; a dash where there is nothing to have a share of.
fn percent(share: Option<f64>, digits: usize) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.digits$}%", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::tests::{check, size, texts};

    fn names(count: usize, length: usize) -> Vec<String> {
        (0..count).map(|number| format!("{}{number}", "class & ".repeat(length))).collect()
    }

    #[test]
    fn cells_tell_counts_and_shares() {
        let matrix = Confusion::of(&[0, 0, 0, 1], &[0, 0, 1, 1], 3);
        let picture = confusion(&matrix, &["angry", "happy", "sad"].map(String::from)).unwrap();
        check(&picture, size(&picture.svg));
        let texts = texts(&picture.svg);
        for text in ["angry", "happy", "sad", "Recall", "True class", "Predicted class", "67%", "66.7%", "of 3", "–"]
        {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
    }

    #[test]
    fn any_number_of_classes_is_drawn() {
        for count in [0, 1, 2, 3, 7, 12, 20, 50, 100] {
            let labels: Vec<u8> = (0..200u8).map(|row| row % 100).collect();
            let predicted: Vec<u8> = (0..200u8).map(|row| row / 2).collect();
            for length in [0, 1, 20] {
                let matrix = Confusion::of(&labels, &predicted, count);
                let picture = confusion(&matrix, &names(count, length)).unwrap();
                let (width, height) = size(&picture.svg);
                check(&picture, (width, height));
                assert!(width <= 760 && height <= 900, "{count} {length}: {width} {height}");
                check(&confusion(&matrix, &[]).unwrap(), size(&confusion(&matrix, &[]).unwrap().svg));
            }
        }
    }

    #[test]
    fn nobody_and_many() {
        let nobody = confusion(&Confusion::of(&[], &[], 7), &names(7, 0)).unwrap();
        assert_eq!(texts(&nobody.svg).iter().filter(|text| *text == "–").count(), 7 * 7 + 7);
        check(&nobody, size(&nobody.svg));
    }
}
