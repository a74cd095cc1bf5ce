//! The one-dimensional transforms of F(m, 3). The two-dimensional ones apply them to columns, then
//! to rows. They are plain loops: a closure, such as that of `array::from_fn`, does not always become
//! part of the function that enables the instruction set, and then each instruction is a call.
//!
//! They follow from interpolation of polynomials at m + 1 points and infinity. The points decide the
//! rounding error. The usual ones, 0, 1, -1, 2 and -2, have errors three times larger than those
//! here: small multiples of 1/8 whose powers stay close to 1, in pairs, because the transforms of a
//! and -a share their terms.

use simd::Vector;

/// F(M, 3) with windows of `N = M + 2`.
pub(super) trait Tile<const M: usize, const N: usize> {
    /// Transform of a filter: N x 3.
    const FILTER: [[f32; 3]; N];
    /// Transforms a window of inputs.
    fn input<V: Vector>(x: [V; N]) -> [V; N];
    /// Transforms products to outputs.
    fn output<V: Vector>(x: [V; N]) -> [V; M];
    /// The transpose of [`output`](Self::output): spreads gradients of outputs to those of products.
    fn spread<V: Vector>(x: [V; M]) -> [V; N];
}

/// F(2, 3), at the points 0, 1, -1 and infinity.
pub(super) struct Two;
/// F(3, 3), at the points 0, 3/4, -3/4, 3/2 and infinity.
pub(super) struct Three;
/// F(4, 3), at the points 0, 5/8, -5/8, 3/2, -3/2 and infinity.
pub(super) struct Four;

/// Row of the filter's transform for `point`: its powers over the product of its distances from the
/// other points.
const fn filter_row(point: f64, distances: f64) -> [f32; 3] {
    [(1.0 / distances) as f32, (point / distances) as f32, (point * point / distances) as f32]
}

/// `factor * x + y`
#[inline(always)]
fn scaled<V: Vector>(factor: f32, x: V, y: V) -> V {
    V::splat(factor).mul_add(x, y)
}

impl Tile<2, 4> for Two {
    const FILTER: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

    #[inline(always)]
    fn input<V: Vector>(x: [V; 4]) -> [V; 4] {
        [x[0].sub(x[2]), x[1].add(x[2]), x[2].sub(x[1]), x[3].sub(x[1])]
    }

    #[inline(always)]
    fn output<V: Vector>(x: [V; 4]) -> [V; 2] {
        [x[0].add(x[1].add(x[2])), x[1].sub(x[2]).add(x[3])]
    }

    #[inline(always)]
    fn spread<V: Vector>(x: [V; 2]) -> [V; 4] {
        [x[0], x[0].add(x[1]), x[0].sub(x[1]), x[1]]
    }
}

/// Points of F(3, 3): 0, A, -A, B and infinity.
mod three {
    pub(super) const A: f64 = 0.75;
    pub(super) const B: f64 = 1.5;
}

