//! The instruction set that the kernels use.

use std::sync::atomic::{AtomicU8, Ordering};

pub use simd::Isa;

/// Returns the best instruction set of this processor within the limit of [`limit_isa`]; `None` if
/// there is none. Kernels then run as plain Rust, and libtorch's operations are faster.
pub fn isa() -> Option<Isa> {
    #[cfg(test)]
    if let Some(isa) = tests::ISA_OVERRIDE.get() {
        return isa;
    }
    let limit = LIMIT.load(Ordering::Relaxed);
    match Isa::detect() {
        Some(Isa::Avx512) if limit == 1 => Some(Isa::Avx2),
        isa => isa.filter(|_| limit > 0),
    }
}

/// 0: no instruction set, 1: at most AVX2, 2: no limit.
static LIMIT: AtomicU8 = AtomicU8::new(2);

/// Limits [`isa`] in all threads, for comparisons: to none; to AVX2 instead of AVX-512; or not at all.
pub fn limit_isa(max: Option<Isa>) {
    let limit = match max {
        None => 0,
        Some(Isa::Avx2) => 1,
        Some(Isa::Avx512 | Isa::Neon) => 2,
    };
    LIMIT.store(limit, Ordering::Relaxed);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// What [`isa`](super::isa) returns in this thread instead of the detected instruction set.
        pub(crate) static ISA_OVERRIDE: Cell<Option<Option<Isa>>> = const { Cell::new(None) };
    }

    /// Runs `body` with every instruction set that this processor has, and with none.
    pub(crate) fn for_each_isa(mut body: impl FnMut(Option<Isa>)) {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Some).chain([None]) {
            ISA_OVERRIDE.set(Some(isa));
            body(isa);
        }
        ISA_OVERRIDE.set(None);
    }

    #[test]
    fn limits() {
        let best = Isa::detect();
        let with = |limit| {
            limit_isa(limit);
            let isa = isa();
            limit_isa(best.or(Some(Isa::Neon)));
            isa
        };
        assert_eq!((with(None), with(Some(Isa::Avx512)), with(Some(Isa::Neon))), (None, best, best));
        assert_eq!(with(Some(Isa::Avx2)), if best == Some(Isa::Avx512) { Some(Isa::Avx2) } else { best });
    }
}
