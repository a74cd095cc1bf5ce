//! `grimace serve`, over plain sockets: what well-behaved clients, hostile ones and the system's
//! signals get.

mod api;
mod hostile;
mod lifecycle;
mod limits;
mod openapi;

use crate::common::workshop;

/// A form with files.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = format!("--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    body.extend(b"--XX--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=XX";

/// A PNG of an image of the test set, and its pixels.
fn test_image(row: usize) -> (Vec<u8>, Vec<u8>) {
    let text = crate::common::text(workshop().join("data/my_emotion_test.csv"));
    let line = text.lines().nth(row + 1).unwrap();
    let pixels: Vec<u8> = line.split(',').next_back().unwrap().split(' ').map(|value| value.parse().unwrap()).collect();
    let image = image::GrayImage::from_raw(48, 48, pixels.clone()).unwrap();
    (encode(&image.into()), pixels)
}

fn encode(image: &image::DynamicImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Images as JSON.
fn pixels_json(images: &[Vec<u8>]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({ "pixels": images })).unwrap()
}
