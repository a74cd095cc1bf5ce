//! Tests of the forest: against linfa, across thread counts, on disk.

use kernels::gini::Mark;
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use ndarray::{Array1, Array2};
use proptest::prelude::*;

use super::config::{Finder, MaxFeatures};
use super::forest_file::Origin;
use super::split_finder::{Histogram, Linfa, Node, Split, SplitFinder};
use super::*;
use crate::data::images::PIXELS;
use crate::util::rng::Rng;

type Rows = DatasetBase<Array2<u8>, Array1<usize>>;

/// Noise with a few features that correlate with the class.
fn rows(count: usize, width: usize, classes: usize, seed: u64) -> Rows {
    let mut rng = Rng::new(&[seed]);
    let labels = Array1::from_shape_fn(count, |_| rng.below(classes as u64) as usize);
    let records = Array2::from_shape_fn((count, width), |(row, feature)| {
        let noise = rng.below(160) as u8;
        if feature % 5 == 0 { noise + (labels[row] * 90 / classes) as u8 } else { noise }
    });
    DatasetBase::new(records, labels)
}

fn fit(rows: &Rows, classes: usize, finder: Finder) -> Forest {
    ForestParams::new(classes, 7).trees(9).finder(finder).fit(rows).unwrap()
}

/// Weighted Gini impurity after a split, in f64, by the definition.
fn gini_after(matrix: &FeatureMatrix<'_>, node: Node<'_>, split: Split) -> f64 {
    let mut parts = [vec![0.0; node.totals.len()], vec![0.0; node.totals.len()]];
    for (row, mark) in node.rows.iter().zip(node.marks) {
        let right = matrix.column(split.feature)[*row as usize] > split.threshold;
        parts[usize::from(right)][usize::from(mark.class())] += f64::from(mark.weight());
    }
    let weight: f64 = parts.iter().flatten().sum();
    let gini = |part: &[f64]| {
        let sum: f64 = part.iter().sum();
        sum * (1.0 - part.iter().map(|count| (count / sum).powi(2)).sum::<f64>())
    };
    parts.iter().map(|part| gini(part)).sum::<f64>() / weight
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// linfa-trees is the reference: the splits may differ, but must be equally good. The tolerance
    /// is linfa's float32.
    #[test]
    fn both_finders_find_equally_good_splits(
        (count, width, classes) in (2usize..500, 1usize..40, 2usize..=9),
        step in prop_oneof![Just(1u8), Just(40), Just(255)],
        seed in any::<u64>(),
    ) {
        let mut rows = rows(count, width, classes, seed);
        rows.records.mapv_inplace(|value| value / step * step);
        let matrix = FeatureMatrix::new(&rows, classes).unwrap();
        // A sample of the rows with multiplicities.
        let mut rng = Rng::new(&[seed, 1]);
        let sampled: Vec<u32> = (0..count as u32).filter(|_| rng.below(3) > 0).collect();
        let marks: Vec<Mark> =
            sampled.iter().map(|row| Mark::new(matrix.labels()[*row as usize], 1 + rng.below(3) as u32)).collect();
        let mut totals = vec![0; classes];
        marks.iter().for_each(|mark| totals[usize::from(mark.class())] += mark.weight());
        prop_assume!(totals.iter().filter(|total| **total > 0).count() > 1);
        let node = Node { rows: &sampled, marks: &marks, totals: &totals };
        let features: Vec<u16> = (0..width as u16).rev().collect();
        let ours = Histogram::new(classes).find(&matrix, node, &features).unwrap();
        let theirs = Linfa.find(&matrix, node, &features).unwrap();
        let weight: f64 = totals.iter().copied().map(f64::from).sum();
        let before = 1.0 - totals.iter().map(|total| (f64::from(*total) / weight).powi(2)).sum::<f64>();
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                let (ours, theirs) = (gini_after(&matrix, node, ours), gini_after(&matrix, node, theirs));
                prop_assert!((ours - theirs).abs() < 1e-5, "ours {ours}, linfa's {theirs}");
            }
            // linfa ignores splits that hardly decrease the impurity.
            (Some(ours), None) => prop_assert!(before - gini_after(&matrix, node, ours) < 1e-5),
            (None, None) => {}
            (None, Some(theirs)) => prop_assert!(false, "only linfa found a split: {theirs:?}"),
        }
    }
}

