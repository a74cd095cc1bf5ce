//! Dtypes of images, activations and their gradients: float32 and bfloat16.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use simd::{Task, Vector};

use crate::isa;

/// A dtype that kernels read and write; they compute in `f32`.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Converts to `f32`, exactly.
    fn to_f32(self) -> f32;

    /// Rounds to the nearest value of this dtype, ties to even.
    fn from_f32(value: f32) -> Self;

    /// `values`, if this is float32.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;

    /// The bits of `values`, if this is bfloat16.
    fn as_bf16(values: &[Self]) -> Option<&[u16]>;

    /// Loads lanes, converted exactly.
    #[doc(hidden)]
    fn load<V: Vector>(from: &[Self]) -> V;

    /// Stores the lanes of `values` to `to`, rounded to nearest, ties to even.
    #[doc(hidden)]
    fn store<V: Vector>(values: V, to: &mut [Self]);

    /// Runs `task`, which stores values of this dtype, with the instruction set of the kernels.
    #[doc(hidden)]
    fn run<T: Task>(task: T) -> T::Output;
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

    #[inline(always)]
    fn as_f32(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }

    #[inline(always)]
    fn as_bf16(_: &[Self]) -> Option<&[u16]> {
        None
    }

    #[inline(always)]
    fn load<V: Vector>(from: &[Self]) -> V {
        V::load(from)
    }

    #[inline(always)]
    fn store<V: Vector>(values: V, to: &mut [Self]) {
        values.store(to);
    }

    fn run<T: Task>(task: T) -> T::Output {
        simd::run(isa(), task)
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
        Self::from_bits(simd::round_to_bf16(value))
    }

    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn as_bf16(values: &[Self]) -> Option<&[u16]> {
        Some(values.reinterpret_cast())
    }

    #[inline(always)]
    fn load<V: Vector>(from: &[Self]) -> V {
        // SAFETY: `bf16` is a transparent wrapper of its bits.
        #[allow(unsafe_code)]
        let bits = unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<u16>(), from.len()) };
        V::load_bf16(bits)
    }

    #[inline(always)]
    fn store<V: Vector>(values: V, to: &mut [Self]) {
        // SAFETY: `bf16` is a transparent wrapper of its bits. This is inlined into a task in any case,
        // which the conversion of the crate `half` need not be.
        #[allow(unsafe_code)]
        let bits = unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast::<u16>(), to.len()) };
        values.store_bf16(bits);
    }

    fn run<T: Task>(task: T) -> T::Output {
        simd::run_with_bf16(isa(), task)
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
