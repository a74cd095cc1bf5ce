//! stub
use std::path::Path;
use anyhow::Result;
use crate::checkpoint::EpochRecord;
use crate::metrics::{CalibrationBin, Confusion};
pub const INK: &str = "#1F2328";
pub const GRID: &str = "#D0D7DE";
pub struct Picture { pub svg: String, pub png: Vec<u8> }
impl Picture { pub fn write(&self, _: &Path, _: &str) -> Result<()> { Ok(()) } }
#[derive(Debug, Clone)]
pub struct Bar { pub name: String, pub mean: f64, pub deviation: Option<f64>, pub values: Vec<f64>, pub is_best: bool, pub is_baseline: bool }
pub struct Mistake<'a> { pub face: &'a [u8], pub truth: &'a str, pub predicted: &'a str, pub confidence: f64 }
fn none() -> Result<Picture> { Ok(Picture { svg: "<svg></svg>".into(), png: vec![] }) }
pub fn curves(_: &[EpochRecord], _: Option<u32>) -> Result<Picture> { none() }
pub fn confusion(_: &Confusion, _: &[String]) -> Result<Picture> { none() }
pub fn reliability(_: &[CalibrationBin], _: f64) -> Result<Picture> { none() }
pub fn comparison(_: &[Bar]) -> Result<Picture> { none() }
pub fn mistakes(_: &[Mistake<'_>]) -> Result<Vec<u8>> { Ok(vec![]) }
