//! Synthetic faces: a generator of schematic portraits, for machines without real data.
//!
//! A face is a pure function of a seed, an index and an emotion. Identity, pose, lighting,
//! background, occlusion and noise do not depend on the emotion: one index with seven emotions is
//! the same person in the same scene.

// No input reaches these indices.
#![allow(clippy::indexing_slicing)]

mod expression;
mod features;
mod identity;
#[cfg(test)]
pub mod mouth;
mod portrait;
mod raster;
mod scene;
mod shapes;

use self::expression::Expression;
use self::identity::Identity;
use self::portrait::Portrait;
use self::raster::{AREA, Canvas};
use self::scene::{Light, Pose, degrade, draw_background, draw_occlusion};
use crate::util::rng::{Rng, Stream};

/// Number of emotions: angry, disgust, fear, happy, sad, surprise, neutral.
pub const EMOTIONS: usize = 7;

/// FER2013's class proportions, rounded; the last class takes the remainder.
const PROPORTIONS: [f64; EMOTIONS] = [0.139, 0.015, 0.143, 0.251, 0.168, 0.110, 0.173];

/// Fraction of faces that show another emotion than their label: label noise as in real data.
const LABEL_NOISE: f64 = 0.04;

/// The purpose of a stream of random numbers: streams of different purposes are independent.
#[derive(Clone, Copy)]
enum Purpose {
    Label,
    LabelNoise,
    Identity,
    Expression,
    Pose,
    Light,
    Background,
    Occlusion,
    Noise,
}

fn stream(seed: u64, index: u64, purpose: Purpose) -> Rng {
    // Elsewhere the stream is the first key. This order stays because the bytes of synthetic images
    // are pinned.
    Rng::new(&[seed, Stream::Synthetic as u64, index, purpose as u64])
}

/// Samples the label of face `index` of the data set `seed` with FER2013's class proportions: 0 to
/// 6 (angry, disgust, fear, happy, sad, surprise, neutral).
pub fn label(seed: u64, index: u64) -> usize {
    let mut rest = stream(seed, index, Purpose::Label).uniform();
    for (emotion, proportion) in PROPORTIONS.into_iter().enumerate() {
        rest -= proportion;
        if rest < 0.0 {
            return emotion;
        }
    }
    EMOTIONS - 1
}

/// Generates face `index` of the data set `seed` with the label `emotion` (0 to 6; larger numbers
/// wrap around): 48x48 gray values 0 to 255, row-major.
///
/// The same arguments give the same bytes on every platform. 4% of the faces show another emotion.
pub fn generate(seed: u64, index: u64, emotion: usize) -> [u8; AREA] {
    let rng = |purpose| stream(seed, index, purpose);
    let emotion = with_label_noise(&mut rng(Purpose::LabelNoise), emotion % EMOTIONS);
    let identity = Identity::random(&mut rng(Purpose::Identity));
    let expression = Expression::random(&mut rng(Purpose::Expression), emotion);
    let pose = Pose::random(&mut rng(Purpose::Pose));
    let light = Light::random(&mut rng(Purpose::Light));
    let mut background = rng(Purpose::Background);
    let mut canvas = Canvas::new(background.between(0.05, 0.9));
    draw_background(&mut canvas, &mut background);
    let portrait = Portrait {
        identity: &identity,
        expression: &expression,
        head: pose.head,
        yaw: pose.yaw,
        light: light.direction,
        clothes: background.between(0.05, 0.9),
    };
    portrait.draw(&mut canvas);
    draw_occlusion(&mut canvas, &mut rng(Purpose::Occlusion), pose.head, identity.skin);
    light.apply(&mut canvas);
    degrade(&mut canvas, &mut rng(Purpose::Noise));
    canvas.bytes()
}

