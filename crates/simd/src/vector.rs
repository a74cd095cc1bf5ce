//! The operations of a vector.

/// A SIMD vector of [`LANES`](Self::LANES) `f32` values.
///
/// The operations compile to single instructions only inside a [`Task`](crate::Task), which is also
/// the only way to a value of a type that needs an instruction set.
pub trait Vector: Copy {
    /// Number of lanes, a divisor of 16.
    const LANES: usize;
    /// Vectors that the registers of the processor hold.
    const REGISTERS: usize;
    /// A choice of lanes.
    type Mask: Copy;

    /// Broadcasts one value to every lane.
    fn splat(value: f32) -> Self;

    /// Loads `LANES` values.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_from(from: *const f32) -> Self;

    /// Loads the first `LANES` values of `from`.
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..Self::LANES];
        // SAFETY: there are as many values, as checked.
        unsafe { Self::load_from(from.as_ptr()) }
    }

    /// Stores the lanes to the first `LANES` places of `to`.
    fn store(self, to: &mut [f32]);

    /// Loads `count` values, at most `LANES`, and sets the other lanes to 0.
    ///
    /// # Safety
    /// `count` values must be readable.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        if count == Self::LANES {
            // SAFETY: as promised.
            return unsafe { Self::load_from(from) };
        }
        let mut lanes = [0.0; 16];
        // SAFETY: as promised.
        unsafe { copy_part(from, lanes.as_mut_ptr(), count.min(Self::LANES)) };
        Self::load(&lanes)
    }

    /// Stores the first `count` lanes, at most `LANES`.
    ///
    /// # Safety
    /// `count` values must be writable.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        if count == Self::LANES {
            // SAFETY: as promised.
            return self.store(unsafe { std::slice::from_raw_parts_mut(to, count) });
        }
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        // SAFETY: as promised.
        unsafe { copy_part(lanes.as_ptr(), to, count.min(Self::LANES)) };
    }

    /// Computes `self * factor + term`, rounded once but for plain Rust (FMA).
    fn mul_add(self, factor: Self, term: Self) -> Self;

    /// Adds lane by lane.
    fn add(self, other: Self) -> Self;

    /// Subtracts lane by lane.
    fn sub(self, other: Self) -> Self;

    /// The larger value of each lane; `other`, which must not be NaN, where `self` is NaN.
    fn max(self, other: Self) -> Self;

    /// The smaller value of each lane; `other`, which must not be NaN, where `self` is NaN.
    fn min(self, other: Self) -> Self;

    /// Rounds down to integers.
    fn floor(self) -> Self;

    /// The lanes in which `self` is greater than `other` or NaN.
    fn is_greater_or_nan(self, other: Self) -> Self::Mask;

    /// Takes `other` in the lanes of `mask`.
    fn blend(self, mask: Self::Mask, other: Self) -> Self;

    /// Keeps the lanes whose element of `keys` equals `key` and sets the others to 0.
    fn mask_equal(self, keys: &[u8], key: u8) -> Self;

    /// Loads two bytes for each lane, which holds the index of the first one: values from 0 to 255.
    ///
    /// # Safety
    /// The lanes must be integers from 0 to 2^24, and the four bytes from each of them on readable.
    unsafe fn gather_pairs(self, bytes: *const u8) -> (Self, Self);

    /// Stores the lanes, integers from 0 to 255, as bytes.
    fn store_bytes(self, to: &mut [u8]);

    /// Loads the bits of bfloat16, which are converted exactly.
    #[inline(always)]
    fn load_bf16(from: &[u16]) -> Self {
        let mut lanes = [0.0; 16];
        for (to, bits) in lanes.iter_mut().zip(&from[..Self::LANES]) {
            *to = f32::from_bits(u32::from(*bits) << 16);
        }
        Self::load(&lanes)
    }

    /// Stores the lanes as the bits of bfloat16, rounded to nearest, ties to even. The instructions of
    /// AVX-512 BF16, which [`run_with_bf16`](crate::run_with_bf16) uses, round subnormal numbers to 0.
    #[inline(always)]
    fn store_bf16(self, to: &mut [u16]) {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        for (to, value) in to[..Self::LANES].iter_mut().zip(&lanes) {
            *to = round_to_bf16(*value);
        }
    }
}

/// Copies `count` values. Not inlined: the code would keep the compiler from unrolling the loops around
/// it, and then from keeping sums in registers.
///
/// # Safety
/// As many values must be readable and writable.
#[cold]
#[inline(never)]
unsafe fn copy_part(from: *const f32, to: *mut f32, count: usize) {
    // SAFETY: as promised.
    unsafe { std::ptr::copy(from, to, count) };
}

/// A vector with dot products of bfloat16 pairs.
pub trait Bf16Vector: Vector {
    /// Two bfloat16 values for each lane.
    type Pairs: Copy;

    /// Loads a pair for each lane, as bits.
    ///
    /// # Safety
    /// Twice `LANES` values must be readable.
    unsafe fn load_pairs(from: *const u16) -> Self::Pairs;

    /// Broadcasts a pair to every lane.
    ///
    /// # Safety
    /// Two values must be readable.
    unsafe fn splat_pair(from: *const u16) -> Self::Pairs;

    /// Adds the products of both values of a pair to `self`, lane by lane.
    fn add_products(self, a: Self::Pairs, b: Self::Pairs) -> Self;
}

/// The bits of the nearest bfloat16 value, ties to even. It has no branches, so that loops over it
/// vectorize.
#[inline(always)]
#[must_use]
pub fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    // Adds half of the last kept place, less one bit for ties when that place is even.
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding must not carry a NaN into infinity.
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded as u16 }
}
