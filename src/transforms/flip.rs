//! `augment.flip`: when images are flipped horizontally.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::util::flag_or_name::FlagOrName;
use crate::util::rng::Rng;

/// `augment.flip`: `true`, `false` or `"alternating"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flip {
    /// Never.
    Off,
    /// With probability 1/2; Keras' `horizontal_flip`.
    Random,
    /// In every other epoch: half of the images in the even ones, the other half in the odd ones. Two
    /// epochs have each image both ways, and none twice the same way (Jordan 2024, "94% on CIFAR-10 in
    /// 3.29 Seconds on a Single GPU").
    Alternating,
}

impl Flip {
    /// Whether an image is flipped in `epoch`, from 0. `rng` gives the stream of its flip in an epoch.
    pub fn is_flipped(self, epoch: u64, rng: impl Fn(u64) -> Rng) -> bool {
        let coin = |epoch| rng(epoch).uniform() < 0.5;
        match self {
            Self::Off => false,
            Self::Random => coin(epoch),
            Self::Alternating => coin(0) == epoch.is_multiple_of(2),
        }
    }
}

const VALUES: FlagOrName<Flip> =
    FlagOrName { off: Flip::Off, on: Flip::Random, named: ("alternating", Flip::Alternating) };

impl Serialize for Flip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        VALUES.serialize(*self, serializer)
    }
}

impl<'de> Deserialize<'de> for Flip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        VALUES.deserialize(deserializer)
    }
}

impl schemars::JsonSchema for Flip {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Flip".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        VALUES.json_schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images 0 to 999 that are flipped in an epoch.
    fn flipped(flip: Flip, epoch: u64) -> Vec<u64> {
        (0..1000).filter(|row| flip.is_flipped(epoch, |epoch| Rng::new(&[epoch, *row]))).collect()
    }

    #[test]
    fn alternating_flips_each_image_in_every_other_epoch() {
        let [first, second, third] = [0, 1, 2].map(|epoch| flipped(Flip::Alternating, epoch));
        assert!((450..550).contains(&first.len()), "{}", first.len());
        assert_eq!(first, third);
        assert!((0..1000).all(|row| first.contains(&row) != second.contains(&row)));
    }

    #[test]
    fn random_flips_half_of_the_images_in_every_epoch() {
        let [first, second] = [0, 1].map(|epoch| flipped(Flip::Random, epoch));
        let both = first.iter().filter(|row| second.contains(row)).count();
        assert!((450..550).contains(&first.len()) && (200..300).contains(&both), "{} {both}", first.len());
        assert_eq!(flipped(Flip::Off, 1).len(), 0);
    }
}
