//! Vectors as plain Rust, for processors without the instruction sets; the compiler uses what the
//! target has.

use crate::Vector;

/// Eight lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, combine: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for (a, b) in out.0.iter_mut().zip(other.0) {
            *a = combine(*a, b);
        }
        out
    }
}

impl Vector for Portable {
    const LANES: usize = 8;
    const REGISTERS: usize = 8;
    type Mask = [bool; 8];

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    unsafe fn load_from(from: *const f32) -> Self {
        // SAFETY: the caller promises eight readable values.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..8].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // Not f32::mul_add: without the instruction that is a slow library call.
        self.zip(factor, |a, b| a * b).add(term)
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, f32::max)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, f32::min)
    }

    #[inline(always)]
    fn floor(self) -> Self {
        self.zip(self, |value, _| value.floor())
    }

    #[inline(always)]
    fn is_greater_or_nan(self, other: Self) -> [bool; 8] {
        let mut mask = [false; 8];
        for (mask, (a, b)) in mask.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *mask = a > b || a.is_nan();
        }
        mask
    }

    #[inline(always)]
    fn blend(self, mask: [bool; 8], other: Self) -> Self {
        let mut out = self;
        for (out, (mask, other)) in out.0.iter_mut().zip(mask.iter().zip(&other.0)) {
            *out = if *mask { *other } else { *out };
        }
        out
    }

    #[inline(always)]
    fn mask_equal(self, keys: &[u8], key: u8) -> Self {
        let mut out = self;
        for (out, other) in out.0.iter_mut().zip(&keys[..8]) {
            *out = if *other == key { *out } else { 0.0 };
        }
        out
    }

    #[inline(always)]
    unsafe fn gather_pairs(self, bytes: *const u8) -> (Self, Self) {
        let (mut first, mut second) = (self, self);
        for ((first, second), at) in first.0.iter_mut().zip(&mut second.0).zip(&self.0) {
            // SAFETY: the caller promises readable bytes at the index.
            let [a, b] = unsafe { bytes.add(*at as usize).cast::<[u8; 2]>().read() };
            (*first, *second) = (f32::from(a), f32::from(b));
        }
        (first, second)
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8]) {
        for (to, value) in to[..8].iter_mut().zip(&self.0) {
            *to = *value as u8;
        }
    }
}
