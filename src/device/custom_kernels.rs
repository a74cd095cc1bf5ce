//! The custom CPU kernels that may run, by the environment variable GRIMACE_KERNELS.

use anyhow::Result;
use kernels::{Isa, winograd};

use super::{cpu_has_bf16, is_cpu_bf16_fast};
use crate::util::error::input;

/// The custom CPU kernels that may run: the value of GRIMACE_KERNELS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// The limit of [`kernels::limit_isa`]: AVX2 instead of AVX-512, or `None`, which turns all kernels
    /// off. [`Isa::Avx512`] is no limit, on any processor.
    max_isa: Option<Isa>,
    winograd: bool,
}

impl Limits {
    /// Parses `auto`, `avx2`, `none` and `no-winograd`; several are separated by commas.
    pub(super) fn parse(variable: Option<&str>) -> Result<Self> {
        let variable = variable.unwrap_or_default();
        let mut limits = Self { max_isa: Some(Isa::Avx512), winograd: true };
        for word in variable.split(',') {
            match word.trim() {
                "" | "auto" => {}
                "avx2" => limits.max_isa = limits.max_isa.and(Some(Isa::Avx2)),
                "none" => limits.max_isa = None,
                "no-winograd" => limits.winograd = false,
                _ => {
                    return Err(input(format!(
                        "the environment variable GRIMACE_KERNELS is {variable:?}: expected auto, avx2, none or \
                         no-winograd"
                    )));
                }
            }
        }
        Ok(limits)
    }

    /// Applies the limits to all threads.
    pub(super) fn apply(self) {
        kernels::limit_isa(self.max_isa);
        winograd::set_enabled(self.winograd);
    }
}

/// Runs `body` with libtorch's operations instead of the custom CPU kernels.
pub fn without_kernels<T>(body: impl FnOnce() -> T) -> T {
    let before = kernels::isa();
    kernels::limit_isa(None);
    let result = body();
    kernels::limit_isa(before);
    result
}

/// The instruction set of the custom CPU kernels, and for which precisions convolutions are Winograd's,
/// for reports: runs with different texts differ in the last digits.
pub fn describe_kernels() -> String {
    let Some(isa) = kernels::isa() else { return "none".to_owned() };
    let mut words = vec![match isa {
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2",
        Isa::Neon => "NEON",
    }];
    if isa == Isa::Avx512 && cpu_has_bf16() {
        words.push("bf16");
    }
    if winograd::is_enabled() {
        words.push(if is_cpu_bf16_fast() { "Winograd" } else { "Winograd also in bf16" });
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variable_limits_the_kernels() {
        let message = Limits::parse(Some("sse")).unwrap_err().to_string();
        assert!(message.contains("GRIMACE_KERNELS") && message.contains("no-winograd"), "{message}");
        let parsed = |variable| {
            let limits = Limits::parse(variable).unwrap();
            (limits.max_isa, limits.winograd)
        };
        assert_eq!((parsed(None), parsed(Some("auto"))), ((Some(Isa::Avx512), true), (Some(Isa::Avx512), true)));
        assert_eq!((parsed(Some("avx2")), parsed(Some("none"))), ((Some(Isa::Avx2), true), (None, true)));
        assert_eq!(parsed(Some("no-winograd")), (Some(Isa::Avx512), false));
        assert_eq!(parsed(Some("avx2, no-winograd")), (Some(Isa::Avx2), false));
    }
    #[test]
    fn the_description_tells_kernels_apart() {
        let text = describe_kernels();
        assert_eq!(text.contains("also in bf16"), kernels::isa().is_some() && !is_cpu_bf16_fast(), "{text}");
        assert_eq!(text == "none", kernels::isa().is_none());
    }
}
