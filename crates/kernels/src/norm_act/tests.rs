use super::*;
use crate::isa::tests::for_each_isa;

const CHANNELS: usize = 32;
/// Rows per group.
const ROWS: usize = 37;
/// Three groups, the last of 17 rows.
const ALL_ROWS: usize = 2 * ROWS + 17;
const GROUPS: usize = 3;

/// Pseudorandom values in -1..1.
fn numbers(count: usize, salt: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(salt) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

/// Compares all passes with a reference implementation in `f64`.
fn compare(relu: Relu, with_shortcut: bool, centered: bool) {
    let count = ALL_ROWS * CHANNELS;
    let (input, gradient, shortcut) = (numbers(count, 3), numbers(count, 9), numbers(count, 11));
    let [a, b, c, d] = [5, 6, 7, 8].map(|salt| numbers(GROUPS * CHANNELS, salt));
    let center = numbers(CHANNELS, 4);
    let groups = Groups { input: &input[..], rows: ROWS, channels: CHANNELS, relu };
    let zeros = || vec![1.0f64; GROUPS * CHANNELS];
    let (mut sum, mut square, mut gradient_sum, mut product) = (zeros(), zeros(), zeros(), zeros());
    let blank = || vec![7.0f32; count];
    let (mut output, mut input_gradient, mut shortcut_gradient) = (blank(), blank(), blank());
    sums(&groups, &center, &mut sum, &mut square);
    apply(&groups, &a, &b, with_shortcut.then_some(&shortcut[..]), &mut output);
    let from = OutputGradient { gradient: &gradient, output: &output };
    backward_sums(&groups, &from, &center, &mut gradient_sum, &mut product);
    let by = if centered {
        Coefficients::Centered { gradient: &a, gradient_mean: &b, input: &c, center: &d }
    } else {
        Coefficients::Affine { gradient: &a, input: &b, offset: &c }
    };
    let to_shortcut = (with_shortcut && !centered).then_some(&mut shortcut_gradient[..]);
    backward_apply(&groups, &from, &by, &mut input_gradient, to_shortcut);

    let close = |actual: f64, expected: f64, what: &str| {
        assert!((actual - expected).abs() < 1e-5, "{relu:?}, {what}: {actual}, expected {expected}");
    };
    for group in 0..GROUPS {
        for channel in 0..CHANNELS {
            let place = group * CHANNELS + channel;
            let rows = group * ROWS..ALL_ROWS.min((group + 1) * ROWS);
            let all = || rows.clone().map(|row| row * CHANNELS + channel);
            let [a, b, c, d] = [&a, &b, &c, &d].map(|each| f64::from(each[place]));
            let center = f64::from(center[channel]);
            let x = |at: usize| f64::from(input[at].max(if relu == Relu::Before { 0.0 } else { f32::MIN }));
            let linear = |at: usize| a * x(at) + b + if with_shortcut { f64::from(shortcut[at]) } else { 0.0 };
            let passes = |at: usize| relu != Relu::After || output[at] > 0.0;
            let g = |at: usize| if passes(at) { f64::from(gradient[at]) } else { 0.0 };
            close(sum[place], all().map(|at| x(at) - center).sum(), "sum");
            close(square[place], all().map(|at| (x(at) - center).powi(2)).sum(), "square");
            close(gradient_sum[place], all().map(g).sum(), "sum of gradients");
            close(product[place], all().map(|at| g(at) * (x(at) - center)).sum(), "product");
            for at in all() {
                let expected = if relu == Relu::After { linear(at).max(0.0) } else { linear(at) };
                close(f64::from(output[at]), expected, "output");
                let expected = if centered { a * (g(at) - b) + c * (x(at) - d) } else { a * g(at) + b * x(at) + c };
                let is_active = relu != Relu::Before || input[at] > 0.0;
                close(f64::from(input_gradient[at]), if is_active { expected } else { 0.0 }, "input gradient");
                if with_shortcut && !centered {
                    close(f64::from(shortcut_gradient[at]), g(at), "shortcut gradient");
                }
            }
        }
    }
}

#[test]
fn matches_reference() {
    for_each_isa(|_| {
        for relu in [Relu::None, Relu::Before, Relu::After] {
            for with_shortcut in [false, true] {
                [false, true].into_iter().for_each(|centered| compare(relu, with_shortcut, centered));
            }
        }
    });
}

#[test]
fn relu_and_its_gradient_follow_pytorch_at_zero_and_nan() {
    let input = [f32::NAN; 16].iter().enumerate().map(|(at, nan)| if at == 0 { *nan } else { 0.0 });
    let input: Vec<f32> = input.collect();
    let (one, zero) = ([1.0; 16], [0.0; 16]);
    let groups = Groups { input: &input[..], rows: 1, channels: 16, relu: Relu::Before };
    let (mut output, mut to) = ([0.0; 16], [9.0; 16]);
    apply(&groups, &one, &zero, None, &mut output);
    assert!(output[0].is_nan() && output[1] == 0.0);
    let from = OutputGradient { gradient: &one[..], output: &[] };
    let by = Coefficients::Affine { gradient: &one, input: &zero, offset: &zero };
    backward_apply(&groups, &from, &by, &mut to, None);
    assert!(to[0].is_nan() && to[1] == 0.0, "no gradient passes at 0, and NaN is not hidden");
}
