use simd::Isa;

use super::*;

fn all() -> Vec<Option<Isa>> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Some).chain([None]).collect()
}

pub(crate) fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| f32::from_bits(u32::from(simd::round_to_bf16(value)) << 16)).collect()
}

fn bits(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&value| simd::round_to_bf16(value)).collect()
}

const STORES: [Store; 4] = [Store::Linear, Store::Relu, Store::Add, Store::ReluAdd];

/// Inputs, outputs, pixels.
const SHAPES: [(usize, usize, usize); 11] = [
    (1, 1, 1),
    (27, 32, 31),
    (24, 5, 13),
    (16, 96, 12),
    (3, 24, 17),
    (5, 40, 3),
    (24, 24, 9),
    (962, 16, 11),
    (322, 64, 8),
    (162, 144, 5),
    (96, 8, 7),
];

/// The sum by definition.
fn dense(x: &[f32], w: &[f32], bias: f32, before: f32, store: Store) -> f32 {
    let sum = bias + x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
    match store {
        Store::Linear => sum,
        Store::Relu => sum.max(0.0),
        Store::Add => sum + before,
        Store::ReluAdd => sum.max(0.0) + before,
    }
}

#[test]
fn dense_equals_the_definition_for_every_instruction_set_and_shape() {
    for (inputs, outputs, pixels) in SHAPES {
        let (w, bias, x) = (values(inputs * outputs, 1), values(outputs, 2), values(inputs * pixels, 3));
        let layer = Dense::new(inputs, &bias, |o, i| w[o * inputs + i]);
        let before = values(outputs * pixels, 4);
        let (round_w, round_x, pairs) = (rounded(&w), rounded(&x), bits(&x));
        for store in STORES {
            let check = |y: &[f32], x: &[f32], w: &[f32], name: &str| {
                for (at, y) in y.iter().enumerate() {
                    let (p, o) = (at / outputs, at % outputs);
                    let (x, w) = (&x[p * inputs..][..inputs], &w[o * inputs..][..inputs]);
                    let sum = dense(x, w, bias[o], before[at], store);
                    assert!((sum - y).abs() < 5e-4, "{name} {store:?} {inputs} {outputs} {at}: {sum} {y}");
                }
            };
            for isa in all() {
                let mut y = before.clone();
                layer.row(isa, &x, &mut y, store);
                check(&y, &x, &w, &format!("{isa:?}"));
                if simd::has_bf16(isa) && inputs % 2 == 0 {
                    let mut y = before.clone();
                    let row = Row { parts: &[&pairs], step: inputs, output: &mut y };
                    layer.rows_of_pairs(isa, &mut [row], store);
                    check(&y, &round_x, &round_w, "bf16");
                }
            }
        }
    }
}

#[test]
fn parts_of_several_rows_make_a_convolution() {
    // Two rows of 3x3 convolutions with stride 2 over pixels of 2 channels.
    let (outputs, pixels, part, step) = (40, 10, 6, 4);
    let (w, bias) = (values(outputs * 3 * part, 1), values(outputs, 2));
    let layer = Dense::new(3 * part, &bias, |o, i| w[o * 3 * part + i]);
    let lines: Vec<_> = (0..5).map(|i| values((pixels - 1) * step + part, 3 + i)).collect();
    for isa in all() {
        let mut outputs_of_rows = vec![vec![0.0; outputs * pixels]; 2];
        let parts = [0, 2].map(|first| [0, 1, 2].map(|i| &lines[first + i][..]));
        let mut rows: Vec<_> =
            outputs_of_rows.iter_mut().zip(&parts).map(|(output, parts)| Row { parts, step, output }).collect();
        layer.rows(isa, &mut rows, Store::Relu);
        for (row, output) in outputs_of_rows.iter().enumerate() {
            for (at, y) in output.iter().enumerate() {
                let (p, o) = (at / outputs, at % outputs);
                let patch: Vec<_> = (0..3).flat_map(|i| lines[2 * row + i][p * step..][..part].to_vec()).collect();
                let sum = dense(&patch, &w[o * 3 * part..][..3 * part], bias[o], 0.0, Store::Relu);
                assert!((sum - y).abs() < 1e-4, "{isa:?} {row} {at}: {sum} {y}");
            }
        }
    }
}

#[test]
fn depthwise_equals_the_definition_for_every_instruction_set() {
    for (channels, pixels, stride, count) in
        [(16, 1, 1, 1), (32, 9, 1, 1), (48, 5, 2, 1), (16, 1, 1, 2), (32, 11, 1, 2), (144, 8, 2, 1)]
    {
        let width = (pixels - 1) * stride + 3;
        let (w, bias) = (values(9 * channels, 1), values(channels, 2));
        let rows: Vec<_> = (0..count + 2).map(|r| values(width * channels, 3 + r)).collect();
        let rows: Vec<_> = rows.iter().map(|row| &row[..]).collect();
        let layer = Depthwise::new(stride, &w, &bias);
        for isa in all() {
            let mut y = vec![0.0; count * pixels * channels];
            layer.rows(isa, &rows, &mut y);
            let mut halves = vec![0u16; y.len()];
            layer.rows(isa, &rows, &mut halves);
            for (at, (y, half)) in y.iter().zip(halves).enumerate() {
                let (r, p, c) = (at / channels / pixels, at / channels % pixels, at % channels);
                let sum: f32 =
                    (0..9).map(|k| rows[r + k / 3][(p * stride + k % 3) * channels + c] * w[c * 9 + k]).sum();
                assert!(((sum + bias[c]).max(0.0) - y).abs() < 1e-4, "{isa:?} {at}");
                assert_eq!(simd::round_to_bf16(*y), half, "{isa:?} {at}");
            }
        }
    }
}

#[test]
fn values_are_rounded_in_every_instruction_set() {
    let x = values(37, 5);
    for isa in all() {
        assert_eq!(u16::convert(isa, &x, &mut Vec::new()), bits(&x), "{isa:?}");
        assert_eq!(f32::convert(isa, &x, &mut Vec::new()), x);
    }
}
