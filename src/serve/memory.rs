//! Memory of all requests together: bodies, and images while they are decoded.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api_error::{ApiError, ApiResult};

/// Memory for decoding the images of all requests, in bytes. One that needs more is decoded alone.
const MAX_DECODING_BYTES: u64 = 1 << 30;

/// Bounds the memory of the bodies of all requests together.
#[derive(Debug)]
pub(super) struct BodyMemory(Arc<Semaphore>);

/// A request's part of the memory for bodies, given back on drop.
#[derive(Debug, Default)]
pub(super) struct HeldMemory(Option<OwnedSemaphorePermit>);

impl BodyMemory {
    /// Unit in bytes.
    const UNIT: usize = 1 << 10;

    /// Bounds bodies to `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / Self::UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Raises the memory that `held` has to `bytes`.
    ///
    /// # Errors
    /// 503 if there is not that much.
    pub fn raise(&self, held: &mut HeldMemory, bytes: usize) -> ApiResult<()> {
        let held_units = held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(Self::UNIT).saturating_sub(held_units);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.0).try_acquire_many_owned(missing).map_err(|_| {
            let message = "the bodies of other requests fill the memory that is set aside for them; try again";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        match &mut held.0 {
            Some(permit) => permit.merge(more),
            None => held.0 = Some(more),
        }
        Ok(())
    }
}

/// Bounds the memory of images that are being decoded.
#[derive(Debug)]
pub(super) struct DecodingMemory(Arc<Semaphore>);

impl DecodingMemory {
    /// Unit in bytes.
    const UNIT: u64 = 1 << 20;

    /// All units.
    const UNITS: u32 = (MAX_DECODING_BYTES / Self::UNIT) as u32;

    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(Self::UNITS as usize)))
    }

    /// Waits for `bytes`, or for everything if they are more. Requests get it in their order.
    pub async fn acquire(&self, bytes: u64) -> ApiResult<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(Self::UNIT)).unwrap_or(u32::MAX).clamp(1, Self::UNITS);
        // Closed only when the service ends.
        Arc::clone(&self.0).acquire_many_owned(units).await.map_err(|_| ApiError::internal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_bodies_is_bounded_and_given_back() {
        let memory = BodyMemory::new(4096);
        let (mut one, mut other) = (HeldMemory::default(), HeldMemory::default());
        memory.raise(&mut one, 1500).unwrap();
        memory.raise(&mut one, 1501).unwrap();
        memory.raise(&mut other, 1024).unwrap();
        memory.raise(&mut other, 2048).unwrap();
        assert_eq!(memory.raise(&mut other, 2049).unwrap_err().status, 503);
        drop(one);
        memory.raise(&mut other, 4096).unwrap();
    }

    #[test]
    fn many_small_parts_take_no_more_than_their_sum() {
        let memory = BodyMemory::new(8 << 10);
        let mut held = HeldMemory::default();
        (1..=8 << 10).for_each(|bytes| memory.raise(&mut held, bytes).unwrap());
        assert!(memory.raise(&mut held, (8 << 10) + 1).is_err());
    }

    #[test]
    fn decoding_is_bounded_and_an_image_of_any_size_is_decoded_at_last() {
        let memory = DecodingMemory::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let short = std::time::Duration::from_millis(20);
            let half = memory.acquire(MAX_DECODING_BYTES / 2).await.unwrap();
            let other = memory.acquire(MAX_DECODING_BYTES / 2).await.unwrap();
            assert!(tokio::time::timeout(short, memory.acquire(1)).await.is_err());
            drop((half, other));
            let all = memory.acquire(u64::MAX).await.unwrap();
            assert!(tokio::time::timeout(short, memory.acquire(1)).await.is_err());
            drop(all);
            drop(memory.acquire(0).await.unwrap());
        });
    }
}
