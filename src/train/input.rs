//! What a step trains on: faces as augmented, and what the network should say of them.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::loss::Targets;
use super::plan::Batch;
use crate::augment;
use crate::data::batches::DeviceFaces;

/// The faces of `batch`, augmented: [B, 1, 48, 48] in 0..1, in `kind`; and their targets.
///
/// # Errors
/// libtorch's.
pub fn of(faces: &DeviceFaces, batch: &Batch, kind: Kind) -> Result<(Tensor, Targets)> {
    let x = augment::faces(faces, &batch.rows, &batch.draws, kind)?;
    Ok((x, Targets::Classes(faces.labels(&batch.rows)?)))
}
