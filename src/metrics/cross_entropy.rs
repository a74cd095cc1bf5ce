//! Cross-entropy in nats, at least 0, lower is better.

/// Mean of -log softmax(logits)\[label\], computed in float64; 0 if there are no images.
pub fn cross_entropy(logits: &[f32], classes: usize, labels: &[u8]) -> f64 {
    let row_loss = |(row, label): (&[f32], &u8)| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|logit| f64::from(logit - max).exp()).sum();
        let logit = row.get(usize::from(*label)).copied().unwrap_or(f32::NEG_INFINITY);
        sum.ln() - f64::from(logit - max)
    };
    let total: f64 = logits.chunks(classes.max(1)).zip(labels).map(row_loss).sum();
    if labels.is_empty() { 0.0 } else { total / labels.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// logits, labels = torch.tensor([[1., 2., 3.], [300., 1., 1.]]), torch.tensor([2, 1])
    /// torch.nn.functional.cross_entropy(logits, labels)
    /// # tensor(149.7038)
    /// ```
    #[test]
    fn agrees_with_pytorch() {
        let loss = cross_entropy(&[1.0, 2.0, 3.0, 300.0, 1.0, 1.0], 3, &[2, 1]);
        assert!((loss - 149.703_803).abs() < 1e-5, "{loss}");
        assert!(cross_entropy(&[f32::NAN, 0.0], 2, &[0]).is_nan());
    }
}
