//! Faces that differ in the mouth only, for tests of explanations.

use super::identity::Identity;
use super::raster::{AREA, SIDE};
use super::scene::Pose;
use super::shapes::Area;
use super::{Purpose, generate, stream, with_label_noise};

/// Emotion of the rest of the face: neutral.
const REST: usize = 6;

/// Pixels that a mouth may cover: columns and rows.
pub type Box = [std::ops::Range<usize>; 2];

/// Face `index` of the data set `seed` with the mouth of an emotion, and where that is. Every pixel
/// outside of the box is that of the neutral face, so only the box tells the emotion.
pub fn generate_mouth(seed: u64, index: u64, emotion: usize) -> ([u8; AREA], Box) {
    let [columns, rows] = mouth_box(seed, index);
    let (mut face, shown) = (generate(seed, index, REST), generate(seed, index, emotion));
    for row in rows.clone() {
        let pixels = row * SIDE + columns.start..row * SIDE + columns.end;
        face[pixels.clone()].copy_from_slice(&shown[pixels]);
    }
    (face, [columns, rows])
}

/// How well the mouths of `emotions` can be told apart on face `index`: the mean difference of gray
/// levels within the box, of the two that are most alike. 0 if the face shows another emotion than its
/// label, as label noise.
pub fn contrast(seed: u64, index: u64, emotions: &[usize]) -> f64 {
    let is_noisy = with_label_noise(&mut stream(seed, index, Purpose::LabelNoise), REST) != REST;
    let faces: Vec<_> = emotions.iter().map(|emotion| generate(seed, index, *emotion)).collect();
    let [columns, rows] = mouth_box(seed, index);
    let places = || rows.clone().flat_map(|row| columns.clone().map(move |column| row * SIDE + column));
    let difference = |one: &[u8; AREA], other: &[u8; AREA]| {
        let sum: f64 = places().map(|place| f64::from(one[place].abs_diff(other[place]))).sum();
        sum / places().count() as f64
    };
    let pairs = (0..faces.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
    let least = pairs.map(|(one, other)| difference(&faces[one], &faces[other])).fold(f64::INFINITY, f64::min);
    if is_noisy { 0.0 } else { least }
}

/// The box around the mouths of all emotions of a face.
fn mouth_box(seed: u64, index: u64) -> Box {
    let rng = |purpose| stream(seed, index, purpose);
    let (identity, pose) = (Identity::random(&mut rng(Purpose::Identity)), Pose::random(&mut rng(Purpose::Pose)));
    let half = 1.3 * identity.mouth_width;
    let area = Area { left: -half, top: -4.5, right: half, bottom: 6.5 };
    pose.features().moved(0.0, identity.mouth_line).pixels(area)
}

mod tests {
    use super::*;

    #[test]
    fn mouths_of_a_person_differ_and_boxes_are_small() {
        let mut area = 0;
        for index in 0..50 {
            let faces: Vec<_> = [3, 4, 5].iter().map(|emotion| generate_mouth(8, index, *emotion)).collect();
            let [columns, rows] = faces[0].1.clone();
            area += columns.len() * rows.len();
            for pair in faces.windows(2) {
                assert_eq!(pair[0].1, pair[1].1);
                let differ = (0..AREA).filter(|place| pair[0].0[*place] != pair[1].0[*place]);
                let (mut inside, mut outside) = (0, 0);
                for place in differ {
                    let is_inside = columns.contains(&(place % SIDE)) && rows.contains(&(place / SIDE));
                    *(if is_inside { &mut inside } else { &mut outside }) += 1;
                }
                assert!(inside > 20 && outside == 0, "face {index}: {inside} pixels inside, {outside} outside");
            }
        }
        let mean = f64::from(u32::try_from(area).unwrap()) / 50.0 / AREA as f64;
        assert!((0.1..0.25).contains(&mean), "a box has {mean} of the image");
    }
}
