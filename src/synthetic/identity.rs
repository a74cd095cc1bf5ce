//! A person: everything that does not depend on the emotion.

use super::expression::bell;
use crate::util::rng::Rng;

/// Hairstyle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum HairStyle {
    /// None.
    Bald,
    /// Ends above the ears.
    Short,
    /// Reaches the shoulders.
    Long,
}

/// A person. Lengths are in face units: the head is about 31 wide and 41 high, its center at the
/// origin.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Skin tone, 0 to 1.
    pub(super) skin: f64,
    /// Hair tone, 0 to 1.
    pub(super) hair: f64,
    /// Half of the head's width.
    pub(super) head_width: f64,
    /// Half of the head's height.
    pub(super) head_height: f64,
    /// How much narrower the jaw is than the temples, 0 to 1.
    pub(super) taper: f64,
    /// Hairstyle.
    pub(super) style: HairStyle,
    /// Height of the hairline at its middle (negative is up).
    pub(super) hair_line: f64,
    /// How much lower the hairline is at the temples.
    pub(super) hair_fall: f64,
    /// Sideways offset of the parting.
    pub(super) parting: f64,
    /// Distance of each eye from the middle.
    pub(super) eye_distance: f64,
    /// Height of the eyes.
    pub(super) eye_line: f64,
    /// Half of an eye's width.
    pub(super) eye_width: f64,
    /// Half of an eye's height, about.
    pub(super) eye_height: f64,
    /// How much lower the outer corners of the eyes are.
    pub(super) eye_tilt: f64,
    /// Tone of the irises.
    pub(super) iris: f64,
    /// Radius of the brush that draws the brows.
    pub(super) brow_thickness: f64,
    /// Height of the brows above the eyes.
    pub(super) brow_height: f64,
    /// Half of the nose's width.
    pub(super) nose_width: f64,
    /// Height of the nose's lower end.
    pub(super) nose_end: f64,
    /// Height of the mouth.
    pub(super) mouth_line: f64,
    /// Half of the mouth's width.
    pub(super) mouth_width: f64,
    /// Thickness of each lip.
    pub(super) lips: f64,
    /// The lips' tone, as a factor of the skin's.
    pub(super) lip_tone: f64,
    /// Opacity of the beard on jaw and chin; 0 for none.
    pub(super) beard: f64,
    /// Opacity of the mustache; 0 for none.
    pub(super) mustache: f64,
    /// Whether the person wears glasses.
    pub(super) glasses: bool,
    /// Depth of wrinkles of age, 0 to 1.
    pub(super) age: f64,
}

impl Identity {
    /// A random person.
    pub(super) fn random(rng: &mut Rng) -> Identity {
        let skin = rng.between(0.56, 0.88);
        let gray = rng.uniform() < 0.08;
        let style = match rng.uniform() {
            roll if roll < 0.12 => HairStyle::Bald,
            roll if roll < 0.58 => HairStyle::Short,
            _ => HairStyle::Long,
        };
        let bearded = style != HairStyle::Long && rng.uniform() < 0.2;
        Identity {
            skin,
            hair: if gray { rng.between(0.55, 0.9) } else { skin * rng.between(0.08, 0.5) },
            head_width: 15.6 + 0.8 * bell(rng),
            head_height: 20.2 + 0.8 * bell(rng),
            taper: rng.between(0.08, 0.3),
            style,
            hair_line: rng.between(-16.5, -11.5),
            hair_fall: rng.between(1.0, 7.0),
            parting: rng.between(-7.0, 7.0),
            eye_distance: 6.5 + 0.4 * bell(rng),
            eye_line: -3.6 + 0.5 * bell(rng),
            eye_width: 3.7 + 0.25 * bell(rng),
            eye_height: 1.5 + 0.15 * bell(rng),
            eye_tilt: 0.25 * bell(rng),
            iris: rng.between(0.08, 0.4),
            brow_thickness: rng.between(0.45, 1.0),
            brow_height: 4.9 + 0.4 * bell(rng),
            nose_width: 2.9 + 0.35 * bell(rng),
            nose_end: 4.6 + 0.6 * bell(rng),
            mouth_line: 10.6 + 0.5 * bell(rng),
            mouth_width: 6.3 + 0.4 * bell(rng),
            lips: rng.between(0.7, 1.5),
            lip_tone: rng.between(0.55, 0.9),
            beard: if bearded { rng.between(0.2, 0.85) } else { 0.0 },
            mustache: if bearded && rng.uniform() < 0.7 { rng.between(0.3, 0.9) } else { 0.0 },
            glasses: rng.uniform() < 0.12,
            age: if rng.uniform() < 0.3 { rng.between(0.2, 1.0) } else { 0.0 },
        }
    }
}
