//! Draws a person with an expression: head, hair, beard and glasses; `features.rs` draws the rest.

use super::expression::{Action, Expression};
use super::identity::{HairStyle, Identity};
use super::raster::{Canvas, Frame, Ink};
use super::scene::Pose;
use super::shapes::{Area, Stroke, ellipse, rounded_box};

/// A face to draw. Frames are in face units: origin at the head's center, y down.
pub(super) struct Portrait<'a> {
    /// The person.
    pub(super) identity: &'a Identity,
    /// The expression.
    pub(super) expression: &'a Expression,
    /// Frame of the head in the image.
    pub(super) head: Frame,
    /// Turn of the head to the side, -1 to 1.
    pub(super) yaw: f64,
    /// Unit vector toward the light: x, y and toward the viewer.
    pub(super) light: [f64; 3],
    /// Tone of the clothes.
    pub(super) clothes: f64,
}

impl Portrait<'_> {
    /// Draws everything from back to front.
    pub(super) fn draw(&self, canvas: &mut Canvas) {
        self.draw_back_hair(canvas);
        self.draw_body(canvas);
        self.draw_head(canvas);
        self.draw_relief(canvas);
        self.draw_beard(canvas);
        self.draw_features(canvas);
        self.draw_front_hair(canvas);
        if self.identity.glasses {
            self.draw_glasses(canvas);
        }
    }

    /// The intensity of `action`.
    pub(super) fn get(&self, action: Action) -> f64 {
        self.expression.get(action)
    }

    /// The intensity of `action`, or 0 if it is negative.
    pub(super) fn positive(&self, action: Action) -> f64 {
        self.expression.positive(action)
    }

    /// Frame of the features.
    pub(super) fn features(&self) -> Frame {
        Pose { head: self.head, yaw: self.yaw }.features()
    }

    /// Frame at (`x`, `y`) of the features, mirrored so that x points outward on either `side` (-1
    /// or 1); the side that the head turns to is foreshortened.
    pub(super) fn mirrored_frame(&self, side: f64, x: f64, y: f64) -> Frame {
        let near = 1.0 - 0.13 * self.yaw * side;
        self.features().moved(side * x * near, y).scaled(side * near, 1.0)
    }

    /// How far an open mouth lowers the chin.
    fn chin_drop(&self) -> f64 {
        0.3 * self.positive(Action::MouthOpen)
    }

    /// Signed distance to the outline of the head enlarged by `grow`.
    fn outline(&self, grow: f64) -> impl Fn(f64, f64) -> f64 + use<> {
        let (width, height) = (self.identity.head_width + grow, self.identity.head_height + grow);
        let (taper, drop) = (self.identity.taper, self.chin_drop());
        move |x, y| {
            let height = if y > 0.0 { height + drop } else { height };
            let v = (y / height).max(0.0);
            ellipse(x, y, width * (1.0 - taper * v), height)
        }
    }

    fn draw_back_hair(&self, canvas: &mut Canvas) {
        let Identity { head_width, head_height, hair, .. } = *self.identity;
        let shade = |x: f64, _: f64| 0.85 - 0.012 * x * self.light[0].signum();
        if self.identity.style == HairStyle::Long {
            let area = Area { left: -head_width - 4.0, top: -head_height - 3.0, right: head_width + 4.0, bottom: 30.0 };
            canvas.fill_shaded(
                self.head,
                area,
                Ink::solid(hair),
                move |x, y| {
                    if y < 0.0 {
                        ellipse(x, y, head_width + 3.0, head_height + 2.0)
                    } else {
                        x.abs() - head_width - 3.0
                    }
                },
                shade,
            );
        } else if self.identity.style == HairStyle::Short {
            let area = Area { left: -head_width - 2.0, top: -head_height - 3.0, right: head_width + 2.0, bottom: 0.0 };
            canvas.fill_shaded(
                self.head,
                area,
                Ink::solid(hair),
                move |x, y| ellipse(x, y, head_width + 0.9, head_height + 1.6).max(y + 2.0),
                shade,
            );
        }
    }

    fn draw_body(&self, canvas: &mut Canvas) {
        let Identity { head_width, skin, .. } = *self.identity;
        let neck = Area { left: -20.0, top: 10.0, right: 20.0, bottom: 40.0 };
        canvas.fill(self.head, neck, Ink::solid(skin * 0.62), move |x, _| x.abs() - 0.6 * head_width);
        let shoulders = Area { left: -50.0, top: 20.0, right: 50.0, bottom: 50.0 };
        canvas.fill(self.head, shoulders, Ink::solid(self.clothes), |x, y| 24.0 + 0.012 * x * x - y);
        if self.identity.style != HairStyle::Long {
            for side in [-1.0, 1.0] {
                let ear = self.head.moved(side * (head_width + 0.3 - side * self.yaw), -1.0);
                canvas.fill(ear, Area::around(0.0, 0.0, 3.0, 5.0), Ink::solid(skin * 0.8), |x, y| {
                    ellipse(x, y, 1.9, 3.6)
                });
            }
        }
    }

    fn draw_head(&self, canvas: &mut Canvas) {
        let Identity { head_width, head_height, skin, .. } = *self.identity;
        let light = self.light;
        let area = Area::around(0.0, 1.0, head_width + 1.0, head_height + 4.0);
        // Lambertian reflection on an ellipsoid, plus ambient light.
        let shade = move |x: f64, y: f64| {
            let (nx, ny) = (x / (head_width + 2.0), y / (head_height + 3.0));
            let nz = (1.0 - nx * nx - ny * ny).max(0.0).sqrt();
            0.42 + 0.68 * (nx * light[0] + ny * light[1] + nz * light[2]).max(0.0)
        };
        canvas.fill_shaded(self.head, area, Ink::solid(skin), self.outline(0.0), shade);
    }

    /// Draws eye sockets, cheeks, temples, forehead and chin as soft shadows and highlights.
    fn draw_relief(&self, canvas: &mut Canvas) {
        let Identity { eye_distance, eye_line, mouth_line, .. } = *self.identity;
        let raise = 0.5 * self.get(Action::BrowRaise);
        let cheek = self.positive(Action::Squint).max(self.positive(Action::CheekFold));
        for side in [-1.0, 1.0] {
            let lit = side * self.light[0];
            canvas.spot(self.mirrored_frame(side, eye_distance, eye_line), [-1.0, -1.0 - raise], [6.0, 4.6], -0.26);
            canvas.spot(
                self.mirrored_frame(side, 8.5, 3.5 - cheek),
                [0.0, 0.0],
                [5.0, 4.6],
                0.08 + 0.12 * cheek + 0.1 * lit,
            );
            canvas.spot(self.mirrored_frame(side, 11.5, 9.5), [0.0, 0.0], [4.0, 8.0], -0.16 + 0.1 * lit);
        }
        canvas.spot(self.features(), [0.0, -12.0], [10.0, 6.0], 0.1);
        canvas.spot(self.features(), [0.0, mouth_line + 5.6 + self.chin_drop()], [4.6, 3.4], 0.12);
    }

    fn draw_beard(&self, canvas: &mut Canvas) {
        let Identity { hair, beard, mustache, mouth_line, nose_end, .. } = *self.identity;
        let outline = self.outline(0.2);
        let drop = self.chin_drop();
        if beard > 0.0 {
            let area = Area { left: -18.0, top: 0.0, right: 18.0, bottom: 28.0 };
            let ink = Ink { tone: hair, opacity: beard, soft: 2.5 };
            canvas.fill(self.head, area, ink, |x, y| {
                outline(x, y).max(-ellipse(x, y - 1.0 - 0.3 * drop, 11.0, mouth_line - 1.0 + drop)).max(3.0 - y)
            });
        }
        if mustache > 0.0 {
            let middle = 0.5 * (nose_end + mouth_line) + 0.5;
            let ink = Ink { tone: hair, opacity: mustache, soft: 1.6 };
            canvas.stroke(
                self.features(),
                ink,
                &Stroke([
                    [-5.5, middle + 2.2 - 0.5 * self.get(Action::Smile), 0.7],
                    [0.0, middle - 1.6, 2.0],
                    [5.5, middle + 2.2 - 0.5 * self.get(Action::Smile), 0.7],
                ]),
            );
        }
    }

    fn draw_front_hair(&self, canvas: &mut Canvas) {
        let Identity { head_width, head_height, hair, hair_line, hair_fall, parting, style, .. } = *self.identity;
        if style == HairStyle::Bald {
            return;
        }
        let area = Area { left: -head_width - 3.0, top: -head_height - 3.0, right: head_width + 3.0, bottom: 0.0 };
        let light = self.light;
        // Strands, and a sheen that follows the skull.
        let shade = move |x: f64, y: f64| {
            let strand = (0.35 * x * x.abs().sqrt() + 0.4 * y).rem_euclid(2.0) - 1.0;
            let sheen = 1.0 - ((y + 15.0 - 0.03 * x * x) / 5.0).abs().min(1.0);
            0.9 + 0.16 * strand.abs() + 0.5 * sheen * light[2] - 0.015 * x * light[0].signum()
        };
        canvas.fill_shaded(
            self.head,
            area,
            Ink { tone: hair, opacity: 0.97, soft: 1.6 },
            move |x, y| {
                let t = (x - parting) / head_width;
                let line = hair_line + hair_fall * t * t;
                ellipse(x, y, head_width + 0.9, head_height + 1.6).max(0.8 * (y - line))
            },
            shade,
        );
    }

    fn draw_glasses(&self, canvas: &mut Canvas) {
        let Identity { eye_distance, eye_line, skin, .. } = *self.identity;
        let ink = Ink::glaze(0.12 * skin, 0.8);
        for side in [-1.0, 1.0] {
            let frame = self.mirrored_frame(side, eye_distance, eye_line + 0.4);
            let rim = |x: f64, y: f64| rounded_box(x, y, [5.0, 3.8], 2.2);
            canvas.fill(frame, Area::around(0.0, 0.0, 6.0, 5.0), Ink::glaze(0.9, 0.08), rim);
            canvas.fill(frame, Area::around(0.0, 0.0, 6.0, 5.0), ink, |x, y| rim(x, y).abs() - 0.4);
            let bow = Stroke([[5.0, -1.0, 0.35], [7.0, -1.2, 0.35], [9.0, -1.2, 0.35]]);
            canvas.stroke(frame, ink, &bow);
        }
        let bridge = Stroke([[-1.6, eye_line, 0.35], [0.0, eye_line - 1.0, 0.35], [1.6, eye_line, 0.35]]);
        canvas.stroke(self.features(), ink, &bridge);
    }
}
