//! Probable label errors by confident learning (Northcutt, Jiang, Chuang 2021, "Confident Learning:
//! Estimating Uncertainty in Dataset Labels").

/// An image whose label is probably wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelError {
    /// Its position.
    pub position: usize,
    /// The class that it probably has.
    pub suggested: u8,
    /// The probability of that class minus that of the label, above 0, at most 1: the larger, the surer.
    pub score: f64,
}

/// The images that are confidently of another class than their label, the surest first.
///
/// `probabilities` [N, classes] must come from networks that were not trained on these images. An
/// image is confidently of a class if its probability is at least the mean over the images with that
/// label; of several such classes it has the most probable one. These are the images off the diagonal
/// of the confident joint, without those whose label is more probable; cleanlab's
/// `filter_by="confident_learning"` leaves out those whose label is the most probable class.
pub fn label_errors(probabilities: &[f32], classes: usize, labels: &[u8]) -> Vec<LabelError> {
    let rows = || probabilities.chunks(classes.max(1)).zip(labels);
    let mut sums = vec![(0.0_f64, 0_usize); classes];
    for (row, label) in rows() {
        if let (Some((sum, count)), Some(own)) = (sums.get_mut(usize::from(*label)), row.get(usize::from(*label))) {
            *sum += f64::from(*own);
            *count += 1;
        }
    }
    // A class without images has no threshold that could be reached.
    let thresholds: Vec<f64> =
        sums.iter().map(|(sum, count)| if *count > 0 { sum / *count as f64 } else { f64::INFINITY }).collect();
    let mut errors: Vec<LabelError> = rows()
        .enumerate()
        .filter_map(|(position, (row, label))| {
            let confident = (0_u8..).zip(row).zip(&thresholds).filter(|((_, p), limit)| f64::from(**p) >= **limit);
            let (suggested, p) = confident.map(|(found, _)| found).max_by(|(_, a), (_, b)| a.total_cmp(b))?;
            let own = row.get(usize::from(*label)).copied().unwrap_or_default();
            let score = f64::from(*p) - f64::from(own);
            // A rare class has a low threshold, which a class that is less probable than the label may reach.
            (suggested != *label && score > 0.0).then_some(LabelError { position, suggested, score })
        })
        .collect();
    errors.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.position.cmp(&b.position)));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_confidently_of_another_class_are_found() {
        // Thresholds: the mean of p(0) over label 0, 0.7, and of p(1) over label 1, 0.6.
        let p0 = [0.9, 0.9, 0.85, 0.15, 0.2, 0.3, 0.35, 0.75];
        let labels = [0, 0, 0, 0, 1, 1, 1, 1];
        let probabilities: Vec<f32> = p0.iter().flat_map(|p| [*p, 1.0 - p]).collect();
        let found = label_errors(&probabilities, 2, &labels);
        assert_eq!(found.iter().map(|e| (e.position, e.suggested)).collect::<Vec<_>>(), [(3, 1), (7, 0)]);
        assert!((found[0].score - 0.7).abs() < 1e-6 && (found[1].score - 0.5).abs() < 1e-6);
        // Class 1 reaches its threshold, 0.1, but the label is more probable.
        assert_eq!(label_errors(&[0.6, 0.4, 0.9, 0.1, 0.9, 0.1], 2, &[0, 0, 1]).len(), 1);
        // Unsure of every class: no error. A class that no image has is never suggested.
        assert_eq!(label_errors(&[0.4, 0.3, 0.3, 0.1, 0.1, 0.8], 3, &[0, 0]), []);
        assert_eq!(label_errors(&[], 2, &[]), []);
    }
}
