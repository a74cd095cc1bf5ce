//! The scene of a face: pose, lighting, background, occlusion, blur and noise.

use super::expression::bell;
use super::raster::{Canvas, Frame, Ink};
use super::shapes::{Area, Stroke, capsule, ellipse};
use crate::util::rng::Rng;

/// Mean pixels per face unit, at which the face fills the image.
const CROP: f64 = 1.17;

/// Position, size and rotation of the head.
pub(super) struct Pose {
    /// Frame of the head, in face units.
    pub(super) head: Frame,
    /// Turn to the side, -1 to 1.
    pub(super) yaw: f64,
}

impl Pose {
    /// A random pose.
    pub(super) fn random(rng: &mut Rng) -> Pose {
        // Most faces are aligned as by a face detector. Some are off by up to 12% in size, 4 pixels
        // in position and 12 degrees in rotation (0.105 is the tangent of half of it).
        let loose = if rng.uniform() < 0.25 { 1.0 } else { 0.22 };
        let mut off = |limit: f64| loose * rng.between(-limit, limit);
        let size = CROP * (1.0 + off(0.12));
        let (shift_x, shift_y) = (off(4.0), off(4.0));
        let half_tangent = off(0.105);
        let yaw = (0.27 * bell(rng)).clamp(-1.0, 1.0);
        let head = Frame::new(24.0 + shift_x, 23.0 + shift_y).rotated(half_tangent).scaled(size, size);
        Pose { head, yaw }
    }

    /// Frame of the features: they slide sideways and narrow as the head turns.
    pub(super) fn features(&self) -> Frame {
        self.head.moved(2.6 * self.yaw, 0.0).scaled(1.0 - 0.08 * self.yaw.abs(), 1.0)
    }
}

/// Lighting and exposure of the image.
pub(super) struct Light {
    /// Unit vector toward the light: x, y and toward the viewer.
    pub(super) direction: [f64; 3],
    /// Relative change of brightness from the center to the right and to the bottom edge.
    slope: [f64; 2],
    contrast: f64,
    exposure: f64,
    /// Above 1 darkens the midtones, below 1 brightens them.
    gamma: f64,
}

impl Light {
    /// Random lighting.
    pub(super) fn random(rng: &mut Rng) -> Light {
        let (x, y) = (rng.between(-0.6, 0.6), rng.between(-0.6, 0.15));
        let length = (x * x + y * y + 0.64).sqrt();
        let slope = [0, 1].map(|_| 0.09 * bell(rng));
        Light {
            direction: [x / length, y / length, 0.8 / length],
            slope,
            contrast: rng.between(0.8, 1.15),
            exposure: rng.between(-0.06, 0.06),
            gamma: rng.between(0.7, 1.4),
        }
    }

    /// Applies uneven lighting, gamma, contrast and exposure.
    pub(super) fn apply(&self, canvas: &mut Canvas) {
        canvas.map_all(|tone, x, y| {
            let lit = (tone * (1.0 + self.slope[0] * x + self.slope[1] * y)).clamp(0.0, 1.0);
            // A rational approximation of gamma, because `powf` differs between platforms.
            let curved = lit / (lit + (1.0 - lit) * self.gamma);
            0.5 + self.exposure + self.contrast * (curved - 0.5)
        });
    }
}

/// Draws a gradient and soft blobs.
pub(super) fn draw_background(canvas: &mut Canvas, rng: &mut Rng) {
    let slope = [0, 1].map(|_| rng.between(-0.3, 0.3));
    canvas.map_all(|tone, x, y| (tone + slope[0] * x + slope[1] * y).clamp(0.02, 1.0));
    let image = Frame::new(0.0, 0.0);
    for _ in 0..(5.0 * rng.uniform()) as usize {
        let center = [0, 1].map(|_| rng.between(0.0, 48.0));
        let radii = [0, 1].map(|_| rng.between(5.0, 20.0));
        canvas.spot(image, center, radii, rng.between(-0.8, 0.9));
    }
}

