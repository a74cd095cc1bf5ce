//! Receiver operating characteristic (ROC) of a class against all others, and the area under it.

/// The curve of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct RocCurve {
    /// False positive rate and true positive rate at every distinct threshold, from (0, 0) to (1, 1).
    pub points: Vec<(f64, f64)>,
    /// Area under the curve: the probability that an image of the class has a higher probability of
    /// it than another image, ties counted half (Hanley and McNeil 1982).
    pub auc: f64,
}

/// The curve of `class` by its probabilities; `probabilities` is [N, classes]. As scikit-learn's
/// `roc_curve(drop_intermediate=False)` and `roc_auc_score`. `None` if all images or none are of the
/// class.
pub fn roc_curve(probabilities: &[f32], classes: usize, labels: &[u8], class: usize) -> Option<RocCurve> {
    let rows = probabilities.chunks(classes.max(1)).zip(labels);
    let mut scores: Vec<(f32, bool)> =
        rows.filter_map(|(row, label)| Some((*row.get(class)?, usize::from(*label) == class))).collect();
    scores.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let positives = scores.iter().filter(|(_, positive)| *positive).count();
    let negatives = scores.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (mut points, mut auc) = (vec![(0.0, 0.0)], 0.0);
    let (mut false_positives, mut true_positives) = (0usize, 0usize);
    let mut last = (0.0, 0.0);
    for group in scores.chunk_by(|(a, _), (b, _)| a == b) {
        let hits = group.iter().filter(|(_, positive)| *positive).count();
        true_positives += hits;
        false_positives += group.len() - hits;
        let point = (false_positives as f64 / negatives as f64, true_positives as f64 / positives as f64);
        auc += (point.0 - last.0) * f64::midpoint(point.1, last.1);
        points.push(point);
        last = point;
    }
    Some(RocCurve { points, auc })
}

/// The curves of all classes.
pub fn roc_curves(probabilities: &[f32], classes: usize, labels: &[u8]) -> Vec<Option<RocCurve>> {
    (0..classes).map(|class| roc_curve(probabilities, classes, labels, class)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBABILITIES: [f32; 24] = [
        0.7, 0.2, 0.1, 0.5, 0.3, 0.2, 0.2, 0.6, 0.2, 0.1, 0.2, 0.7, 0.3, 0.3, 0.4, 0.2, 0.5, 0.3, 0.5, 0.25, 0.25, 0.4,
        0.4, 0.2,
    ];
    const LABELS: [u8; 8] = [0, 1, 1, 2, 0, 2, 0, 1];

    /// ```python
    /// p = np.array([.7,.2,.1, .5,.3,.2, .2,.6,.2, .1,.2,.7, .3,.3,.4, .2,.5,.3, .5,.25,.25, .4,.4,.2]).reshape(8, 3)
    /// y = np.array([0, 1, 1, 2, 0, 2, 0, 1])
    /// [roc_auc_score(y == c, p[:, c]) for c in range(3)]
    /// # 0.8333333333333333, 0.8333333333333333, 0.9166666666666666
    /// roc_curve(y == 0, p[:, 0], drop_intermediate=False)[:2]
    /// # 0.0 0.0 0.2 0.4 0.4 0.8 1.0, 0.0 0.3333 0.6667 0.6667 1.0 1.0 1.0
    /// ```
    #[test]
    fn areas_match_scikit_learn() {
        let curves = roc_curves(&PROBABILITIES, 3, &LABELS);
        for (curve, expected) in curves.iter().zip([5.0 / 6.0, 5.0 / 6.0, 11.0 / 12.0]) {
            let auc = curve.as_ref().unwrap().auc;
            assert!((auc - expected).abs() < 1e-9, "{auc} {expected}");
        }
        let first = curves[0].as_ref().unwrap();
        let third = 1.0 / 3.0;
        let expected =
            [(0.0, 0.0), (0.0, third), (0.2, 2.0 * third), (0.4, 2.0 * third), (0.4, 1.0), (0.8, 1.0), (1.0, 1.0)];
        assert_eq!(first.points.len(), expected.len());
        for (found, expected) in first.points.iter().zip(expected) {
            assert!((found.0 - expected.0).abs() < 1e-9 && (found.1 - expected.1).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn a_class_without_images_has_no_curve() {
        assert_eq!(roc_curve(&PROBABILITIES, 3, &[0; 8], 1), None);
        assert_eq!(roc_curve(&PROBABILITIES, 3, &[0; 8], 0), None);
        assert_eq!(roc_curve(&[], 3, &[], 0), None);
        assert_eq!(roc_curve(&[f32::NAN; 6], 3, &[0, 1], 7), None);
        let nan = roc_curve(&[f32::NAN; 6], 3, &[0, 1], 0).unwrap();
        assert!(nan.auc.is_finite());
    }
}
