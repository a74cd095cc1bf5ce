//! Expressions as intensities of facial actions, after the Facial Action Coding System (Ekman and
//! Friesen 1978).

use super::EMOTIONS;
use crate::util::rng::Rng;

/// A facial action. Lengths are in face units (about a pixel); fractions are 0 to 1 at full
/// strength.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// Brows up (length).
    BrowRaise,
    /// Inner ends of the brows down, outer ends up (length).
    BrowSlope,
    /// Middle of the brows up (length).
    BrowArch,
    /// Brows toward each other (length).
    BrowPinch,
    /// Upper lids up (fraction of the eye's height; negative closes).
    LidRaise,
    /// Lower lids and cheeks up (fraction).
    Squint,
    /// Outer corners of the eyes down (length).
    Droop,
    /// Gaze down (length).
    GazeDown,
    /// Wrinkles across the bridge of the nose (fraction).
    NoseWrinkle,
    /// Vertical furrows between the brows (fraction).
    Furrow,
    /// Lines across the forehead (fraction).
    ForeheadLines,
    /// Corners of the mouth up, relative to its middle (length).
    Smile,
    /// Lips apart (length).
    MouthOpen,
    /// Mouth wider (fraction of its width).
    MouthWide,
    /// Teeth visible in an open mouth (fraction).
    Teeth,
    /// Upper lip up (length).
    Sneer,
    /// Lips pressed thin (fraction).
    LipPress,
    /// Folds from the nose to the corners of the mouth (fraction).
    CheekFold,
    /// One corner of the mouth lower than the other (length).
    Skew,
}

use Action::{
    BrowArch, BrowPinch, BrowRaise, BrowSlope, CheekFold, Droop, ForeheadLines, Furrow, GazeDown, LidRaise, LipPress,
    MouthOpen, MouthWide, NoseWrinkle, Skew, Smile, Sneer, Squint, Teeth,
};

const ACTIONS: usize = Skew as usize + 1;

/// A display of an emotion: its actions at full strength; all others are 0.
type Display = &'static [(Action, f64)];

/// Displays of each emotion: there are several ways to show one.
const DISPLAYS: [&[Display]; EMOTIONS] = [ANGRY, DISGUST, FEAR, HAPPY, SAD, SURPRISE, NEUTRAL];

const ANGRY: &[Display] = &[
    &[
        (BrowRaise, -1.9),
        (BrowSlope, 2.7),
        (BrowPinch, 1.3),
        (LidRaise, -0.15),
        (Squint, 0.35),
        (Furrow, 1.0),
        (LipPress, 0.8),
        (Smile, -1.5),
        (MouthWide, -0.08),
    ],
    &[
        (BrowRaise, -1.5),
        (BrowSlope, 2.9),
        (BrowPinch, 1.2),
        (LidRaise, 0.15),
        (Squint, 0.2),
        (Furrow, 0.9),
        (MouthOpen, 4.6),
        (MouthWide, 0.1),
        (Teeth, 1.0),
        (Smile, -1.2),
        (Sneer, 0.6),
        (CheekFold, 0.6),
        (NoseWrinkle, 0.3),
    ],
];
const DISGUST: &[Display] = &[
    &[
        (BrowRaise, -1.3),
        (BrowSlope, 1.2),
        (BrowPinch, 0.6),
        (LidRaise, -0.35),
        (Squint, 0.8),
        (NoseWrinkle, 1.0),
        (Sneer, 1.7),
        (Smile, -1.4),
        (CheekFold, 1.0),
        (Skew, 0.6),
    ],
    &[
        (BrowRaise, -1.0),
        (BrowSlope, 0.9),
        (LidRaise, -0.45),
        (Squint, 0.9),
        (NoseWrinkle, 1.0),
        (MouthOpen, 2.6),
        (Teeth, 0.5),
        (Sneer, 1.5),
        (Smile, -1.8),
        (CheekFold, 0.9),
        (Skew, -0.6),
    ],
];
const FEAR: &[Display] = &[
    &[
        (BrowRaise, 1.6),
        (BrowSlope, -2.0),
        (BrowPinch, 1.0),
        (LidRaise, 0.6),
        (ForeheadLines, 0.6),
        (Furrow, 0.4),
        (MouthOpen, 2.4),
        (MouthWide, 0.28),
        (Smile, -1.3),
        (Teeth, 0.9),
        (CheekFold, 0.3),
    ],
    &[
        (BrowRaise, 2.0),
        (BrowSlope, -1.8),
        (BrowPinch, 0.9),
        (LidRaise, 0.65),
        (ForeheadLines, 0.7),
        (MouthOpen, 4.6),
        (MouthWide, 0.0),
        (Smile, -1.0),
        (Teeth, 0.3),
    ],
];
const HAPPY: &[Display] = &[
    &[(BrowRaise, 0.3), (LidRaise, -0.1), (Squint, 0.5), (Smile, 2.9), (MouthWide, 0.25), (CheekFold, 0.7)],
    &[
        (BrowRaise, 0.4),
        (LidRaise, -0.2),
        (Squint, 0.7),
        (Smile, 3.1),
        (MouthOpen, 3.2),
        (MouthWide, 0.32),
        (Teeth, 1.0),
        (CheekFold, 1.0),
    ],
    &[
        (BrowRaise, 0.8),
        (LidRaise, -0.35),
        (Squint, 0.9),
        (Smile, 3.0),
        (MouthOpen, 5.6),
        (MouthWide, 0.25),
        (Teeth, 0.8),
        (CheekFold, 1.0),
    ],
];
const SAD: &[Display] = &[
    &[
        (BrowSlope, -2.3),
        (BrowPinch, 0.5),
        (BrowRaise, 0.2),
        (LidRaise, -0.3),
        (Droop, 0.9),
        (GazeDown, 0.5),
        (Smile, -2.3),
        (MouthWide, -0.08),
        (ForeheadLines, 0.3),
    ],
    &[
        (BrowSlope, -2.2),
        (BrowPinch, 0.9),
        (LidRaise, -0.55),
        (Squint, 0.7),
        (Droop, 0.8),
        (Smile, -2.8),
        (MouthOpen, 2.0),
        (CheekFold, 0.7),
        (Furrow, 0.4),
    ],
];
const SURPRISE: &[Display] = &[
    &[(BrowRaise, 3.0), (BrowArch, 1.2), (LidRaise, 0.65), (ForeheadLines, 0.6), (MouthOpen, 6.2), (MouthWide, -0.38)],
    &[
        (BrowRaise, 2.7),
        (BrowArch, 1.1),
        (LidRaise, 0.55),
        (ForeheadLines, 0.5),
        (MouthOpen, 3.0),
        (MouthWide, -0.35),
        (Teeth, 0.2),
    ],
];
const NEUTRAL: &[Display] = &[&[]];

