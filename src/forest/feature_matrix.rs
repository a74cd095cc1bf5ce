//! The training data of a forest, by row and by column.

use linfa::DatasetBase;
use linfa::dataset::AsSingleTargets;
use ndarray::{ArrayBase, CowArray, Data, Ix2};
use rayon::prelude::*;

use super::ForestError;

/// Features uint8 `[rows, width]` and labels `[rows]`. Features are stored twice: by row for small
/// nodes, which then fit into the cache, and by column for large nodes.
#[derive(Debug)]
pub struct FeatureMatrix<'a> {
    /// `[rows, width]`, row-major
    by_row: CowArray<'a, u8, Ix2>,
    /// `[width, rows]`
    by_column: Vec<u8>,
    labels: Vec<u8>,
}

impl<'a> FeatureMatrix<'a> {
    /// Takes the records and targets of a linfa dataset; labels are below `classes`.
    ///
    /// # Errors
    /// No rows or features, too many of them, or a label out of range.
    pub fn new<D, T>(dataset: &'a DatasetBase<ArrayBase<D, Ix2>, T>, classes: usize) -> Result<Self, ForestError>
    where
        D: Data<Elem = u8>,
        T: AsSingleTargets<Elem = usize>,
    {
        let refuse = |problem: String| Err(ForestError::Parameters(problem));
        let by_row = dataset.records().as_standard_layout();
        let (rows, width) = by_row.dim();
        // A node stores its feature in 16 bits, whose maximum marks a leaf, and the index of its
        // child in 32 bits.
        if !(1..=u32::MAX as usize / 2).contains(&rows) || !(1..usize::from(u16::MAX)).contains(&width) {
            return refuse(format!("{rows} rows of {width} features; expected 1 to 2147483647 rows of 1 to 65534"));
        }
        let targets = dataset.as_single_targets();
        let label = |label: &usize| u8::try_from(*label).ok().filter(|label| usize::from(*label) < classes);
        let labels: Option<Vec<u8>> = targets.iter().map(label).collect();
        let Some(labels) = labels.filter(|labels| labels.len() == rows) else {
            return refuse(format!("expected {rows} labels below {classes}"));
        };
        let by_column = transpose(by_row.as_slice().unwrap_or_default(), rows, width);
        Ok(Self { by_row, by_column, labels })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Number of features.
    pub fn width(&self) -> usize {
        self.by_row.ncols()
    }

    /// `[rows]`
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// All features, row-major.
    pub fn values(&self) -> &[u8] {
        self.by_row.as_slice().unwrap_or_default()
    }

    /// The features of a row.
    pub fn row(&self, row: u32) -> &[u8] {
        let start = row as usize * self.width();
        self.values().get(start..start + self.width()).unwrap_or_default()
    }

    /// A feature of all rows.
    pub fn column(&self, feature: u16) -> &[u8] {
        let start = usize::from(feature) * self.rows();
        self.by_column.get(start..start + self.rows()).unwrap_or_default()
    }
}

/// Transposes `[rows, width]` to `[width, rows]` in tiles that fit into the cache.
fn transpose(by_row: &[u8], rows: usize, width: usize) -> Vec<u8> {
    const EDGE: usize = 64;
    let mut by_column = vec![0; by_row.len()];
    by_column.par_chunks_mut(rows * EDGE).enumerate().for_each(|(band, columns)| {
        for first in (0..rows).step_by(EDGE) {
            for (number, column) in columns.chunks_mut(rows).enumerate() {
                let feature = band * EDGE + number;
                let to = column.iter_mut().skip(first).take(EDGE);
                let from = by_row.iter().skip(first * width + feature).step_by(width);
                to.zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    });
    by_column
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2};

    #[test]
    fn columns_are_the_transposed_rows() {
        let records = Array2::from_shape_fn((150, 130), |(row, feature)| (row * 31 + feature * 7) as u8);
        let dataset = DatasetBase::new(records.clone(), Array1::from_elem(150, 1usize));
        let matrix = FeatureMatrix::new(&dataset, 2).unwrap();
        assert_eq!((matrix.rows(), matrix.width()), (150, 130));
        for feature in 0..130 {
            assert_eq!(matrix.column(feature), records.column(usize::from(feature)).to_vec(), "column {feature}");
        }
        // The same records in column-major order.
        let transposed =
            DatasetBase::new(records.t().as_standard_layout().to_owned().reversed_axes(), dataset.targets.clone());
        assert_eq!(FeatureMatrix::new(&transposed, 2).unwrap().values(), matrix.values());
    }

    #[test]
    fn labels_out_of_range_are_refused() {
        let dataset = DatasetBase::new(Array2::<u8>::zeros((2, 1)), Array1::from(vec![0usize, 7]));
        assert!(FeatureMatrix::new(&dataset, 7).unwrap_err().to_string().contains("labels below 7"));
        let empty = DatasetBase::new(Array2::<u8>::zeros((0, 1)), Array1::from(Vec::<usize>::new()));
        assert!(FeatureMatrix::new(&empty, 7).is_err());
    }
}
