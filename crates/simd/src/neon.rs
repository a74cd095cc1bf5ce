//! NEON, which every aarch64 processor has.

use std::arch::aarch64::*;

use crate::Vector;

/// 4 lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

// SAFETY of all below: every aarch64 processor has NEON; slices are checked to be long enough before a
// pointer to them is read or written.
impl Vector for Neon {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    type Mask = uint32x4_t;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    unsafe fn load_from(from: *const f32) -> Self {
        Self(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        unsafe { vst1q_f32(to[..Self::LANES].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(unsafe { vfmaq_f32(term.0, self.0, factor.0) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { vsubq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // Unlike `vmaxq_f32`, this returns the number if one operand is NaN.
        Self(unsafe { vmaxnmq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { vminnmq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn floor(self) -> Self {
        Self(unsafe { vrndmq_f32(self.0) })
    }

    #[inline(always)]
    fn is_greater_or_nan(self, other: Self) -> uint32x4_t {
        unsafe { vorrq_u32(vcgtq_f32(self.0, other.0), vmvnq_u32(vceqq_f32(self.0, self.0))) }
    }

    #[inline(always)]
    fn blend(self, mask: uint32x4_t, other: Self) -> Self {
        Self(unsafe { vbslq_f32(mask, other.0, self.0) })
    }

    #[inline(always)]
    fn mask_equal(self, keys: &[u8], key: u8) -> Self {
        let [a, b, c, d] = [keys[0], keys[1], keys[2], keys[3]];
        Self(unsafe {
            let keys = vcreate_u8(u32::from_le_bytes([a, b, c, d]).into());
            let keys = vmovl_u16(vget_low_u16(vmovl_u8(keys)));
            let equal = vceqq_u32(keys, vdupq_n_u32(key.into()));
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(self.0), equal))
        })
    }

    #[inline(always)]
    unsafe fn gather_pairs(self, bytes: *const u8) -> (Self, Self) {
        let (mut at, mut pairs) = ([0u32; 4], [0u16; 4]);
        unsafe {
            vst1q_u32(at.as_mut_ptr(), vcvtq_u32_f32(self.0));
            for (pair, at) in pairs.iter_mut().zip(at) {
                *pair = u16::from_le_bytes(bytes.add(at as usize).cast::<[u8; 2]>().read());
            }
            let pairs = vmovl_u16(vld1_u16(pairs.as_ptr()));
            let first = vandq_u32(pairs, vdupq_n_u32(0xff));
            (Self(vcvtq_f32_u32(first)), Self(vcvtq_f32_u32(vshrq_n_u32::<8>(pairs))))
        }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8]) {
        let bytes = unsafe {
            let words = vmovn_u32(vcvtnq_u32_f32(self.0));
            vget_lane_u32::<0>(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))))
        };
        to[..Self::LANES].copy_from_slice(&bytes.to_le_bytes());
    }
}
