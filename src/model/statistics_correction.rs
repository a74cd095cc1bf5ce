//! The biased running variance, corrected for all batch norms at once.
//!
//! libtorch updates a running variance v with the unbiased variance of a batch: v' = (1 - u) v +
//! u s n / (n - 1), for n values per channel with biased variance s. Keras' is (1 - u) v + u s =
//! (n - 1) / n v' + (1 - u) / n v.

use anyhow::Result;
use tch::Tensor;

use super::Net;
use super::flat_parameters::Segment;

/// Corrects running statistics in their flat tensor, after the backward pass: autograd saves the
/// running variance, so nothing may change it before.
#[derive(Debug, Default)]
pub struct StatisticsCorrection {
    /// The statistics before the forward pass.
    before: Option<Tensor>,
    /// Factors of libtorch's result and of the statistics before, for each shape of batch seen.
    factors: Vec<(Vec<i64>, [Tensor; 2])>,
}

impl StatisticsCorrection {
    /// Keeps the statistics before a forward pass, in memory that stays the same.
    pub fn remember(&mut self, statistics: &Tensor) -> Result<()> {
        match &mut self.before {
            Some(before) => before.f_copy_(statistics)?,
            None => self.before = Some(statistics.f_detach_copy()?),
        }
        Ok(())
    }

    /// Corrects `statistics` after a forward pass of `net`.
    pub fn apply(&mut self, statistics: &mut Tensor, layout: &[Segment], net: &Net) -> Result<()> {
        let norms = net.batch_norms();
        let Some(before) = self.before.as_ref().filter(|_| !norms.is_empty()) else { return Ok(()) };
        let counts: Vec<i64> = norms.iter().map(|norm| norm.count()).collect();
        let known = self.factors.iter().position(|(other, _)| *other == counts);
        let index = match known {
            Some(index) => index,
            None => {
                self.factors.push((counts, factors(statistics, layout, net)?));
                self.factors.len() - 1
            }
        };
        if let Some((_, [new, old])) = self.factors.get(index) {
            let _ = statistics.f_mul_(new)?.f_addcmul_(before, old)?;
        }
        Ok(())
    }
}

/// The factors of libtorch's result and of the statistics before, in the layout of `statistics`:
/// (n - 1) / n and (1 - u) / n for variances, 1 and 0 for means. Filled on the device, so that
/// nothing waits.
fn factors(statistics: &Tensor, layout: &[Segment], net: &Net) -> Result<[Tensor; 2]> {
    let (new, old) = (statistics.f_ones_like()?, statistics.f_zeros_like()?);
    for norm in net.batch_norms() {
        let Some(segment) = layout.iter().find(|segment| segment.name == norm.variance_name) else { continue };
        let n = norm.count() as f64;
        // A single value per channel is corrected by the layer.
        if n > 1.0 {
            let length = segment.shape.iter().product();
            let part = |flat: &Tensor| flat.f_narrow(0, segment.start, length);
            let _ = part(&new)?.f_fill_((n - 1.0) / n)?;
            let _ = part(&old)?.f_fill_((1.0 - norm.constants.update) / n)?;
        }
    }
    Ok([new, old])
}
