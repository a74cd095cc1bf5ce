//! The arithmetic of the forward pass: products of float32 values, or of bfloat16 pairs.

use std::marker::PhantomData;

use simd::{Bf16Vector, Vector};

use crate::Element;

/// How values in memory are multiplied.
pub(super) trait Dot {
    /// The sums.
    type Vector: Vector;
    /// A value in memory.
    type Value: Copy + Default + 'static;
    /// `WIDTH` weights for each lane.
    type Weights: Copy;
    /// `WIDTH` values of the input, the same in every lane.
    type Input: Copy;
    /// Consecutive values that one instruction multiplies and adds.
    const WIDTH: usize;

    /// Loads weights.
    ///
    /// # Safety
    /// `WIDTH` times as many values as the vector has lanes must be readable.
    #[allow(unsafe_code)]
    unsafe fn load_weights(from: *const Self::Value) -> Self::Weights;

    /// Loads values of the input.
    ///
    /// # Safety
    /// `WIDTH` values must be readable.
    #[allow(unsafe_code)]
    unsafe fn load_input(from: *const Self::Value) -> Self::Input;

    /// Adds the products to `sum`, lane by lane.
    fn dot(weights: Self::Weights, input: Self::Input, sum: Self::Vector) -> Self::Vector;

    /// `values`, if they are as in memory.
    fn borrow<E: Element>(values: &[E]) -> Option<&[Self::Value]>;

    /// Converts values.
    fn copy<E: Element>(from: &[E], to: &mut [Self::Value]);
}

/// float32, one value at a time.
pub(super) struct Floats<V>(PhantomData<V>);

impl<V: Vector> Dot for Floats<V> {
    type Vector = V;
    type Value = f32;
    type Weights = V;
    type Input = V;
    const WIDTH: usize = 1;

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn load_weights(from: *const f32) -> V {
        // SAFETY: as promised.
        unsafe { V::load_from(from) }
    }

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn load_input(from: *const f32) -> V {
        // SAFETY: as promised.
        V::splat(unsafe { *from })
    }

    #[inline(always)]
    fn dot(weights: V, input: V, sum: V) -> V {
        weights.mul_add(input, sum)
    }

    #[inline(always)]
    fn borrow<E: Element>(values: &[E]) -> Option<&[f32]> {
        E::as_f32(values)
    }

    #[inline(always)]
    fn copy<E: Element>(from: &[E], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_f32();
        }
    }
}

/// The bits of bfloat16, two values at a time.
pub(super) struct Pairs<V>(PhantomData<V>);

impl<V: Bf16Vector> Dot for Pairs<V> {
    type Vector = V;
    type Value = u16;
    type Weights = V::Pairs;
    type Input = V::Pairs;
    const WIDTH: usize = 2;

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn load_weights(from: *const u16) -> V::Pairs {
        // SAFETY: as promised.
        unsafe { V::load_pairs(from) }
    }

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn load_input(from: *const u16) -> V::Pairs {
        // SAFETY: as promised.
        unsafe { V::splat_pair(from) }
    }

    #[inline(always)]
    fn dot(weights: V::Pairs, input: V::Pairs, sum: V) -> V {
        sum.add_products(weights, input)
    }

    #[inline(always)]
    fn borrow<E: Element>(values: &[E]) -> Option<&[u16]> {
        E::as_bf16(values)
    }

    #[inline(always)]
    fn copy<E: Element>(from: &[E], to: &mut [u16]) {
        match E::as_bf16(from) {
            Some(bits) => to.copy_from_slice(bits),
            None => to.iter_mut().zip(from).for_each(|(to, from)| *to = simd::round_to_bf16(from.to_f32())),
        }
    }
}