/// Draws an occlusion on 20% of the faces: a hand, a scarf, or a bar such as a cable or a
/// microphone.
pub(super) fn draw_occlusion(canvas: &mut Canvas, rng: &mut Rng, head: Frame, skin: f64) {
    match rng.uniform() {
        roll if roll < 0.07 => draw_hand(canvas, rng, head, skin),
        roll if roll < 0.12 => draw_scarf(canvas, rng, head),
        roll if roll < 0.20 => draw_bar(canvas, rng),
        _ => {}
    }
}

fn draw_hand(canvas: &mut Canvas, rng: &mut Rng, head: Frame, skin: f64) {
    let side = if rng.uniform() < 0.5 { -1.0 } else { 1.0 };
    let hand = head
        .moved(side * rng.between(7.0, 15.0), rng.between(6.0, 17.0))
        .scaled(side, 1.0)
        .rotated(rng.between(-0.3, 0.3));
    let tone = skin * rng.between(0.75, 1.05);
    let palm = Area { left: -6.0, top: -2.0, right: 8.0, bottom: 30.0 };
    canvas.fill(hand, palm, Ink::solid(0.9 * tone), |x, y| {
        ellipse(x - 1.0, y - 6.0, 5.5, 7.5).min((x - 1.0).abs().max(6.0 - y) - 4.0)
    });
    for finger in 0..4 {
        let x = -3.2 + 2.6 * f64::from(finger);
        let tip = [x - 1.5, -6.0 + 0.6 * f64::from((finger - 1) * (finger - 1)), 1.1];
        let area = Area { left: x - 3.5, top: -8.0, right: x + 2.5, bottom: 4.0 };
        canvas.fill(hand, area, Ink::glaze(0.45 * tone, 0.8), |px, py| {
            capsule(px, py, [x, 2.0, 1.6], [tip[0], tip[1], 1.5])
        });
        canvas.fill(hand, area, Ink::solid(tone), |px, py| capsule(px, py, [x, 2.0, 1.3], tip));
    }
}

fn draw_scarf(canvas: &mut Canvas, rng: &mut Rng, head: Frame) {
    let (top, tone, sag) = (rng.between(8.0, 14.0), rng.between(0.08, 0.85), rng.between(-0.02, 0.03));
    let period = rng.between(2.0, 5.0);
    let area = Area { left: -40.0, top: top - 8.0, right: 40.0, bottom: 45.0 };
    canvas.fill_shaded(
        head,
        area,
        Ink::solid(tone),
        |x, y| top - sag * x * x - y,
        |x, y| 0.85 + 0.3 * (((y - 0.2 * x) / period).rem_euclid(1.0) - 0.5).abs(),
    );
}

fn draw_bar(canvas: &mut Canvas, rng: &mut Rng) {
    let mut end = |x: f64| [x, rng.between(0.0, 48.0), 0.0];
    let (mut from, mut to) = (end(-4.0), end(52.0));
    let radius = rng.between(1.0, 3.0);
    (from[2], to[2]) = (radius, radius * rng.between(0.6, 1.4));
    if rng.uniform() < 0.5 {
        from.swap(0, 1);
        to.swap(0, 1);
    }
    let middle = [0, 1, 2].map(|i| 0.5 * (from[i] + to[i]));
    let ink = Ink { tone: rng.between(0.0, 0.9), opacity: rng.between(0.7, 1.0), soft: rng.between(1.0, 2.0) };
    canvas.stroke(Frame::new(0.0, 0.0), ink, &Stroke([from, middle, to]));
}

/// Adds blur and sensor noise.
pub(super) fn degrade(canvas: &mut Canvas, rng: &mut Rng) {
    let blur = rng.between(0.0, 0.22);
    canvas.blur(blur);
    if rng.uniform() < 0.12 {
        canvas.blur(0.25);
    }
    let grain = rng.between(0.004, 0.026);
    let mut spare = None;
    canvas.add(|| {
        // The sum of four bytes is about normal; one 64-bit number serves two pixels.
        let bits = spare.take().unwrap_or_else(|| {
            let bits = rng.next_u64();
            spare = Some(bits >> 32);
            bits
        });
        let sum: u64 = (0..4).map(|byte| (bits >> (8 * byte)) & 255).sum();
        grain * (sum as f64 - 510.0) / 147.8
    });
}
