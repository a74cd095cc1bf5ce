use kernels::conv_pool::*;
use kernels::*;
use std::time::Instant;
fn main() {
    run::<bf16>("bf16");
    run::<f32>("f32");
}
fn run<E: Element>(name: &str) {
    for (side, channels, filters) in [(48, 1, 32), (23, 32, 64), (10, 64, 128)] {
        let shape = Shape { height: side, width: side, channels, filters, padding: 0 };
        let n = 64;
        let mut s = 1u32;
        let mut r = move || {
            s = s.wrapping_mul(1664525).wrapping_add(1013904223);
            (s >> 8) as f32 / (1 << 24) as f32 - 0.3
        };
        let input: Vec<E> = (0..n * shape.input_len()).map(|_| E::from_f32(r())).collect();
        let conv: Vec<E> = (0..n * shape.conv_len()).map(|_| E::from_f32(r())).collect();
        let grad: Vec<E> = (0..n * shape.pooled_len()).map(|_| E::from_f32(r().max(0.0))).collect();
        let w: Vec<f32> = (0..shape.weights_len()).map(|_| r()).collect();
        let bias = vec![0.1; filters];
        let mut pooled = vec![E::default(); grad.len()];
        let mut winners = vec![0u8; grad.len()];
        let mut dw = vec![0.0; w.len()];
        let mut db = vec![0.0; filters];
        let mut dx = vec![E::default(); input.len()];
        let mut times = [f64::MAX; 4];
        let packed_e = pack_for_forward(&shape, &w.iter().map(|v| E::from_f32(*v)).collect::<Vec<_>>());
        for _ in 0..10 {
            let t = Instant::now();
            pool(&shape, &conv, &bias, &mut pooled, &mut winners);
            times[0] = times[0].min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            forward(&shape, &input, &packed_e, &bias, &mut pooled, &mut winners);
            times[3] = times[3].min(t.elapsed().as_secs_f64());
            let saved = Saved { input: &input, winners: &winners, gradient: &grad };
            let t = Instant::now();
            backward(&shape, &saved, &mut Gradients { filters: &mut dw, bias: &mut db, input: None });
            times[1] = times[1].min(t.elapsed().as_secs_f64());
            if channels > 1 {
                let t = Instant::now();
                let packed = pack_filters(&shape, &w);
                backward(
                    &shape,
                    &saved,
                    &mut Gradients { filters: &mut dw, bias: &mut db, input: Some((&mut dx, &packed)) },
                );
                times[2] = times[2].min(t.elapsed().as_secs_f64());
            }
        }
        println!(
            "{name} {side} {channels}->{filters}: pool {:.2} ms, forward {:.2} ms, weights {:.2} ms, both {:.2} ms (1 thread, 64 images)",
            times[0] * 1e3, times[3] * 1e3, times[1] * 1e3,
            times[2] * 1e3
        );
    }
}