/// The emotion that a face with the label `emotion` shows.
fn with_label_noise(rng: &mut Rng, emotion: usize) -> usize {
    let wrong = rng.uniform() < LABEL_NOISE;
    // A cyclic shift keeps the emotions of one index distinct.
    let step = 1 + (rng.uniform() * (EMOTIONS - 1) as f64) as usize;
    if wrong { (emotion + step) % EMOTIONS } else { emotion }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean gray values of the four quadrants, row by row.
    fn quadrants(face: &[u8; AREA]) -> [f64; 4] {
        let mut sums = [0.0; 4];
        for (i, &gray) in face.iter().enumerate() {
            sums[i / 48 / 24 * 2 + i % 48 / 24] += f64::from(gray);
        }
        sums.map(|sum| sum / 576.0)
    }

    /// FNV-1a.
    fn checksum(face: &[u8; AREA]) -> u64 {
        face.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &gray| (hash ^ u64::from(gray)).wrapping_mul(0x0100_0000_01B3))
    }

    #[test]
    fn pinned_faces_have_the_same_bytes() {
        let pinned = [
            (0, 3, [102.3, 138.0, 130.8, 171.6], 0x566C_8D88_11E4_9F98),
            (1, 0, [121.1, 130.4, 112.0, 114.9], 0xF360_7E0F_F9F4_BC4D),
            (2, 5, [106.9, 84.1, 100.8, 86.1], 0x0630_8CC3_928B_BAB4),
        ];
        for (index, emotion, means, hash) in pinned {
            let face = generate(7, index, emotion);
            let found = quadrants(&face);
            let close = found.iter().zip(means).all(|(a, b)| (a - b).abs() < 0.5);
            assert!(close, "quadrant means of face {index} are {found:.1?}, expected {means:?}");
            assert_eq!(checksum(&face), hash, "the pixels of face {index} changed");
        }
    }

    #[test]
    fn a_face_is_a_function_of_its_arguments() {
        assert_eq!(generate(1, 2, 3), generate(1, 2, 3));
        assert_eq!(generate(1, 2, 3), generate(1, 2, 3 + EMOTIONS));
        assert_ne!(generate(1, 2, 3), generate(2, 2, 3));
        assert_ne!(generate(1, 2, 3), generate(1, 3, 3));
    }

    #[test]
    fn emotions_of_one_person_differ() {
        for index in 0..30 {
            let faces: Vec<_> = (0..EMOTIONS).map(|emotion| generate(4, index, emotion)).collect();
            for (i, face) in faces.iter().enumerate() {
                assert!(faces[..i].iter().all(|other| other != face), "two emotions of face {index} are equal");
            }
        }
    }

    #[test]
    fn labels_have_the_proportions_of_fer2013() {
        let n = 20_000;
        let mut counts = [0.0; EMOTIONS];
        for index in 0..n {
            counts[label(3, index)] += 1.0;
        }
        for (emotion, (count, proportion)) in counts.into_iter().zip(PROPORTIONS).enumerate() {
            let expected = proportion * n as f64;
            let error: f64 = count - expected;
            // Four standard deviations, plus the rounding error of the proportions.
            let bound = 4.0 * (expected * (1.0 - proportion)).sqrt() + 0.001 * n as f64;
            assert!(error.abs() < bound, "{count} labels {emotion}, expected {expected}");
        }
    }

    #[test]
    fn label_noise_has_its_rate_and_keeps_emotions_distinct() {
        let n = 20_000;
        let noisy = |index, emotion| with_label_noise(&mut stream(9, index, Purpose::LabelNoise), emotion);
        let wrong = (0..n).filter(|&index| noisy(index, 2) != 2).count();
        let rate = wrong as f64 / n as f64;
        assert!((rate - LABEL_NOISE).abs() < 0.006, "{rate} of the faces show another emotion");
        for index in 0..1000 {
            let mut counts = [0; EMOTIONS];
            for emotion in 0..EMOTIONS {
                counts[noisy(index, emotion)] += 1;
            }
            assert_eq!(counts, [1; EMOTIONS], "two emotions of face {index} are the same");
        }
    }

    #[test]
    fn faces_use_the_full_range_of_gray_values() {
        let (mut darkest, mut lightest) = (u8::MAX, 0);
        for index in 0..300 {
            let face = generate(11, index, label(11, index));
            let (low, high) = face.iter().fold((u8::MAX, 0), |(low, high), &gray| (low.min(gray), high.max(gray)));
            assert!(high - low > 40, "face {index} has gray values {low} to {high} only");
            (darkest, lightest) = (darkest.min(low), lightest.max(high));
        }
        assert!(darkest < 5 && lightest > 250, "gray values range from {darkest} to {lightest}");
    }
}
