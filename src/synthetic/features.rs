//! Facial features: nose, wrinkles, eyes, brows and mouth.

use super::expression::Action;
use super::identity::Identity;
use super::portrait::Portrait;
use super::raster::{Canvas, Frame, Ink};
use super::shapes::{Almond, Area, Stroke, ellipse};

/// Strength below which a wrinkle is not drawn.
const FAINT: f64 = 0.05;

impl Portrait<'_> {
    /// Draws all features.
    pub(super) fn draw_features(&self, canvas: &mut Canvas) {
        self.draw_nose(canvas);
        self.draw_nose_wrinkles(canvas);
        self.draw_furrows(canvas);
        self.draw_forehead_lines(canvas);
        self.draw_cheek_folds(canvas);
        for side in [-1.0, 1.0] {
            self.draw_eye(canvas, side);
            self.draw_brow(canvas, side);
        }
        self.draw_mouth(canvas);
    }

    /// The ink of a wrinkle.
    fn line(&self, strength: f64) -> Ink {
        Ink { tone: self.identity.skin * 0.42, opacity: strength.clamp(0.0, 0.85), soft: 1.5 }
    }

    fn draw_nose(&self, canvas: &mut Canvas) {
        let Identity { nose_width, nose_end, eye_line, skin, .. } = *self.identity;
        let end = nose_end - 0.6 * self.positive(Action::NoseWrinkle) - 0.3 * self.positive(Action::Sneer);
        let frame = self.features();
        let turned = self.yaw + 0.8 * self.light[0];
        let middle = 0.5 * (eye_line + end);
        canvas.spot(frame, [0.9 * self.yaw, middle], [1.7, 0.7 * (end - eye_line)], 0.22);
        canvas.spot(frame, [0.9 * self.yaw, end - 1.2], [2.2, 2.0], 0.16);
        canvas.spot(frame, [-2.4 * turned.signum(), middle + 1.0], [2.0, 5.0], -0.34 * turned.abs().min(1.0));
        canvas.spot(frame, [0.5 * self.yaw, end + 1.2], [nose_width + 1.6, 1.8], -0.36);
        for side in [-1.0, 1.0] {
            let wing = self.mirrored_frame(side, nose_width, end - 0.5);
            canvas.spot(wing, [0.4, -0.1], [1.6, 2.0], -0.3);
            let nostril = self.mirrored_frame(side, 0.52 * nose_width, end + 0.2);
            canvas.fill(nostril, Area::around(0.0, 0.0, 1.6, 1.4), Ink::glaze(skin * 0.28, 0.8), |x, y| {
                ellipse(x, y, 0.95, 0.55)
            });
        }
    }

    fn draw_nose_wrinkles(&self, canvas: &mut Canvas) {
        let frame = self.features();
        let wrinkle = self.positive(Action::NoseWrinkle);
        if wrinkle > FAINT {
            for (y, reach) in [(-1.6, 1.9), (-0.1, 2.3), (1.4, 2.7)] {
                let stroke = Stroke([[-reach, y + 0.6, 0.2], [0.0, y - 0.9, 0.35], [reach, y + 0.6, 0.2]]);
                canvas.stroke(frame, self.line(0.75 * wrinkle), &stroke);
            }
        }
    }

    fn draw_furrows(&self, canvas: &mut Canvas) {
        let Identity { eye_line, brow_height, .. } = *self.identity;
        let frame = self.features();
        let furrow = self.positive(Action::Furrow);
        if furrow > FAINT {
            let y = eye_line - brow_height + 1.2;
            for side in [-1.0, 1.0] {
                let stroke = Stroke([[side * 1.1, y - 2.2, 0.15], [side * 0.8, y, 0.4], [side * 1.2, y + 1.8, 0.15]]);
                canvas.stroke(frame, self.line(0.8 * furrow), &stroke);
            }
        }
    }

    fn draw_forehead_lines(&self, canvas: &mut Canvas) {
        let Identity { age, eye_line, brow_height, .. } = *self.identity;
        let frame = self.features();
        let lines = self.positive(Action::ForeheadLines) + 0.4 * age;
        if lines > FAINT {
            let raise = self.get(Action::BrowRaise);
            for y in [-3.0, -5.2] {
                let y = eye_line - brow_height - 0.6 * raise + y;
                canvas.stroke(
                    frame,
                    self.line(0.5 * lines),
                    &Stroke([[-6.5, y, 0.15], [0.0, y - 0.8, 0.4], [6.5, y, 0.15]]),
                );
            }
        }
    }

    fn draw_cheek_folds(&self, canvas: &mut Canvas) {
        let Identity { age, mouth_line, mouth_width, nose_width, nose_end, .. } = *self.identity;
        let fold = self.positive(Action::CheekFold) + 0.5 * age;
        if fold > FAINT {
            let reach = mouth_width * (1.0 + self.get(Action::MouthWide)) + 1.6;
            for side in [-1.0, 1.0] {
                let cheek = self.mirrored_frame(side, 0.0, 0.0);
                let stroke = Stroke([
                    [nose_width + 0.8, nose_end - 0.8, 0.3],
                    [reach + 0.2, nose_end + 1.4, 0.5],
                    [reach, mouth_line + 1.0 - 0.3 * self.get(Action::Smile), 0.2],
                ]);
                canvas.stroke(cheek, self.line(0.6 * fold), &stroke);
            }
        }
    }

    fn draw_eye(&self, canvas: &mut Canvas, side: f64) {
        let Identity { eye_distance, eye_line, eye_width, eye_height, eye_tilt, iris, skin, .. } = *self.identity;
        let frame = self.mirrored_frame(side, eye_distance, eye_line);
        let squint = self.positive(Action::Squint).min(1.0);
        let raise = self.get(Action::LidRaise).max(-0.75);
        let eye = Almond {
            half_width: eye_width,
            up: (eye_height * (1.0 + raise)).max(0.25),
            down: eye_height * (0.75 - 0.6 * squint + 0.25 * raise.max(0.0)),
            bend: -0.5 * squint,
            tilt: eye_tilt + 0.7 * self.get(Action::Droop),
            full: 0.3,
        };
        let opening = |x: f64, y: f64| eye.distance(x, y);
        canvas.fill(frame, eye.area(), Ink::solid(0.25 + 0.62 * skin), opening);
        let gaze = [1.2 * self.yaw * side, 0.1 - 0.25 * raise.max(0.0) + self.get(Action::GazeDown)];
        let disc = |radius: f64| {
            move |x: f64, y: f64| {
                let (dx, dy) = (x - gaze[0], y - gaze[1]);
                ((dx * dx + dy * dy).sqrt() - radius).max(opening(x, y))
            }
        };
        canvas.fill(frame, eye.area(), Ink::solid(iris), disc(1.65));
        canvas.fill(frame, eye.area(), Ink::solid(0.03), disc(0.8));
        let glint = Area::around(gaze[0] - 0.5 * side, gaze[1] - 0.6, 1.0, 1.0);
        canvas.fill(frame, glint, Ink::glaze(0.95, 0.7), |x, y| {
            ellipse(x - gaze[0] + 0.5 * side, y - gaze[1] + 0.6, 0.45, 0.45).max(opening(x, y))
        });
        self.draw_lids(canvas, frame, &eye);
        let bag = 0.2 + 0.5 * squint + 0.4 * self.identity.age;
        canvas.spot(frame, [-0.3, eye.down + 1.4], [eye_width, 1.5], -0.3 * bag);
    }

    /// Draws the lashes, the edge of the lower lid and the crease of the upper lid.
    fn draw_lids(&self, canvas: &mut Canvas, frame: Frame, eye: &Almond) {
        let (skin, eye_width) = (self.identity.skin, eye.half_width);
        let lashes = eye.grown(0.4, 0.5, 0.5).area();
        canvas.fill(frame, lashes, Ink::glaze(0.2 * skin, 0.85), |x, y| {
            ((y - eye.top(x)).abs() - 0.42).max(x.abs() - eye_width - 0.2)
        });
        canvas.fill(frame, lashes, Ink::glaze(0.5 * skin, 0.5), |x, y| {
            ((y - eye.bottom(x)).abs() - 0.25).max(x.abs() - eye_width)
        });
        let crease = eye.grown(0.6, 1.5, 0.0);
        canvas.fill(frame, crease.area(), Ink::glaze(0.5 * skin, 0.4), |x, y| {
            ((y - crease.top(x)).abs() - 0.25).max(x.abs() - eye_width)
        });
    }

    fn draw_brow(&self, canvas: &mut Canvas, side: f64) {
        let Identity { eye_distance, eye_line, brow_height, brow_thickness, hair, skin, .. } = *self.identity;
        let raise = self.get(Action::BrowRaise) + 0.2 * side * self.get(Action::Skew);
        let (slope, arch) = (self.get(Action::BrowSlope), self.get(Action::BrowArch));
        let frame = self.mirrored_frame(side, eye_distance, eye_line - brow_height - raise);
        // Gray-haired people keep darker brows, and fair brows stay visible.
        let ink = Ink { tone: (0.8 * hair).min(0.55 * skin), opacity: 0.85, soft: 1.3 };
        let inner = -3.9 - 0.6 * self.get(Action::BrowPinch);
        canvas.stroke(
            frame,
            ink,
            &Stroke([
                [inner, 0.4 + 0.75 * slope, brow_thickness],
                [0.6, -1.0 - arch - 0.1 * slope, brow_thickness * 1.05],
                [4.6, 0.9 - 0.35 * slope, brow_thickness * 0.45],
            ]),
        );
    }

    fn draw_mouth(&self, canvas: &mut Canvas) {
        let Identity { mouth_width, lips, lip_tone, skin, .. } = *self.identity;
        let frame = self.features().moved(0.0, self.identity.mouth_line);
        let open = self.positive(Action::MouthOpen);
        let sneer = self.positive(Action::Sneer);
        let press = self.positive(Action::LipPress).min(1.0);
        let inner = Almond {
            half_width: (mouth_width * (1.0 + self.get(Action::MouthWide))).max(2.0),
            up: 0.3 * open + 0.6 * sneer,
            down: 0.75 * open - 0.15 * sneer,
            bend: self.get(Action::Smile),
            tilt: 0.8 * self.get(Action::Skew),
            // Only a narrowed mouth is round.
            full: (0.15 - 2.5 * self.get(Action::MouthWide)).clamp(0.0, 1.0),
        };
        let lip = lips * (1.0 - 0.7 * press);
        let outer = inner.grown(0.5, lip, 1.15 * lip);
        canvas.spot(frame, [0.0, outer.down + 0.5 * inner.bend + 1.2], [0.8 * inner.half_width, 1.8], -0.24);
        canvas.fill(frame, outer.grown(0.0, 1.0, 1.0).area(), Ink::glaze(skin * lip_tone, 0.9), |x, y| {
            outer.distance(x, y)
        });
        canvas.spot(frame, [0.0, inner.down + 0.5 * inner.bend + 0.6 * lip], [3.0, 0.9], 0.15);
        let hole = inner.grown(0.0, 0.3, 0.2);
        canvas.fill(frame, hole.area(), Ink::glaze(0.08 + 0.06 * skin, 0.92), |x, y| hole.distance(x, y));
        self.draw_teeth(canvas, frame, &inner, open);
        for end in [-1.0, 1.0] {
            let x = end * inner.half_width;
            canvas.spot(
                frame,
                [x + 0.4 * end, inner.middle(x)],
                [1.6, 1.5],
                -0.35 - 0.15 * self.positive(Action::CheekFold),
            );
        }
    }

    fn draw_teeth(&self, canvas: &mut Canvas, frame: Frame, mouth: &Almond, open: f64) {
        let teeth = self.positive(Action::Teeth).min(1.0);
        let tall = (0.55 * (mouth.up + mouth.down)).min(2.0);
        if open < 0.8 || teeth < 0.1 {
            return;
        }
        let ink = Ink::glaze(0.3 + 0.6 * self.identity.skin, teeth.sqrt());
        canvas.fill(frame, mouth.area(), ink, |x, y| {
            mouth.distance(x, y).max(y - mouth.top(x) - tall).max(x.abs() - 0.86 * mouth.half_width)
        });
    }
}