/// The emotions that each emotion is most often mixed or confused with.
const NEIGHBORS: [&[usize]; EMOTIONS] =
    [&[1, 4, 6], &[0, 4], &[5, 5, 4], &[6, 5], &[6, 6, 2, 0], &[2, 2, 3], &[4, 4, 0, 3]];

/// Approximate standard deviations of the actions among faces of the same emotion.
const VARIATION: [(Action, f64); 14] = [
    (BrowRaise, 0.6),
    (BrowSlope, 0.5),
    (BrowArch, 0.35),
    (BrowPinch, 0.3),
    (LidRaise, 0.13),
    (Squint, 0.15),
    (Droop, 0.3),
    (GazeDown, 0.25),
    (Furrow, 0.15),
    (Smile, 0.55),
    (MouthOpen, 0.35),
    (MouthWide, 0.08),
    (LipPress, 0.15),
    (Skew, 0.3),
];

/// Intensities of all actions of a face.
#[derive(Clone, Debug)]
pub(super) struct Expression([f64; ACTIONS]);

impl Expression {
    /// A random expression of `emotion` (0 to 6).
    pub(super) fn random(rng: &mut Rng, emotion: usize) -> Expression {
        let mut intensities = Expression([0.0; ACTIONS]);
        // Nearly half of all faces are weak, some of them near neutral.
        let weak = rng.uniform() < 0.45;
        let strength = if weak { rng.between(0.1, 0.7) } else { rng.between(0.8, 1.25) };
        let mixed = rng.uniform();
        // The second emotion stays below one half, or the label would be wrong.
        let fraction = if mixed < 0.45 { rng.between(0.0, 0.5) } else { 0.0 };
        let neighbors = NEIGHBORS.get(emotion).copied().unwrap_or(&[6]);
        let neighbor = choose(rng, neighbors).copied().unwrap_or(6);
        intensities.add_display(rng, emotion, strength * (1.0 - fraction));
        intensities.add_display(rng, neighbor, strength * fraction);
        for (action, deviation) in VARIATION {
            intensities.0[action as usize] += deviation * bell(rng);
        }
        intensities
    }

    /// The intensity of `action`.
    pub(super) fn get(&self, action: Action) -> f64 {
        self.0[action as usize]
    }

    /// The intensity of `action`, or 0 if variation made it negative.
    pub(super) fn positive(&self, action: Action) -> f64 {
        self.get(action).max(0.0)
    }

    fn add_display(&mut self, rng: &mut Rng, emotion: usize, strength: f64) {
        let displays = DISPLAYS.get(emotion).copied().unwrap_or(NEUTRAL);
        for &(action, intensity) in choose(rng, displays).copied().unwrap_or(&[]) {
            // Actions vary independently: a strong smile may come with weak cheek folds.
            self.0[action as usize] += intensity * strength * rng.between(0.7, 1.2);
        }
    }
}

/// Chooses a random element.
fn choose<'a, T>(rng: &mut Rng, elements: &'a [T]) -> Option<&'a T> {
    let index = rng.uniform() * elements.len() as f64;
    elements.get(index as usize)
}

/// A bell-shaped random number in -3 to 3 with mean 0 and variance 1 (Irwin-Hall). It uses
/// additions only, so it is the same on every platform.
pub(super) fn bell(rng: &mut Rng) -> f64 {
    2.0 * (rng.uniform() + rng.uniform() + rng.uniform() - 1.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(emotion: usize, action: Action) -> f64 {
        let intensities = (0..500).map(|key| Expression::random(&mut Rng::new(&[key]), emotion).get(action));
        intensities.sum::<f64>() / 500.0
    }

    #[test]
    fn emotions_differ_in_their_actions() {
        for (emotion, action, min) in [(0, BrowSlope, 1.0), (1, NoseWrinkle, 0.4), (3, Smile, 1.2), (5, MouthOpen, 2.0)]
        {
            let (found, neutral) = (mean(emotion, action), mean(6, action));
            assert!(found - neutral > min, "{action:?} of emotion {emotion}: {found}, of neutral faces {neutral}");
        }
        for (emotion, action) in [(2, BrowSlope), (4, Smile)] {
            assert!(mean(emotion, action) < -0.7, "{action:?} of emotion {emotion}: {}", mean(emotion, action));
        }
    }

    #[test]
    fn bell_has_mean_0_and_variance_1() {
        let mut rng = Rng::new(&[5]);
        let values: Vec<f64> = (0..20_000).map(|_| bell(&mut rng)).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "mean {mean}, variance {variance}");
        assert!(values.iter().all(|value| value.abs() <= 3.0));
    }
}