#[test]
fn large_and_small_nodes_have_optimal_splits() {
    // Node sizes on both sides of each threshold, to cover every way to read and count.
    let rows = rows(5000, 60, 7, 3);
    let matrix = FeatureMatrix::new(&rows, 7).unwrap();
    let features: Vec<u16> = (0..60).collect();
    for step in [1usize, 2, 17, 30, 400] {
        let sampled: Vec<u32> = (0..5000).step_by(step).map(|row| row as u32).collect();
        let marks: Vec<Mark> = sampled.iter().map(|row| Mark::new(matrix.labels()[*row as usize], 1)).collect();
        let mut totals = vec![0; 7];
        marks.iter().for_each(|mark| totals[usize::from(mark.class())] += 1);
        let node = Node { rows: &sampled, marks: &marks, totals: &totals };
        let found = Histogram::new(7).find(&matrix, node, &features).unwrap().unwrap();
        let every = features.iter().flat_map(|feature| (0..255).map(move |threshold| (*feature, threshold)));
        let best = every
            .map(|(feature, threshold)| gini_after(&matrix, node, Split { feature, threshold }))
            .filter(|gini| gini.is_finite())
            .fold(1.0, f64::min);
        let gini = gini_after(&matrix, node, found);
        assert!((gini - best).abs() < 1e-6, "{} rows: {gini}, the best is {best}", sampled.len());
    }
}

#[test]
fn trees_are_grown_to_pure_leaves() {
    let rows = rows(400, 20, 5, 11);
    let one = ForestParams::new(5, 1).trees(1).fit(&rows).unwrap();
    let leaves = |tree: &Tree| tree.counts().len() / 5;
    assert_eq!(leaves(&one.trees()[0]), 5, "all leaves are pure");
    // One tree fits its bootstrap sample, two thirds of the rows, exactly, and some of the others.
    let predicted: Array1<usize> = one.predict(&rows.records);
    let correct = predicted.iter().zip(&rows.targets).filter(|(guess, truth)| guess == truth).count();
    assert!(correct > 250, "{correct} of 400");
    // Nine trees correct most of its errors.
    let predicted: Array1<usize> = fit(&rows, 5, Finder::Histogram).predict(&rows.records);
    let correct = predicted.iter().zip(&rows.targets).filter(|(guess, truth)| guess == truth).count();
    assert!(correct > 370, "{correct} of 400");
    assert!((one.importance().iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn equal_rows_with_different_labels_share_a_leaf() {
    let records = Array2::from_shape_fn((40, 6), |(row, feature)| if row < 20 { feature as u8 } else { 100 });
    let labels = Array1::from_shape_fn(40, |row| if row < 20 { row % 2 } else { 2 });
    let rows = DatasetBase::new(records, labels);
    for finder in [Finder::Histogram, Finder::Linfa] {
        let forest =
            ForestParams::new(3, 5).trees(50).max_features(MaxFeatures::Count(1)).finder(finder).fit(&rows).unwrap();
        let probabilities = forest.probabilities(&[0, 1, 2, 3, 4, 5]);
        assert!((probabilities[0] - 0.5).abs() < 0.1 && probabilities[2] == 0.0, "{finder:?}: {probabilities:?}");
        assert!(forest.probabilities(&[100; 6])[2] > 0.999);
    }
}

#[test]
fn constant_features_are_skipped() {
    // With 59 constant features almost every node has to sample further ones.
    let mut rows = rows(300, 60, 2, 9);
    rows.records.columns_mut().into_iter().skip(1).for_each(|mut column| column.fill(7));
    let labels = rows.targets.clone();
    rows.records.column_mut(0).iter_mut().zip(&labels).for_each(|(value, label)| *value = *label as u8 * 3);
    for finder in [Finder::Histogram, Finder::Linfa] {
        let forest =
            ForestParams::new(2, 1).trees(3).max_features(MaxFeatures::Count(1)).finder(finder).fit(&rows).unwrap();
        assert_eq!(forest.nodes(), 9, "{finder:?}: one split each");
        let predicted: Array1<usize> = forest.predict(&rows.records);
        assert_eq!(predicted, labels);
    }
}

#[test]
fn votes_are_averaged_and_ties_go_to_the_lower_class() {
    let leaf = |next| tree::TreeNode { next, feature: tree::LEAF, threshold: 0 };
    let stump = |left, right| {
        let root = tree::TreeNode { next: 1, feature: 0, threshold: 10 };
        Tree::from_parts(vec![root, leaf(left), leaf(right)], vec![1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 3], 3)
    };
    let forest = Forest { trees: vec![stump(1, 0), stump(0, 3)], classes: 3, importance: vec![1.0] };
    // Row 3 of the counts: a quarter of class 0, three quarters of class 2.
    assert_eq!(forest.probabilities(&[10, 11]), [0.5, 0.5, 0.0, 0.625, 0.0, 0.375]);
    let predictions = forest.predictions(&[10, 11]);
    assert_eq!(predictions.predicted(), [0, 0]);
    assert!(predictions.logits.iter().all(|logit| logit.is_finite()));
}

#[test]
fn the_forest_is_independent_of_the_number_of_threads() {
    let rows = rows(900, 48, 7, 21);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fit(&rows, 7, Finder::Histogram))
    };
    assert!(with(1) == with(3) && with(3) == fit(&rows, 7, Finder::Histogram));
    assert!(
        fit(&rows, 7, Finder::Histogram) != ForestParams::new(7, 8).trees(9).fit(&rows).unwrap(),
        "another seed is another forest"
    );
}

#[test]
fn a_callback_stops_the_fit() {
    struct StopAfterTwo(std::sync::atomic::AtomicUsize);
    impl FitCallback for StopAfterTwo {
        fn on_tree_fitted(&self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        fn should_stop(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::SeqCst) >= 2
        }
    }
    let config: crate::forest::config::ForestConfig =
        crate::config::from_text("name = \"x\"\n[data]\ntrain = \"x.csv\"\n[forest]\n", "x").unwrap();
    let callback = StopAfterTwo(0.into());
    let stopped = ForestParams::from_config(&config, &callback).fit(&rows(200, 10, 7, 2));
    assert!(matches!(stopped, Err(ForestError::Stopped)));
}

#[test]
fn parameters_out_of_range_are_refused() {
    let rows = rows(20, 4, 3, 1);
    let refused = |params: ForestParams<'_>| params.fit(&rows).unwrap_err().to_string();
    assert!(refused(ForestParams::new(3, 1).trees(0)).contains("0 trees; expected at least 1"));
    assert!(refused(ForestParams::new(0, 1)).contains("0 classes"));
    assert!(refused(ForestParams::new(3, 1).max_features(MaxFeatures::Count(0))).contains("0 features at a node"));
    assert!(refused(ForestParams::new(2, 1)).contains("labels below 2"));
}

const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[forest]\n";

fn stored() -> (Forest, Origin) {
    let forest = fit(&rows(60, PIXELS, 7, 4), 7, Finder::Histogram);
    (forest, Origin { data_hash: "d".into(), split_hash: "s".into() })
}

#[test]
fn a_forest_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forest.safetensors");
    let (forest, origin) = stored();
    save(&path, &forest, CONFIG, &origin).unwrap();
    let (back, config, from) = load(&path).unwrap();
    assert!(back == forest && config.name == "x" && from == origin);
    let complete = fs_err::read(&path).unwrap();
    for position in (0..complete.len()).step_by(397) {
        let mut bytes = complete.clone();
        bytes[position] ^= 4;
        assert!(forest_file::from_bytes(&bytes).is_err(), "byte {position} changed");
        assert!(forest_file::from_bytes(&complete[..position]).is_err(), "cut to {position} bytes");
    }
    fs_err::write(&path, &complete[..999]).unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(
        message.contains("forest.safetensors: not a usable forest") && message.contains("fit it again"),
        "{message}"
    );
}

