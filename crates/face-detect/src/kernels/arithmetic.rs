//! How values in memory are multiplied: float32 one at a time, or bfloat16 in pairs.

use std::marker::PhantomData;

use simd::{Bf16Vector, Isa, Task, Vector};

use super::dense::{Dense, Row, Store};

/// A kind of products. The sums are float32.
pub(super) trait Arithmetic {
    /// The sums.
    type Vector: Vector;
    /// A value in memory.
    type Value: Value;
    /// `WIDTH` values for each lane.
    type Factor: Copy;
    /// Consecutive values that one instruction multiplies and adds.
    const WIDTH: usize;

    /// Loads weights.
    ///
    /// # Safety
    /// `WIDTH` times as many values as the vector has lanes must be readable.
    unsafe fn load(from: *const Self::Value) -> Self::Factor;

    /// Loads values of the input, the same in every lane.
    ///
    /// # Safety
    /// `WIDTH` values must be readable.
    unsafe fn splat(from: *const Self::Value) -> Self::Factor;

    /// Adds the products to `sum`, lane by lane.
    fn dot(weights: Self::Factor, input: Self::Factor, sum: Self::Vector) -> Self::Vector;
}

/// A value in memory: float32, or the bits of bfloat16.
pub(crate) trait Value: Copy + Default + Send + Sync + 'static {
    /// Stores a vector as such values.
    fn store<V: Vector>(sum: V, to: &mut [Self]);
    /// `values` as such values, in `space` if they are not already.
    fn convert<'a>(isa: Option<Isa>, values: &'a [f32], space: &'a mut Vec<Self>) -> &'a [Self];
    /// Computes rows of a dense layer.
    fn rows(layer: &Dense, isa: Option<Isa>, rows: &mut [Row<'_, Self>], store: Store);
}

impl Value for f32 {
    #[inline(always)]
    fn store<V: Vector>(sum: V, to: &mut [f32]) {
        sum.store(to);
    }

    fn convert<'a>(_: Option<Isa>, values: &'a [f32], _: &'a mut Vec<f32>) -> &'a [f32] {
        values
    }

    fn rows(layer: &Dense, isa: Option<Isa>, rows: &mut [Row<'_, f32>], store: Store) {
        layer.rows(isa, rows, store);
    }
}

impl Value for u16 {
    #[inline(always)]
    fn store<V: Vector>(sum: V, to: &mut [u16]) {
        sum.store_bf16(to);
    }

    fn convert<'a>(isa: Option<Isa>, values: &'a [f32], space: &'a mut Vec<u16>) -> &'a [u16] {
        space.resize(values.len(), 0);
        simd::run_with_bf16(isa, Round { values, to: space });
        space
    }

    fn rows(layer: &Dense, isa: Option<Isa>, rows: &mut [Row<'_, u16>], store: Store) {
        layer.rows_of_pairs(isa, rows, store);
    }
}

/// Rounds values to bfloat16.
struct Round<'a> {
    values: &'a [f32],
    to: &'a mut [u16],
}

impl Task for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (values, rest) = (self.values.chunks_exact(V::LANES), self.values.chunks_exact(V::LANES).remainder());
        let mut to = self.to.chunks_exact_mut(V::LANES);
        for (values, to) in values.zip(&mut to) {
            V::load(values).store_bf16(to);
        }
        for (to, value) in to.into_remainder().iter_mut().zip(rest) {
            *to = simd::round_to_bf16(*value);
        }
    }
}

/// float32.
pub(super) struct Floats<V>(PhantomData<V>);

impl<V: Vector> Arithmetic for Floats<V> {
    type Vector = V;
    type Value = f32;
    type Factor = V;
    const WIDTH: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        // SAFETY: as promised.
        unsafe { V::load_from(from) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> V {
        // SAFETY: as promised.
        V::splat(unsafe { *from })
    }

    #[inline(always)]
    fn dot(weights: V, input: V, sum: V) -> V {
        weights.mul_add(input, sum)
    }
}

/// The bits of bfloat16.
pub(super) struct Pairs<V>(PhantomData<V>);

impl<V: Bf16Vector> Arithmetic for Pairs<V> {
    type Vector = V;
    type Value = u16;
    type Factor = V::Pairs;
    const WIDTH: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u16) -> V::Pairs {
        // SAFETY: as promised.
        unsafe { V::load_pairs(from) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u16) -> V::Pairs {
        // SAFETY: as promised.
        unsafe { V::splat_pair(from) }
    }

    #[inline(always)]
    fn dot(weights: V::Pairs, input: V::Pairs, sum: V) -> V {
        sum.add_products(weights, input)
    }
}
