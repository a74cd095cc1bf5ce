//! Dtypes of images, activations and their gradients: float32 and bfloat16.

use half::bf16;

use crate::simd::Dot;

/// A dtype that kernels read and write; they compute in `f32`.
pub trait Element: Dot + Default + Send + Sync + 'static {
    /// Converts to `f32`, exactly.
    fn to_f32(self) -> f32;
    /// Rounds to the nearest value of this dtype, ties to even.
    fn from_f32(value: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

// The conversions of the crate `half` branch, which prevents vectorization of loops over them.
impl Element for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        // Adds half of the last kept place, less one bit for ties when that place is even.
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // Rounding must not carry a NaN into infinity.
        Self::from_bits(if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded as u16 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounding_matches_the_half_crate() {
        let corner_cases =
            [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7f7f_ffff, 0x7f80_0000, 0x7fff_ffff, 0x7f80_0001, 0xff80_0000];
        for bits in (0..u32::MAX - 65_521).step_by(65_521).chain(corner_cases) {
            let value = f32::from_bits(bits);
            let ours = <bf16 as Element>::from_f32(value);
            assert_eq!(ours.to_bits(), bf16::from_f32(value).to_bits(), "{value} {bits:x}");
            assert!(value.is_nan() == Element::to_f32(ours).is_nan());
        }
    }
}
