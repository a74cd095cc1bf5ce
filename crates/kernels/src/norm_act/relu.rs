//! ReLU before or after the layer, and its gradient.

/// Computes max(`value`, `threshold`); NaN stays NaN, and a NaN threshold leaves the value
/// unchanged.
#[inline(always)]
pub(super) fn relu(value: f32, threshold: f32) -> f32 {
    if value < threshold { threshold } else { value }
}

/// Computes the gradient of [`relu`] whose input or output is `gate`: 0 if that is at most the
/// threshold, as in PyTorch. Gradients pass if it is NaN.
#[inline(always)]
pub(super) fn relu_gradient(gradient: f32, gate: f32, threshold: f32) -> f32 {
    if gate <= threshold { 0.0 } else { gradient }
}

/// Applies the ReLU before the layer, which excludes one after it.
#[inline(always)]
pub(super) fn relu_before<const AFTER: bool>(value: f32, threshold: f32) -> f32 {
    if AFTER { value } else { relu(value, threshold) }
}

/// Applies the gradient of the ReLU before the layer.
#[inline(always)]
pub(super) fn relu_before_gradient<const AFTER: bool>(gradient: f32, input: f32, threshold: f32) -> f32 {
    if AFTER { gradient } else { relu_gradient(gradient, input, threshold) }
}

/// Applies the ReLU after the layer.
#[inline(always)]
pub(super) fn relu_after<const AFTER: bool>(value: f32) -> f32 {
    if AFTER { relu(value, 0.0) } else { value }
}

/// Applies the gradient of the ReLU after the layer.
#[inline(always)]
pub(super) fn relu_after_gradient<const AFTER: bool>(gradient: f32, output: f32) -> f32 {
    if AFTER { relu_gradient(gradient, output, 0.0) } else { gradient }
}
