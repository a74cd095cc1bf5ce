//! Vectors that are the same distance apart, with one check for all of them.

use simd::Vector;

use crate::Element;

/// Loads `N` vectors that begin `stride` values apart.
#[allow(unsafe_code)]
#[inline(always)]
pub(super) fn load_strided<V: Vector, E: Element, const N: usize>(from: &[E], stride: usize) -> [V; N] {
    check_strided::<V, N>(from.len(), stride);
    let mut all = [V::splat(0.0); N];
    for (index, vector) in all.iter_mut().enumerate() {
        // SAFETY: `check_strided` has checked the last vector, and no other ends after it.
        *vector = E::load(unsafe { from.get_unchecked(index * stride..index * stride + V::LANES) });
    }
    all
}

/// Stores `N` vectors to places that begin `stride` values apart.
#[allow(unsafe_code)]
#[inline(always)]
pub(super) fn store_strided<V: Vector, E: Element, const N: usize>(values: [V; N], to: &mut [E], stride: usize) {
    check_strided::<V, N>(to.len(), stride);
    for (index, vector) in values.into_iter().enumerate() {
        // SAFETY: as in `load_strided`.
        E::store(vector, unsafe { to.get_unchecked_mut(index * stride..index * stride + V::LANES) });
    }
}

#[inline(always)]
fn check_strided<V: Vector, const N: usize>(length: usize, stride: usize) {
    // The first conditions keep the product from overflowing.
    assert!(N < 64 && length < usize::MAX / 64 && stride <= length && length >= (N - 1) * stride + V::LANES);
}
