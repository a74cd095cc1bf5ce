//! AVX2 with FMA.

use std::arch::x86_64::*;

use crate::Vector;

/// 8 lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(__m256);

// SAFETY of all below: values of this type exist only inside tasks that `dispatch` runs after it
// checked the processor; slices are checked to be long enough before a pointer to them is read or
// written.
impl Vector for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Mask = __m256;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load_from(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
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
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // The instruction returns its second operand if either is NaN.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn floor(self) -> Self {
        Self(unsafe { _mm256_floor_ps(self.0) })
    }

    #[inline(always)]
    fn is_greater_or_nan(self, other: Self) -> __m256 {
        unsafe {
            let is_greater = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0);
            _mm256_or_ps(is_greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0))
        }
    }

    #[inline(always)]
    fn blend(self, mask: __m256, other: Self) -> Self {
        Self(unsafe { _mm256_blendv_ps(self.0, other.0, mask) })
    }

    #[inline(always)]
    fn mask_equal(self, keys: &[u8], key: u8) -> Self {
        Self(unsafe {
            let keys = _mm256_cvtepu8_epi32(_mm_loadl_epi64(keys[..Self::LANES].as_ptr().cast()));
            let equal = _mm256_cmpeq_epi32(keys, _mm256_set1_epi32(key.into()));
            _mm256_and_ps(self.0, _mm256_castsi256_ps(equal))
        })
    }

    #[inline(always)]
    unsafe fn gather_pairs(self, bytes: *const u8) -> (Self, Self) {
        unsafe {
            let pair = _mm256_i32gather_epi32::<1>(bytes.cast(), _mm256_cvttps_epi32(self.0));
            let byte = _mm256_set1_epi32(0xff);
            let first = _mm256_cvtepi32_ps(_mm256_and_si256(pair, byte));
            let second = _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32::<8>(pair), byte));
            (Self(first), Self(second))
        }
    }

    #[inline(always)]
    fn load_bf16(from: &[u16]) -> Self {
        let from = &from[..Self::LANES];
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)))
        }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8]) {
        unsafe {
            let values = _mm256_cvtps_epi32(self.0);
            let words = _mm_packus_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256::<1>(values));
            _mm_storel_epi64(to[..Self::LANES].as_mut_ptr().cast(), _mm_packus_epi16(words, words));
        }
    }
}