#[test]
fn an_invalid_forest_is_refused() {
    let message = |change: fn(&mut Vec<tree::TreeNode>, &mut Vec<u32>)| {
        let (mut forest, origin) = stored();
        let first = &forest.trees[1];
        let (mut nodes, mut counts) = (first.nodes().to_vec(), first.counts().to_vec());
        change(&mut nodes, &mut counts);
        forest.trees[1] = Tree::from_parts(nodes, counts, 7);
        format!("{:#}", forest_file::from_bytes(&forest_file::to_bytes(&forest, CONFIG, &origin).unwrap()).unwrap_err())
    };
    assert!(
        message(|nodes, _| nodes[0].next = 0).contains("tree 2: node 0: the child or leaf index is invalid"),
        "a cycle"
    );
    assert!(
        message(|nodes, _| nodes[0].next = nodes.len() as u32 - 1)
            .contains("node 0: the child or leaf index is invalid")
    );
    assert!(
        message(|nodes, _| nodes[0].feature = PIXELS as u16).contains("node 0: the child or leaf index is invalid")
    );
    assert!(
        message(|nodes, _| nodes.last_mut().unwrap().next = 7).contains("the child or leaf index is invalid"),
        "no such leaf"
    );
    assert!(message(|nodes, _| nodes.clear()).contains("has no nodes"));
    assert!(message(|_, counts| counts[0] = 0).contains("has a leaf without counts"));
    let (mut forest, origin) = stored();
    forest.importance = vec![f64::NAN; PIXELS];
    let bytes = forest_file::to_bytes(&forest, CONFIG, &origin).unwrap();
    assert!(forest_file::from_bytes(&bytes).unwrap_err().to_string().contains("importances"));
    let (forest, origin) = stored();
    let other = CONFIG.replace("[forest]", "classes = [\"a\", \"b\"]\n[forest]");
    let bytes = forest_file::to_bytes(&forest, &other, &origin).unwrap();
    assert!(forest_file::from_bytes(&bytes).unwrap_err().to_string().contains("expected U32 with 2 in a row"));
}
