//! Parallel loops on libtorch's thread pool, so that the process has one pool only.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};

use crate::{grimace_parallel, take_text};

struct Call<'a, W, F> {
    work: Vec<Mutex<Option<W>>>,
    body: &'a F,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Calls `body` once with each item of `work`, on up to `tch::get_num_threads` threads. Which
/// thread handles an item does not affect the result of the item.
///
/// A panic in `body` resumes in the caller after all threads have finished.
pub fn for_each<W: Send, F: Fn(W) + Sync>(work: Vec<W>, body: F) -> Result<()> {
    let call = Call {
        work: work.into_iter().map(|item| Mutex::new(Some(item))).collect(),
        body: &body,
        panic: Mutex::new(None),
    };
    // SAFETY: `call` outlives the function, which returns after every index has been visited. Its
    // type is the one that `run::<W, F>` expects, and threads share only `Sync` data.
    let failure =
        take_text(unsafe { grimace_parallel(call.work.len(), (&raw const call).cast_mut().cast(), run::<W, F>) });
    if let Some(panic) = call.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
    failure.map_or(Ok(()), |reason| Err(anyhow!(reason)))
}

extern "C" fn run<W: Send, F: Fn(W) + Sync>(context: *mut c_void, index: usize) {
    // SAFETY: `for_each` passes a `Call` of these types and keeps it alive.
    let call = unsafe { &*context.cast_const().cast::<Call<'_, W, F>>() };
    let item = call.work.get(index).and_then(|item| item.lock().unwrap_or_else(PoisonError::into_inner).take());
    let Some(item) = item else { return };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (call.body)(item))) {
        *call.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_every_item_once() {
        let mut values = vec![1u64; 1000];
        for_each(values.chunks_mut(7).enumerate().collect(), |(index, chunk): (usize, &mut [u64])| {
            chunk.iter_mut().for_each(|value| *value += index as u64);
        })
        .unwrap();
        assert!(values.iter().enumerate().all(|(at, value)| *value == 1 + at as u64 / 7));
    }

    #[test]
    fn a_panic_resumes_in_the_caller() {
        let outcome = catch_unwind(|| for_each(vec![1, 2, 3], |item| assert_ne!(item, 2)));
        assert!(outcome.is_err());
    }
}
