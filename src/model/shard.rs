//! The part of a batch that this process computes in data-parallel training, as layers need it whose
//! results depend on the whole batch: batch norm, and random numbers.
//!
//! Layers find it in the thread that runs the forward pass; a backward pass keeps what it needs.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::Result;
use tch::Tensor;
use torch_ext::autograd;

use crate::device::ProcessGroup;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Shard>>> = const { RefCell::new(None) };
}

/// A part of a batch.
#[derive(Debug)]
pub struct Shard {
    /// The processes that compute the other parts.
    pub group: Arc<ProcessGroup>,
    /// Its first image in the batch.
    pub start: i64,
    /// Its images, at least 1.
    pub len: i64,
    /// Images of the batch.
    pub total: i64,
    /// Whether batch norms use the statistics of the batch rather than those of the part.
    pub sync_norms: bool,
}

/// Until it is dropped, forward passes of this thread compute a shard.
#[derive(Debug)]
pub struct ShardScope {
    before: Option<Arc<Shard>>,
}

impl Drop for ShardScope {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

impl Shard {
    /// Makes forward passes of this thread compute `shard`, or whole batches without one.
    pub fn enter(shard: Option<Arc<Self>>) -> ShardScope {
        ShardScope { before: CURRENT.replace(shard) }
    }

    /// The shard that this thread computes; `None` if it computes whole batches.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Option::clone)
    }

    /// The shard, if batch norms use the statistics of the whole batch.
    pub fn of_norms() -> Option<Arc<Self>> {
        Self::current().filter(|shard| shard.sync_norms)
    }

    /// The values of all parts in this dimension, from those of this part: a multiple of the images.
    pub fn count_all(&self, own: usize) -> f64 {
        own as f64 / self.len as f64 * self.total as f64
    }

    /// The sums of `x` over all parts, as a function that autograd knows: each part has the sum, so its
    /// gradient is the sum of the gradients.
    pub fn sum(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        let sum = self.sum_values(x)?;
        let shard = Arc::clone(self);
        let backward = move |gradient: &Tensor| Ok(vec![Some(shard.sum_values(gradient)?)]);
        autograd::set_backward(c"grimace::all_reduce backward", &sum, &[x], Box::new(backward))?;
        Ok(sum)
    }

    fn sum_values(&self, x: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| {
            let mut sum = Tensor::f_zeros(x.size(), (x.f_kind()?, x.device()))?;
            sum.f_copy_(x)?;
            self.group.all_reduce(&mut sum)?;
            Ok(sum)
        })
    }
}

/// Samples random values for `images` images of this process: `sample(n)` samples those of n images,
/// which are along `dim`. The images of a shard get the values that they have in the whole batch.
pub fn sample(images: i64, dim: i64, sample: impl FnOnce(i64) -> Result<Tensor>) -> Result<Tensor> {
    match Shard::current() {
        None => sample(images),
        Some(shard) => Ok(sample(shard.total)?.f_narrow(dim, shard.start, images)?),
    }
}

/// In a shard: the sums of all parts of the batch, in place.
pub fn sum_all(shard: Option<&Arc<Shard>>, sums: [&mut [f64]; 2]) -> Result<()> {
    let Some(shard) = shard else { return Ok(()) };
    let mut all = [&*sums[0], &*sums[1]].concat();
    shard.group.sum(&mut all)?;
    let (first, second) = all.split_at(sums[0].len());
    let [to_first, to_second] = sums;
    to_first.copy_from_slice(first);
    to_second.copy_from_slice(second);
    Ok(())
}
