use super::super::tests::assert_all_close;
use super::*;
use crate::testing::noise;

/// Output, gradients of input, weight and bias, and running statistics of a batch norm, by the
/// kernels or by libtorch.
fn batch_norm(x: &Tensor, relu: Relu, use_kernels: bool) -> Vec<Tensor> {
    const UPDATE: f64 = 0.01;
    const EPSILON: f64 = 1e-3;
    let channels = x.size()[1];
    let x = x.copy().set_requires_grad(true);
    let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
    let (weight, bias) = (leaf(noise(&[channels], 1) + 1.5), leaf(noise(&[channels], 2)));
    let (mean, var) = (noise(&[channels], 3) * 0.1, noise(&[channels], 4) * 0.1 + 1.0);
    let y = if use_kernels {
        assert!(is_supported(&x));
        let norm = BatchNorm {
            weight: &weight,
            bias: &bias,
            running_mean: &mean,
            running_var: &var,
            update: UPDATE,
            epsilon: EPSILON,
        };
        forward(&x, &Transform::Batch(norm), relu).unwrap()
    } else {
        let active = if relu == Relu::Before { x.relu() } else { x.shallow_clone() };
        // libtorch's running variance is the unbiased one.
        let biased = active.to_kind(Kind::Float).var_dim(&[0i64, 2, 3][..], false, false);
        let unused = var.copy();
        let y = active.batch_norm(Some(&weight), Some(&bias), Some(&mean), Some(&unused), true, UPDATE, EPSILON, true);
        tch::no_grad(|| {
            let _ = var.shallow_clone().lerp_(&biased, UPDATE);
        });
        if relu == Relu::After { y.relu() } else { y }
    };
    (y.to_kind(Kind::Float) * noise(&y.size(), 5)).sum(Kind::Float).backward();
    vec![y, x.grad(), weight.grad(), bias.grad(), mean, var]
}

/// Output and gradients of input, weight and shortcut of a batch norm whose factors also depend on
/// the means of each image, by the kernels or by libtorch.
fn image_transform(x: &Tensor, relu: Relu, with_shortcut: bool, use_kernels: bool) -> Vec<Tensor> {
    let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
    let channels = x.size()[1];
    let (x, weight) = (leaf(x.copy()), leaf(noise(&[channels], 1) + 1.5));
    let shortcut = with_shortcut.then(|| leaf(noise(&x.size(), 2).to_kind(x.kind())));
    let center = noise(&[channels], 3) * 0.1;
    let from_moments = |means: &Tensor, squares: &Tensor| {
        let mean = means.mean_dim([0i64].as_slice(), false, Kind::Double);
        let variance = squares.mean_dim([0i64].as_slice(), false, Kind::Double) - mean.square();
        let factor = (variance + 1e-3).rsqrt() * &weight * (1.0 + means.tanh());
        let offset = -(&factor * mean);
        Ok([factor, offset])
    };
    let y = if use_kernels {
        assert!(is_supported(&x));
        let transform = ImageTransform {
            center: &center,
            from_moments: &from_moments,
            parameters: &[&weight],
            shortcut: shortcut.as_ref(),
        };
        forward(&x, &Transform::Image(transform), relu).unwrap()
    } else {
        let active = if relu == Relu::Before { x.relu() } else { x.shallow_clone() };
        let centered = active.to_kind(Kind::Double) - center.view([1, -1, 1, 1]);
        let mean = |tensor: &Tensor| tensor.mean_dim([2i64, 3].as_slice(), false, Kind::Double);
        let [factor, offset] = from_moments(&mean(&centered), &mean(&centered.square())).unwrap();
        let expand = |tensor: Tensor| tensor.unsqueeze(-1).unsqueeze(-1);
        let mut y = centered * expand(factor) + expand(offset);
        if let Some(shortcut) = &shortcut {
            y += shortcut;
        }
        (if relu == Relu::After { y.relu() } else { y }).to_kind(x.kind())
    };
    (y.to_kind(Kind::Float) * noise(&y.size(), 5)).sum(Kind::Float).backward();
    let shortcut = shortcut.map(|shortcut| shortcut.grad());
    [y, x.grad(), weight.grad()].into_iter().chain(shortcut).collect()
}

#[test]
fn matches_libtorch() {
    if kernels::isa().is_none() {
        println!("skipped: this processor has neither AVX2 nor AVX-512, so there is no fast path");
        return;
    }
    for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 1e-2)] {
        for size in [[4, 32, 23, 23], [64, 16, 3, 5], [7, 16, 3, 5], [1, 48, 7, 2], [2, 16, 1, 1]] {
            let x = ((noise(&size, 6) + 0.2) * 3.0).to_kind(kind);
            for relu in [Relu::None, Relu::Before, Relu::After] {
                let case = format!("{kind:?} {size:?} ReLU {relu:?}");
                assert_all_close(&batch_norm(&x, relu, true), &batch_norm(&x, relu, false), tolerance, &case);
                for with_shortcut in [false, true] {
                    let run = |use_kernels| image_transform(&x, relu, with_shortcut, use_kernels);
                    let case = format!("{case}, shortcut {with_shortcut}");
                    assert_all_close(&run(true), &run(false), tolerance, &case);
                }
            }
        }
    }
}

#[test]
fn nothing_is_recorded_without_gradients() {
    let x = noise(&[2, 16, 4, 4], 6);
    let center = Tensor::zeros([16], (Kind::Float, Device::Cpu));
    let from_moments = |means: &Tensor, squares: &Tensor| Ok([squares.ones_like(), means.zeros_like()]);
    let transform = ImageTransform { center: &center, from_moments: &from_moments, parameters: &[], shortcut: None };
    let y = forward(&x, &Transform::Image(transform), Relu::None).unwrap();
    assert!(!y.requires_grad());
    assert!((y - x).abs().max().double_value(&[]) < 1e-6);
}
