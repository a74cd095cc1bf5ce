//! AVX-512 F, BW, DQ and VL, with or without BF16.

use std::arch::x86_64::*;

use crate::{Bf16Vector, Vector};

/// 16 lanes. With `BF16`, the processor also has AVX-512 BF16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(__m512);

/// The first `count` lanes, from 0 to 16.
#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    ((1u32 << count) - 1) as __mmask16
}

// SAFETY of all below: values of this type exist only inside tasks that `dispatch` runs after it
// checked the processor; slices are checked to be long enough before a pointer to them is read or
// written.
impl<const BF16: bool> Vector for Avx512<BF16> {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    type Mask = __mmask16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load_from(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        unsafe { _mm512_storeu_ps(to[..Self::LANES].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        Self(unsafe { _mm512_maskz_loadu_ps(first_lanes(count), from) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first_lanes(count), self.0) }
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
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // The instruction returns its second operand if either is NaN.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn floor(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEG_INF>(self.0) })
    }

    #[inline(always)]
    fn is_greater_or_nan(self, other: Self) -> __mmask16 {
        unsafe {
            _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)
        }
    }

    #[inline(always)]
    fn blend(self, mask: __mmask16, other: Self) -> Self {
        Self(unsafe { _mm512_mask_mov_ps(self.0, mask, other.0) })
    }

    #[inline(always)]
    fn mask_equal(self, keys: &[u8], key: u8) -> Self {
        Self(unsafe {
            let keys = _mm_loadu_si128(keys[..Self::LANES].as_ptr().cast());
            _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(keys, _mm_set1_epi8(key.cast_signed())), self.0)
        })
    }

    #[inline(always)]
    unsafe fn gather_pairs(self, bytes: *const u8) -> (Self, Self) {
        unsafe {
            let pair = _mm512_i32gather_epi32::<1>(_mm512_cvttps_epi32(self.0), bytes.cast());
            let byte = _mm512_set1_epi32(0xff);
            let first = _mm512_cvtepi32_ps(_mm512_and_si512(pair, byte));
            let second = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32::<8>(pair), byte));
            (Self(first), Self(second))
        }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8]) {
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0));
            _mm_storeu_si128(to[..Self::LANES].as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    fn load_bf16(from: &[u16]) -> Self {
        let from = &from[..Self::LANES];
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
        }
    }

    #[inline(always)]
    fn store_bf16(self, to: &mut [u16]) {
        let to = &mut to[..Self::LANES];
        if BF16 {
            unsafe {
                let rounded = _mm512_cvtneps_pbh(self.0);
                // The vector types of the two intrinsics have the same layout.
                _mm256_storeu_si256(to.as_mut_ptr().cast(), std::mem::transmute::<__m256bh, __m256i>(rounded));
            }
        } else {
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                // As in `round_to_bf16`.
                let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
                let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
                let rounded = _mm512_srli_epi32::<16>(_mm512_mask_mov_epi32(rounded, is_nan, quiet));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(rounded));
            }
        }
    }
}

impl Bf16Vector for Avx512<true> {
    type Pairs = __m512i;

    #[inline(always)]
    unsafe fn load_pairs(from: *const u16) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat_pair(from: *const u16) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn add_products(self, a: __m512i, b: __m512i) -> Self {
        // SAFETY: the vector types of the two intrinsics have the same layout.
        unsafe {
            let (a, b) = (std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b));
            Self(_mm512_dpbf16_ps(self.0, a, b))
        }
    }
}
