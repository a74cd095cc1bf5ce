//! Vectors of `f32` as wide as the processor has them, so that a kernel is written once.

/// A vector of [`COUNT`](Self::COUNT) numbers.
///
/// The functions compile to single instructions only inside a function that has the instruction set enabled; every kernel
/// enters through such a function, and everything below it is inlined.
pub(crate) trait Lanes: Copy {
    /// How many numbers it holds: a divisor of 16.
    const COUNT: usize;
    /// The same number in every lane.
    fn splat(value: f32) -> Self;
    /// The first `COUNT` numbers of `from`.
    fn load(from: &[f32]) -> Self;
    /// Writes the lanes to the first `COUNT` places of `to`.
    fn store(self, to: &mut [f32]);
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// Lane by lane.
    fn add(self, other: Self) -> Self;
    /// The lanes where the first `COUNT` of `keys` are `key`; 0 in the others.
    fn where_equal(self, keys: &[u8], key: u8) -> Self;
}

/// The instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
}

/// The best one that this processor has; `None`: it has neither, and the kernels cannot be used.
pub fn isa() -> Option<Isa> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("fma") {
            return Some(Isa::Avx512);
        }
        if has!("avx2") && has!("fma") {
            return Some(Isa::Avx2);
        }
    }
    None
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// 16 lanes.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    /// 8 lanes.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    // SAFETY of all below: values of these types are made only inside kernels that were entered after `isa` had found the
    // instruction set; slices are checked to hold enough numbers before a pointer is read or written.
    impl Lanes for Avx512 {
        const COUNT: usize = 16;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            Self(unsafe { _mm512_loadu_ps(from[..Self::COUNT].as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            unsafe { _mm512_storeu_ps(to[..Self::COUNT].as_mut_ptr(), self.0) }
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
        fn where_equal(self, keys: &[u8], key: u8) -> Self {
            Self(unsafe {
                let keys = _mm_loadu_si128(keys[..Self::COUNT].as_ptr().cast());
                _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(keys, _mm_set1_epi8(key.cast_signed())), self.0)
            })
        }
    }

    impl Lanes for Avx2 {
        const COUNT: usize = 8;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            Self(unsafe { _mm256_loadu_ps(from[..Self::COUNT].as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            unsafe { _mm256_storeu_ps(to[..Self::COUNT].as_mut_ptr(), self.0) }
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
        fn where_equal(self, keys: &[u8], key: u8) -> Self {
            Self(unsafe {
                let keys = _mm256_cvtepu8_epi32(_mm_loadl_epi64(keys[..Self::COUNT].as_ptr().cast()));
                let equal = _mm256_cmpeq_epi32(keys, _mm256_set1_epi32(key.into()));
                _mm256_and_ps(self.0, _mm256_castsi256_ps(equal))
            })
        }
    }
}
