//! Whether the CPU computes in bfloat16, and faster than in float32.

use std::sync::LazyLock;

/// Whether the CPU multiplies bfloat16 natively: AVX512-BF16, which every CPU with AMX also has.
pub fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether bfloat16 is faster than float32. Intel's cores multiply pairs of bfloat16 at half the rate of
/// AMD's, so that they compute no more of them than float32, and need AMX to gain (docs/training.md).
pub fn is_cpu_bf16_fast() -> bool {
    // Asked for in every layer, and `cpuid` is slow in a virtual machine.
    static IS_FAST: LazyLock<bool> = LazyLock::new(|| {
        #[cfg(target_arch = "x86_64")]
        return cpu_has_bf16() && (!x86::is_intel() || x86::has_amx_bf16());
        #[cfg(not(target_arch = "x86_64"))]
        false
    });
    *IS_FAST
}

/// Whether bfloat16 is faster than float32 in the custom kernels: they do not use AMX, so not on Intel's
/// cores, nor if they are limited to another instruction set.
pub fn are_bf16_kernels_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static IS_INTEL: LazyLock<bool> = LazyLock::new(x86::is_intel);
        kernels::isa() == Some(kernels::Isa::Avx512) && cpu_has_bf16() && !*IS_INTEL
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    /// Leaf of the features beyond the first ones, and the bit of AMX-BF16 in its EDX.
    const FEATURES: u32 = 7;
    const AMX_BF16: u32 = 1 << 22;

    pub fn is_intel() -> bool {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
    }

    pub fn has_amx_bf16() -> bool {
        __cpuid(0).eax >= FEATURES && __cpuid_count(FEATURES, 0).edx & AMX_BF16 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intel_without_amx_is_faster_in_float32() {
        let info = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has =
            |name: &str| info.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == name));
        if !has("fpu") {
            println!("skipped: this system has no /proc/cpuinfo with flags");
            return;
        }
        assert_eq!(cpu_has_bf16(), has("avx512_bf16"));
        let is_intel = info.contains("GenuineIntel");
        assert_eq!(is_cpu_bf16_fast(), has("avx512_bf16") && (!is_intel || has("amx_bf16")));
        assert_eq!(are_bf16_kernels_fast(), has("avx512_bf16") && !is_intel);
    }
}
