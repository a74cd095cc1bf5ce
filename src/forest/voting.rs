//! Predictions of a forest: the mean over trees of the class frequencies in the leaf of a row.

use linfa::traits::PredictInplace;
use ndarray::{Array1, ArrayBase, Data, Ix2};
use rayon::prelude::*;

use super::{Forest, Tree};
use crate::metrics::predictions::Predictions;

/// Rows of a parallel chunk.
const CHUNK_ROWS: usize = 256;

/// The frequency of each class in the leaves of all trees, computed once for many predictions.
#[derive(Debug)]
pub struct LeafFrequencies(Vec<Vec<f64>>);

impl Forest {
    /// The frequencies in its leaves.
    pub fn leaf_frequencies(&self) -> LeafFrequencies {
        LeafFrequencies(self.trees.par_iter().map(Tree::frequencies).collect())
    }

    /// Probabilities `[N, classes]`, row-major, of `values` `[N, features]`, row-major.
    pub fn probabilities(&self, values: &[u8]) -> Vec<f32> {
        self.probabilities_by(&self.leaf_frequencies(), values)
    }

    fn probabilities_by(&self, frequencies: &LeafFrequencies, values: &[u8]) -> Vec<f32> {
        let (width, classes) = (self.importance.len().max(1), self.classes.max(1));
        let mut all = vec![0.0; values.len() / width * classes];
        all.par_chunks_mut(CHUNK_ROWS * classes).zip(values.par_chunks(CHUNK_ROWS * width)).for_each(|(to, values)| {
            let mut sums = vec![0.0; to.len()];
            // Tree by tree, to keep each in the cache.
            for (tree, frequencies) in self.trees.iter().zip(&frequencies.0) {
                for (sums, values) in sums.chunks_mut(classes).zip(values.chunks(width)) {
                    let leaf = frequencies.iter().skip(tree.leaf(values) * classes);
                    sums.iter_mut().zip(leaf).for_each(|(sum, frequency)| *sum += frequency);
                }
            }
            let count = self.trees.len() as f64;
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = (sum / count) as f32);
        });
        all
    }

    /// The [`Predictions`] of `values` `[N, features]`; logits are the logarithms of probabilities.
    /// They are clipped to float32's epsilon, as in scikit-learn's `log_loss`, to keep the loss
    /// finite if no tree votes for the label.
    pub fn predictions(&self, values: &[u8]) -> Predictions {
        self.predictions_by(&self.leaf_frequencies(), values)
    }

    /// [`predictions`](Self::predictions) with the [`leaf_frequencies`](Self::leaf_frequencies) of this
    /// forest.
    pub fn predictions_by(&self, frequencies: &LeafFrequencies, values: &[u8]) -> Predictions {
        let probabilities = self.probabilities_by(frequencies, values);
        let logits = probabilities.iter().map(|probability| probability.max(f32::EPSILON).ln()).collect();
        Predictions { logits, probabilities, classes: self.classes }
    }
}

impl<D: Data<Elem = u8>> PredictInplace<ArrayBase<D, Ix2>, Array1<usize>> for Forest {
    /// Predicts the argmax of the probabilities, the lowest class of equals.
    fn predict_inplace(&self, records: &ArrayBase<D, Ix2>, labels: &mut Array1<usize>) {
        let values = records.as_standard_layout();
        let predicted = self.predictions(values.as_slice().unwrap_or_default()).predicted();
        labels.iter_mut().zip(predicted).for_each(|(label, class)| *label = usize::from(class));
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<usize> {
        Array1::zeros(records.nrows())
    }
}