impl Tile<3, 5> for Three {
    const FILTER: [[f32; 3]; 5] = [
        filter_row(0.0, three::A * three::A * three::B),
        filter_row(three::A, 2.0 * three::A * three::A * (three::A - three::B)),
        filter_row(-three::A, -2.0 * three::A * three::A * (three::A + three::B)),
        filter_row(three::B, three::B * (three::B * three::B - three::A * three::A)),
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    fn input<V: Vector>(x: [V; 5]) -> [V; 5] {
        let (a, b, aa) = (three::A as f32, three::B as f32, (three::A * three::A) as f32);
        // x_(i + 2) - A^2 x_i has the zeros A and -A.
        let without_a = [scaled(-aa, x[0], x[2]), scaled(-aa, x[1], x[3]), scaled(-aa, x[2], x[4])];
        // x_(i + 1) - B x_i has the zero B.
        let without_b = [scaled(-b, x[1], x[2]), scaled(-b, x[2], x[3])];
        [
            scaled(-b, without_a[0], without_a[1]),
            scaled(a, without_b[0], without_b[1]),
            scaled(-a, without_b[0], without_b[1]),
            without_a[1],
            scaled(-b, without_a[1], without_a[2]),
        ]
    }

    #[inline(always)]
    fn output<V: Vector>(x: [V; 5]) -> [V; 3] {
        let (a, b) = (three::A as f32, three::B as f32);
        let (sum, difference) = (x[1].add(x[2]), x[1].sub(x[2]));
        [
            x[0].add(sum).add(x[3]),
            scaled(a, difference, V::splat(b).mul_add(x[3], V::splat(0.0))),
            scaled(a * a, sum, scaled(b * b, x[3], x[4])),
        ]
    }

    #[inline(always)]
    fn spread<V: Vector>(x: [V; 3]) -> [V; 5] {
        let (a, b) = (three::A as f32, three::B as f32);
        let even = scaled(a * a, x[2], x[0]);
        [x[0], scaled(a, x[1], even), scaled(-a, x[1], even), scaled(b * b, x[2], scaled(b, x[1], x[0])), x[2]]
    }
}

/// Points of F(4, 3): 0, A, -A, B, -B and infinity.
mod four {
    pub(super) const A: f64 = 0.625;
    pub(super) const B: f64 = 1.5;
    pub(super) const AA: f64 = A * A;
    pub(super) const BB: f64 = B * B;
}

impl Tile<4, 6> for Four {
    const FILTER: [[f32; 3]; 6] = [
        filter_row(0.0, four::AA * four::BB),
        filter_row(four::A, 2.0 * four::AA * (four::AA - four::BB)),
        filter_row(-four::A, 2.0 * four::AA * (four::AA - four::BB)),
        filter_row(four::B, 2.0 * four::BB * (four::BB - four::AA)),
        filter_row(-four::B, 2.0 * four::BB * (four::BB - four::AA)),
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    fn input<V: Vector>(x: [V; 6]) -> [V; 6] {
        let (a, b, aa, bb) = (four::A as f32, four::B as f32, four::AA as f32, four::BB as f32);
        // x_(i + 2) - A^2 x_i has the zeros A and -A; likewise for B.
        let without_a = [scaled(-aa, x[1], x[3]), scaled(-aa, x[2], x[4])];
        let without_b = [scaled(-bb, x[1], x[3]), scaled(-bb, x[2], x[4])];
        let (sum, product) = ((four::AA + four::BB) as f32, (four::AA * four::BB) as f32);
        [
            scaled(product, x[0], scaled(-sum, x[2], x[4])),
            scaled(a, without_b[0], without_b[1]),
            scaled(-a, without_b[0], without_b[1]),
            scaled(b, without_a[0], without_a[1]),
            scaled(-b, without_a[0], without_a[1]),
            scaled(product, x[1], scaled(-sum, x[3], x[5])),
        ]
    }

    #[inline(always)]
    fn output<V: Vector>(x: [V; 6]) -> [V; 4] {
        let (a, b, aa, bb) = (four::A as f32, four::B as f32, four::AA as f32, four::BB as f32);
        let (even_a, odd_a) = (x[1].add(x[2]), V::splat(a).mul_add(x[1].sub(x[2]), V::splat(0.0)));
        let (even_b, odd_b) = (x[3].add(x[4]), V::splat(b).mul_add(x[3].sub(x[4]), V::splat(0.0)));
        [
            x[0].add(even_a).add(even_b),
            odd_a.add(odd_b),
            scaled(aa, even_a, V::splat(bb).mul_add(even_b, V::splat(0.0))),
            scaled(aa, odd_a, scaled(bb, odd_b, x[5])),
        ]
    }

    #[inline(always)]
    fn spread<V: Vector>(x: [V; 4]) -> [V; 6] {
        let (a, b, aa, bb) = (four::A as f32, four::B as f32, four::AA as f32, four::BB as f32);
        let (even_a, odd_a) = (scaled(aa, x[2], x[0]), scaled(aa, x[3], x[1]));
        let (even_b, odd_b) = (scaled(bb, x[2], x[0]), scaled(bb, x[3], x[1]));
        [
            x[0],
            scaled(a, odd_a, even_a),
            scaled(-a, odd_a, even_a),
            scaled(b, odd_b, even_b),
            scaled(-b, odd_b, even_b),
            x[3],
        ]
    }
}
