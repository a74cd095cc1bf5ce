//! `{"pixels": [[...], ...]}`: faces as numbers, parsed into bytes without anything in between.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Unexpected, Visitor};

use crate::data::images::{PIXELS, SIDE};

/// Parses a body into images, uint8 [N, 48, 48]; N is 1 to `max_images`.
///
/// # Errors
/// What is wrong and where: line and column, the number of the image.
pub(super) fn parse(body: &[u8], max_images: usize) -> Result<Vec<u8>, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = BodySeed { max_images }.deserialize(&mut deserializer).and_then(|found| {
        deserializer.end()?;
        Ok(found)
    });
    found.map_err(|error| error.to_string())
}

/// The object around the images.
struct BodySeed {
    max_images: usize,
}

impl<'de> DeserializeSeed<'de> for BodySeed {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// Its only key.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Pixels,
}

impl<'de> Visitor<'de> for BodySeed {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the key pixels")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Vec<u8>, A::Error> {
        let mut pixels = None;
        while let Some(Key::Pixels) = map.next_key()? {
            if pixels.is_some() {
                return Err(A::Error::duplicate_field("pixels"));
            }
            pixels = Some(map.next_value_seed(ImagesSeed { max_images: self.max_images })?);
        }
        pixels.ok_or_else(|| A::Error::missing_field("pixels"))
    }
}

/// The list of images.
struct ImagesSeed {
    max_images: usize,
}

impl<'de> DeserializeSeed<'de> for ImagesSeed {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ImagesSeed {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of images")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut images: A) -> Result<Vec<u8>, A::Error> {
        let mut pixels = Vec::new();
        let mut count = 0;
        while images.next_element_seed(ImageSeed { pixels: &mut pixels, number: count + 1 })?.is_some() {
            count += 1;
            if count > self.max_images {
                return Err(A::Error::custom(format!(
                    "more than {} images; send them in several requests",
                    self.max_images
                )));
            }
        }
        if count == 0 {
            return Err(A::Error::custom("no images; expected a list of images, each a list of 2304 numbers"));
        }
        Ok(pixels)
    }
}

/// One image: 2304 numbers, or 48 rows of 48.
struct ImageSeed<'a> {
    pixels: &'a mut Vec<u8>,
    number: usize,
}

impl<'de> DeserializeSeed<'de> for ImageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ImageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an image as a list of {PIXELS} numbers, or of {SIDE} rows of {SIDE}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let start = self.pixels.len();
        let wrong = |found: &str| {
            let number = self.number;
            A::Error::custom(format!("image {number} has {found}; expected {PIXELS} numbers, or {SIDE} rows of {SIDE}"))
        };
        let (mut numbers, mut rows) = (0, 0);
        while let Some(element) = elements.next_element_seed(ElementSeed { pixels: &mut *self.pixels })? {
            match element {
                Element::Number => numbers += 1,
                Element::Row(SIDE) => rows += 1,
                Element::Row(length) => return Err(wrong(&format!("a row of {length} numbers"))),
            }
            if self.pixels.len() - start > PIXELS {
                return Err(wrong(&format!("more than {PIXELS} numbers")));
            }
        }
        match (numbers, rows) {
            (PIXELS, 0) | (0, SIDE) => Ok(()),
            (numbers, 0) => Err(wrong(&format!("{numbers} numbers"))),
            (0, rows) => Err(wrong(&format!("{rows} rows"))),
            _ => Err(wrong("numbers and rows")),
        }
    }
}

/// What an image is a list of.
enum Element {
    Number,
    Row(usize),
}

/// A number, or a row of numbers.
struct ElementSeed<'a> {
    pixels: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = Element;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Element, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_> {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 255, or a row of them")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Element, E> {
        self.pixels.push(PixelVisitor.visit_u64(value)?);
        Ok(Element::Number)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Element, E> {
        Err(E::invalid_value(Unexpected::Signed(value), &PixelVisitor))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Element, E> {
        self.pixels.push(PixelVisitor.visit_f64(value)?);
        Ok(Element::Number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<Element, A::Error> {
        let mut length = 0;
        while let Some(Pixel(value)) = row.next_element()? {
            length += 1;
            if length > PIXELS {
                return Err(A::Error::custom(format!("a row of more than {SIDE} numbers")));
            }
            self.pixels.push(value);
        }
        Ok(Element::Row(length))
    }
}

/// A number of a row.
struct Pixel(u8);

impl<'de> Deserialize<'de> for Pixel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PixelVisitor).map(Pixel)
    }
}

