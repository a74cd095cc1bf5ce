//! Top-k accuracy: the fraction of images whose class is among the k most probable, 0 to 1.

/// Top-k accuracy by `scores` [N, classes], such as logits; 0 without images. Of equal scores the
/// first class ranks higher, as in the predicted class.
pub fn top_k_accuracy(scores: &[f32], classes: usize, labels: &[u8], k: usize) -> f64 {
    let is_among = |(row, label): (&[f32], &u8)| {
        let label = usize::from(*label);
        let Some(own) = row.get(label) else { return false };
        let ranks_higher = |(class, score): (usize, &f32)| *score > *own || (*score == *own && class < label);
        row.iter().enumerate().filter(|(class, score)| ranks_higher((*class, *score))).count() < k && !own.is_nan()
    };
    let found = scores.chunks(classes.max(1)).zip(labels).filter(|pair| is_among(*pair)).count();
    if labels.is_empty() { 0.0 } else { found as f64 / labels.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// scores = np.array([[.5, .2, .3], [.1, .6, .3], [.2, .3, .5], [.7, .2, .1]])
    /// [top_k_accuracy_score([0, 2, 0, 2], scores, k=k, labels=[0, 1, 2]) for k in (1, 2, 3)]
    /// # 0.25, 0.5, 1.0
    /// ```
    #[test]
    fn agrees_with_scikit_learn() {
        let scores = [0.5, 0.2, 0.3, 0.1, 0.6, 0.3, 0.2, 0.3, 0.5, 0.7, 0.2, 0.1];
        let found = [1, 2, 3].map(|k| top_k_accuracy(&scores, 3, &[0, 2, 0, 2], k));
        assert_eq!(found, [0.25, 0.5, 1.0]);
        assert_eq!(top_k_accuracy(&[], 3, &[], 2), 0.0);
    }

    #[test]
    fn ties_rank_by_class() {
        assert_eq!(top_k_accuracy(&[0.5, 0.5, 0.5], 3, &[1], 1), 0.0);
        assert_eq!(top_k_accuracy(&[0.5, 0.5, 0.5], 3, &[1], 2), 1.0);
        assert_eq!(top_k_accuracy(&[f32::NAN; 3], 3, &[0], 2), 0.0);
    }
}
