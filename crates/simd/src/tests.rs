use super::*;

/// Every operation on `a`, `b` and `c`, by name, as 16 values each.
struct Operations {
    a: [f32; 16],
    b: [f32; 16],
    c: [f32; 16],
}

const BYTES: [u8; 24] = [0, 1, 2, 3, 2, 1, 0, 255, 7, 2, 128, 2, 1, 0, 3, 2, 9, 200, 100, 50, 25, 12, 6, 3];

impl Task for Operations {
    type Output = Vec<(&'static str, Vec<f32>)>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        let mut all: Vec<(&'static str, Vec<f32>)> = Vec::new();
        let mut add = |name: &'static str, lane: usize, values: V| {
            let mut lanes = [0.0; 16];
            values.store(&mut lanes);
            match all.iter_mut().find(|(other, _)| *other == name) {
                Some((_, all)) => all.extend(&lanes[..V::LANES]),
                None if lane == 0 => all.push((name, lanes[..V::LANES].to_vec())),
                None => panic!("{name} begins at lane {lane}"),
            }
        };
        for lane in (0..16).step_by(V::LANES) {
            let [a, b, c] = [&self.a, &self.b, &self.c].map(|values| V::load(&values[lane..]));
            let mut indices = [0.0; 16];
            indices.iter_mut().enumerate().for_each(|(at, index)| *index = ((at + lane) * 5 % 20) as f32);
            // SAFETY: the largest index is 19, of 24 bytes.
            let (first, second) = unsafe { V::load(&indices).gather_pairs(BYTES.as_ptr()) };
            let mut bytes = [0; 16];
            first.store_bytes(&mut bytes);
            let mut byte_values = [0.0; 16];
            byte_values.iter_mut().zip(bytes).for_each(|(to, byte)| *to = f32::from(byte));
            let mut bf16 = [0; 16];
            a.store_bf16(&mut bf16);
            let mut rounded = [0.0; 16];
            rounded.iter_mut().zip(bf16).for_each(|(to, bits)| *to = f32::from_bits(u32::from(bits) << 16));
            let mut bits = [0; 16];
            bits.iter_mut().zip(&self.a).for_each(|(to, value)| *to = (value.to_bits() >> 16) as u16);
            let mut loaded = [9.0; 16];
            let mut stored = [9.0; 16];
            for count in 0..=V::LANES {
                // SAFETY: both arrays hold as many values.
                unsafe {
                    V::load_first(self.a[lane..].as_ptr(), count).store(&mut loaded);
                    a.store_first(stored.as_mut_ptr(), count);
                }
                for (at, &value) in self.a[lane..lane + V::LANES].iter().enumerate() {
                    let expected = if at < count { [value; 2] } else { [0.0, 9.0] };
                    let bits = |values: [f32; 2]| values.map(f32::to_bits);
                    assert_eq!(bits([loaded[at], stored[at]]), bits(expected), "the first {count}, {at}");
                }
            }
            for (name, values) in [
                ("splat", V::splat(self.a[3])),
                ("mul_add", a.mul_add(b, c)),
                ("add", a.add(b)),
                ("sub", a.sub(b)),
                ("max", a.max(b)),
                ("min", a.min(b)),
                ("floor", a.floor()),
                ("blend", a.blend(a.is_greater_or_nan(b), c)),
                ("mask_equal", a.mask_equal(&BYTES[lane..], 2)),
                ("first byte", first),
                ("second byte", second),
                ("bytes", V::load(&byte_values)),
                ("bf16", V::load(&rounded)),
                ("bf16 bits", V::load_bf16(&bits[lane..])),
            ] {
                add(name, lane, values);
            }
        }
        all
    }
}

