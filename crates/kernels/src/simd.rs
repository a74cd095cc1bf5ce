//! SIMD vectors of `f32` for AVX-512 and AVX2 behind one trait, so that a kernel is written once.

use std::sync::atomic::{AtomicU8, Ordering};

/// A SIMD vector of [`LANES`](Self::LANES) `f32` values.
///
/// The methods compile to single instructions only inside a function that enables the instruction
/// set. Every kernel has such an entry function, and everything it calls is inlined.
pub(crate) trait F32Vector: Copy {
    /// Number of lanes, a divisor of 16.
    const LANES: usize;
    /// Broadcasts one value to every lane.
    fn splat(value: f32) -> Self;
    /// Loads the first `LANES` values of `from`.
    fn load(from: &[f32]) -> Self;
    /// Stores the lanes to the first `LANES` places of `to`.
    fn store(self, to: &mut [f32]);
    /// Computes `self * factor + term`, rounded once (FMA).
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// Adds lane by lane.
    fn add(self, other: Self) -> Self;
    /// Keeps the lanes whose element of `keys` equals `key` and sets the others to 0.
    fn mask_equal(self, keys: &[u8], key: u8) -> Self;
}

/// An element type with an AVX-512 dot product: FMA for float32, `vdpbf16ps` for bfloat16.
pub trait Dot: Copy {
    /// Consecutive values of each filter that one instruction multiplies and adds.
    const DOT_WIDTH: usize;
    /// Whether this processor has the instructions.
    fn has_dot() -> bool;
    /// Weights of 16 filters, `DOT_WIDTH` of each.
    #[cfg(target_arch = "x86_64")]
    type Weights: Copy;
    /// `DOT_WIDTH` values of the input, the same in every lane.
    #[cfg(target_arch = "x86_64")]
    type Input: Copy;
    /// Loads 16 times `DOT_WIDTH` values.
    ///
    /// # Safety
    /// The values must be readable, and [`has_dot`](Self::has_dot) true.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe fn load_weights(from: *const Self) -> Self::Weights;
    /// Loads `DOT_WIDTH` values into every lane.
    ///
    /// # Safety
    /// As for [`load_weights`](Self::load_weights).
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe fn load_input(from: *const Self) -> Self::Input;
    /// Adds the products to `sum`, lane by lane.
    #[cfg(target_arch = "x86_64")]
    fn dot(weights: Self::Weights, input: Self::Input, sum: Avx512) -> Avx512;
    /// Stores 16 values, rounded to nearest, ties to even.
    #[cfg(target_arch = "x86_64")]
    fn store(values: Avx512, to: &mut [Self]);
}

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
}

/// Returns the best instruction set of this processor within the limit of [`limit_isa`]; `None` if
/// it has neither; then only the kernels written as portable loops run.
pub fn isa() -> Option<Isa> {
    #[cfg(test)]
    if let Some(isa) = tests::ISA_OVERRIDE.get() {
        return isa;
    }
    let limit = LIMIT.load(Ordering::Relaxed);
    detect().filter(|_| limit > 0).map(|isa| if limit == 1 { Isa::Avx2 } else { isa })
}

/// 0: no instruction set, 1: at most AVX2, 2: no limit.
static LIMIT: AtomicU8 = AtomicU8::new(2);

/// Limits [`isa`] to at most `max`, or to none, in all threads; for comparisons.
pub fn limit_isa(max: Option<Isa>) {
    let limit = match max {
        None => 0,
        Some(Isa::Avx2) => 1,
        Some(Isa::Avx512) => 2,
    };
    LIMIT.store(limit, Ordering::Relaxed);
}