struct PixelVisitor;

impl Visitor<'_> for PixelVisitor {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 255")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u8, E> {
        u8::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u8, E> {
        Err(E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u8, E> {
        // 70.0 is a pixel in programs that compute with floating-point numbers.
        if (0.0..=255.0).contains(&value) && value.fract() == 0.0 {
            return Ok(value as u8);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, first: &str) -> String {
        let rest = (1..count).map(|index| (index % 256).to_string());
        std::iter::once(first.to_owned()).chain(rest).collect::<Vec<_>>().join(",")
    }

    fn body(images: &[String]) -> Vec<u8> {
        format!("{{\"pixels\": [{}]}}", images.join(",")).into_bytes()
    }

    #[test]
    fn flat_images_and_rows_give_the_same_pixels() {
        let flat = format!("[{}]", numbers(PIXELS, "255.0"));
        let values: Vec<String> = numbers(PIXELS, "255").split(',').map(String::from).collect();
        let rows: Vec<String> = values.chunks(SIDE).map(|row| format!("[{}]", row.join(","))).collect();
        let found = parse(&body(&[flat.clone(), format!("[{}]", rows.join(","))]), 2).unwrap();
        assert_eq!((found.len(), found[0], found[PIXELS - 1]), (2 * PIXELS, 255, 255));
        assert_eq!(found[..PIXELS], found[PIXELS..]);
        let problem = parse(&body(&[flat.clone(), flat]), 1).unwrap_err();
        assert!(problem.starts_with("more than 1 images"), "{problem}");
    }

    #[test]
    fn anything_else_says_what_is_wrong() {
        let image = |first: &str| body(&[format!("[{}]", numbers(PIXELS, first))]);
        let rows = |count: usize, length: usize| {
            let row = format!("[{}]", numbers(length, "0"));
            body(&[format!("[{}]", vec![row; count].join(","))])
        };
        for (body, part) in [
            (image("256"), "invalid value: integer `256`, expected a whole number from 0 to 255 at line 1"),
            (image("-1"), "integer `-1`, expected a whole number"),
            (image("0.5"), "floating point `0.5`, expected a whole number"),
            (image("1e300"), "expected a whole number"),
            (image("NaN"), "expected value at line 1 column"),
            (image("null"), "invalid type: null, expected a number from 0 to 255"),
            (image("\"7\""), "invalid type: string"),
            (image("[0]"), "image 1 has a row of 1 numbers"),
            (
                body(&[format!("[{}]", numbers(2303, "0"))]),
                "image 1 has 2303 numbers; expected 2304 numbers, or 48 rows",
            ),
            (body(&[format!("[{}]", numbers(2305, "0"))]), "image 1 has more than 2304 numbers"),
            (rows(47, 48), "image 1 has 47 rows"),
            (rows(48, 47), "image 1 has a row of 47 numbers"),
            (rows(49, 48), "image 1 has more than 2304 numbers"),
            (rows(1, 3000), "a row of more than 48 numbers"),
            (body(&["7".into()]), "invalid type: integer `7`, expected an image as a list of 2304 numbers"),
            (body(&[]), "no images"),
            (b"{}".to_vec(), "missing field `pixels`"),
            (b"{\"pixels\": 3}".to_vec(), "expected a list of images"),
            (b"{\"image\": []}".to_vec(), "unknown variant `image`, expected `pixels`"),
            (b"[]".to_vec(), "expected an object with the key pixels"),
            (b"".to_vec(), "EOF while parsing"),
            ([image("0"), b"x".to_vec()].concat(), "trailing characters"),
            ("[".repeat(100_000).into_bytes(), "expected an object with the key pixels"),
        ] {
            let problem = parse(&body, 10).unwrap_err();
            assert!(problem.contains(part), "{problem}: expected {part}");
        }
        let twice = [&image("0")[..image("0").len() - 1], b",", &image("0")[1..]].concat();
        assert!(parse(&twice, 10).unwrap_err().contains("duplicate field `pixels`"));
    }
}