/// The same by definition.
fn expected(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16]) -> Vec<(&'static str, Vec<f32>)> {
    let each = |combine: &dyn Fn(usize) -> f32| (0..16).map(combine).collect::<Vec<f32>>();
    let byte = |at: usize| f32::from(BYTES[at]);
    vec![
        ("splat", each(&|_| a[3])),
        ("mul_add", each(&|i| a[i].mul_add(b[i], c[i]))),
        ("add", each(&|i| a[i] + b[i])),
        ("sub", each(&|i| a[i] - b[i])),
        ("max", each(&|i| a[i].max(b[i]))),
        ("min", each(&|i| a[i].min(b[i]))),
        ("floor", each(&|i| a[i].floor())),
        ("blend", each(&|i| if a[i] > b[i] || a[i].is_nan() { c[i] } else { a[i] })),
        ("mask_equal", each(&|i| if BYTES[i] == 2 { a[i] } else { 0.0 })),
        ("first byte", each(&|i| byte(i * 5 % 20))),
        ("second byte", each(&|i| byte(i * 5 % 20 + 1))),
        ("bytes", each(&|i| byte(i * 5 % 20))),
        ("bf16", each(&|i| f32::from_bits(u32::from(round_to_bf16(a[i])) << 16))),
        ("bf16 bits", each(&|i| f32::from_bits(a[i].to_bits() & 0xffff_0000))),
    ]
}

fn available() -> Vec<Option<Isa>> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Some).chain([None]).collect()
}

#[test]
fn every_instruction_set_computes_what_the_operations_are_defined_to() {
    let mut a = [0.0; 16];
    a.iter_mut().enumerate().for_each(|(i, a)| *a = (i as f32 - 5.3) * 1.37);
    let b: [f32; 16] = std::array::from_fn(|i| 4.0 - 0.7 * i as f32);
    let c: [f32; 16] = std::array::from_fn(|i| (i as f32 * 0.37 - 2.0).powi(3));
    (a[1], a[6], a[9], a[14]) = (f32::NAN, b[6], f32::INFINITY, -0.5);
    let expected = expected(&a, &b, &c);
    for isa in available() {
        let plain = run(isa, Operations { a, b, c });
        let with_bf16 = run_with_bf16(isa, Operations { a, b, c });
        for ((name, expected), results) in expected.iter().zip(plain.iter().zip(&with_bf16)) {
            for (actual_name, actual) in [results.0, results.1] {
                assert_eq!(name, actual_name);
                let equal = |(a, b): (&f32, &f32)| {
                    // Plain Rust rounds `mul_add` twice.
                    let tolerance = if *name == "mul_add" { 1e-5 } else { 0.0 };
                    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance
                };
                assert!(expected.iter().zip(actual).all(equal), "{isa:?} {name}: {actual:?}, expected {expected:?}");
            }
        }
    }
}

#[test]
fn an_instruction_set_that_the_processor_lacks_is_never_used() {
    let [a, b, c] = [[1.0; 16], [2.0; 16], [3.0; 16]];
    for isa in Isa::ALL {
        assert_eq!(run(Some(isa), Operations { a, b, c }), run(None, Operations { a, b, c }), "{isa:?}");
        assert_eq!(run_with_bf16(Some(isa), Operations { a, b, c }), run(None, Operations { a, b, c }), "{isa:?}");
    }
    assert_eq!(available().first().copied().flatten(), Isa::detect());
}

struct Products([u16; 32], [u16; 2]);

impl Bf16Task for Products {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<V: Bf16Vector>(self) -> Vec<f32> {
        let mut all = vec![0.0; 16];
        for (lane, to) in all.chunks_exact_mut(V::LANES).enumerate() {
            // SAFETY: there are 32 values, and 2.
            let sums = unsafe {
                let pairs = V::load_pairs(self.0[2 * lane * V::LANES..].as_ptr());
                V::splat(0.5).add_products(pairs, V::splat_pair(self.1.as_ptr()))
            };
            sums.store(to);
        }
        all
    }
}

#[test]
fn products_of_pairs_follow_their_definition() {
    let values: [f32; 32] = std::array::from_fn(|i| i as f32 - 9.0);
    let task = || Products(values.map(round_to_bf16), [2.0, -3.0].map(round_to_bf16));
    for isa in available() {
        match run_bf16(isa, task()) {
            Ok(sums) => {
                let expected: Vec<f32> = values.chunks(2).map(|pair| 0.5 + 2.0 * pair[0] - 3.0 * pair[1]).collect();
                assert!(has_bf16(isa) && sums == expected, "{isa:?}: {sums:?}");
            }
            Err(task) => assert!(!has_bf16(isa) && task.1 == [2.0, -3.0].map(round_to_bf16)),
        }
    }
}