fn detect() -> Option<Isa> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("fma") {
            return Some(Isa::Avx512);
        }
        if has!("avx2") && has!("fma") {
            return Some(Isa::Avx2);
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::{Isa, detect};

    thread_local! {
        /// What [`isa`](super::isa) returns in this thread instead of the detected instruction set.
        pub(crate) static ISA_OVERRIDE: Cell<Option<Option<Isa>>> = const { Cell::new(None) };
    }

    /// Runs `body` with every instruction set that this processor has, and with none.
    pub(crate) fn for_each_isa(mut body: impl FnMut(Option<Isa>)) {
        let mut all = vec![None];
        if detect().is_some() {
            all.push(Some(Isa::Avx2));
        }
        if detect() == Some(Isa::Avx512) {
            all.push(detect());
        }
        for isa in all {
            ISA_OVERRIDE.set(Some(isa));
            body(isa);
        }
        ISA_OVERRIDE.set(None);
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod portable {
    use super::Dot;

    impl Dot for f32 {
        const DOT_WIDTH: usize = 1;

        fn has_dot() -> bool {
            false
        }
    }

    impl Dot for half::bf16 {
        const DOT_WIDTH: usize = 2;

        fn has_dot() -> bool {
            false
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{Dot, F32Vector, Isa, isa};

    /// 16 lanes.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx512(__m512);

    /// 8 lanes.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx2(__m256);

    // SAFETY of all below: values of these types exist only inside kernels whose entry function
    // checked `isa`; slices are checked to be long enough before a pointer to them is read or
    // written.
    impl F32Vector for Avx512 {
        const LANES: usize = 16;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            Self(unsafe { _mm512_loadu_ps(from[..Self::LANES].as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            unsafe { _mm512_storeu_ps(to[..Self::LANES].as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mask_equal(self, keys: &[u8], key: u8) -> Self {
            Self(unsafe {
                let keys = _mm_loadu_si128(keys[..Self::LANES].as_ptr().cast());
                _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(keys, _mm_set1_epi8(key.cast_signed())), self.0)
            })
        }
    }

    impl Avx512 {
        /// Mask of the lanes in which `self` is greater than `other` or NaN.
        #[inline(always)]
        pub(crate) fn is_greater_or_nan(self, other: Self) -> __mmask16 {
            unsafe {
                _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)
            }
        }

        /// Takes `other` in the lanes of `mask`.
        #[inline(always)]
        pub(crate) fn blend(self, mask: __mmask16, other: Self) -> Self {
            Self(unsafe { _mm512_mask_mov_ps(self.0, mask, other.0) })
        }

        /// Clamps to `min..=max`; NaN becomes `min`.
        #[inline(always)]
        pub(crate) fn clamp(self, min: f32, max: f32) -> Self {
            // The instruction returns its second operand if either is NaN.
            let lower_bounded = unsafe { _mm512_max_ps(self.0, _mm512_set1_ps(min)) };
            Self(unsafe { _mm512_min_ps(lower_bounded, _mm512_set1_ps(max)) })
        }

        /// Samples a uint8 image [side, side] bilinearly at pixel coordinates `x` and `y`.
        ///
        /// Coordinates outside the image are clamped to it. `image` must have one more row and four
        /// more bytes at the end. `side` is at most 4096, so that pixel indices fit 32 bits.
        #[inline(always)]
        pub(crate) fn bilinear(image: &[u8], side: usize, x: Self, y: Self) -> Self {
            assert!(side <= 4096 && image.len() >= side * side + side + 4);
            let max = side as f32 - 1.0;
            let (x, y) = (x.clamp(0.0, max), y.clamp(0.0, max));
            unsafe {
                let (left, top) = (_mm512_cvttps_epi32(x.0), _mm512_cvttps_epi32(y.0));
                let right = _mm512_sub_ps(x.0, _mm512_cvtepi32_ps(left));
                let below = _mm512_sub_ps(y.0, _mm512_cvtepi32_ps(top));
                let at = _mm512_add_epi32(_mm512_mullo_epi32(top, _mm512_set1_epi32(side as i32)), left);
                // Gathers four bytes per lane and uses two: a pixel and its neighbor to the right.
                let upper = _mm512_i32gather_epi32::<1>(at, image.as_ptr().cast());
                let lower = _mm512_i32gather_epi32::<1>(at, image.as_ptr().add(side).cast());
                let interpolate = |pair: __m512i| {
                    let byte = _mm512_set1_epi32(0xff);
                    let first = _mm512_cvtepi32_ps(_mm512_and_si512(pair, byte));
                    let second = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32::<8>(pair), byte));
                    _mm512_fmadd_ps(right, _mm512_sub_ps(second, first), first)
                };
                let (upper, lower) = (interpolate(upper), interpolate(lower));
                Self(_mm512_fmadd_ps(below, _mm512_sub_ps(lower, upper), upper))
            }
        }

        /// Stores the lanes, integers from 0 to 255, as bytes.
        #[inline(always)]
        pub(crate) fn store_bytes(self, to: &mut [u8]) {
            unsafe {
                let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0));
                _mm_storeu_si128(to[..Self::LANES].as_mut_ptr().cast(), bytes);
            }
        }
    }

    impl Dot for f32 {
        const DOT_WIDTH: usize = 1;
        type Weights = __m512;
        type Input = __m512;

        fn has_dot() -> bool {
            isa() == Some(Isa::Avx512)
        }

        #[inline(always)]
        unsafe fn load_weights(from: *const Self) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_input(from: *const Self) -> __m512 {
            unsafe { _mm512_set1_ps(*from) }
        }

        #[inline(always)]
        fn dot(weights: __m512, input: __m512, sum: Avx512) -> Avx512 {
            Avx512(unsafe { _mm512_fmadd_ps(weights, input, sum.0) })
        }

        #[inline(always)]
        fn store(values: Avx512, to: &mut [Self]) {
            F32Vector::store(values, to);
        }
    }

    impl Dot for bf16 {
        const DOT_WIDTH: usize = 2;
        type Weights = __m512i;
        type Input = __m512i;

        fn has_dot() -> bool {
            isa() == Some(Isa::Avx512) && std::arch::is_x86_feature_detected!("avx512bf16")
        }

        #[inline(always)]
        unsafe fn load_weights(from: *const Self) -> __m512i {
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn load_input(from: *const Self) -> __m512i {
            unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        fn dot(weights: __m512i, input: __m512i, sum: Avx512) -> Avx512 {
            // SAFETY: the vector types of the two intrinsics have the same layout.
            let bits = |numbers| unsafe { std::mem::transmute::<__m512i, __m512bh>(numbers) };
            Avx512(unsafe { _mm512_dpbf16_ps(sum.0, bits(weights), bits(input)) })
        }

        #[inline(always)]
        fn store(values: Avx512, to: &mut [Self]) {
            let to = to[..Avx512::LANES].as_mut_ptr();
            unsafe {
                let rounded = _mm512_cvtneps_pbh(values.0);
                _mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(rounded));
            }
        }
    }

    impl F32Vector for Avx2 {
        const LANES: usize = 8;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            Self(unsafe { _mm256_loadu_ps(from[..Self::LANES].as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            unsafe { _mm256_storeu_ps(to[..Self::LANES].as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mask_equal(self, keys: &[u8], key: u8) -> Self {
            Self(unsafe {
                let keys = _mm256_cvtepu8_epi32(_mm_loadl_epi64(keys[..Self::LANES].as_ptr().cast()));
                let equal = _mm256_cmpeq_epi32(keys, _mm256_set1_epi32(key.into()));
                _mm256_and_ps(self.0, _mm256_castsi256_ps(equal))
            })
        }
    }
}
