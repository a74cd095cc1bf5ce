//! Benches of the training pipeline: reading CSV, sampling and applying augmentation, one step.
//!
//! Part of `make bench`, on 2,000 synthetic images; speed does not depend on the pixels.

#![allow(clippy::expect_used, clippy::indexing_slicing, missing_docs)] // a bench that cannot run should stop

use std::fmt::Write as _;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use grimace::config::TrainConfig;
use grimace::data::config::CLASSES;
use grimace::data::device_images::DeviceImages;
use grimace::data::images::{Images, SIDE};
use grimace::data::read;
use grimace::data::read_options::{LabelPolicy, ReadOptions};
use grimace::data::sampler::Sampler;
use grimace::device::Placement;
use grimace::model::Net;
use grimace::model::cnn::CnnConfig;
use grimace::model::config::ModelConfig;
use grimace::optim::step_scalars::StepScalars;
use grimace::synthetic::{generate, label};
use grimace::train::epoch_schedule::{EpochPlan, EpochSchedule};
use grimace::train::step::Trainer;
use grimace::transforms::{Augment, AugmentConfig, gather_warp};
use tch::{Device, Kind, Tensor};

const IMAGES: u64 = 2_000;
const BATCH: usize = 64;

fn write_csv(path: &Path) {
    let mut text = String::from("emotion,pixels\n");
    for index in 0..IMAGES {
        let emotion = label(1, index);
        let pixels: Vec<String> = generate(1, index, emotion).iter().map(ToString::to_string).collect();
        writeln!(text, "{emotion},{}", pixels.join(" ")).expect("writing to a String");
    }
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .expect("the temporary folder is writable");
}

fn read(path: &Path) -> Images {
    let classes = CLASSES.map(String::from);
    let options = ReadOptions::new(&classes, LabelPolicy::Required);
    read::read(path, options).expect("synthetic images are readable")
}

fn pipeline(criterion: &mut Criterion) {
    let path = std::env::temp_dir().join(format!("grimace-bench-{}.csv", std::process::id()));
    write_csv(&path);
    let mut group = criterion.benchmark_group("pipeline");

    group.throughput(Throughput::Bytes(path.metadata().map_or(0, |metadata| metadata.len())));
    group.bench_function("read CSV of 2,000 images", |bencher| bencher.iter(|| read(&path)));
    let images = read(&path);
    let _ = std::fs::remove_file(&path);

    let augment = Augment::new(&AugmentConfig::default(), 1, 50);
    let rows: Vec<i64> = (0..IMAGES as i64).collect();
    group.throughput(Throughput::Elements(IMAGES));
    group.bench_function("sample 2,000 affine transforms", |bencher| bencher.iter(|| augment.sample_thetas(0, &rows)));

    let on_device = DeviceImages::new(&images, Device::Cpu).expect("images fit into memory");
    let thetas = Tensor::from_slice(&augment.sample_thetas(0, &rows[..BATCH])).view([BATCH as i64, 2, 3]);
    let picked = Tensor::from_slice(&rows[..BATCH]);
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, kind) in [("f32", Kind::Float), ("bf16", Kind::BFloat16)] {
        group.bench_function(format!("pick and sample a batch of 64, {name}"), |bencher| {
            bencher.iter(|| gather_warp(&on_device, &picked, &thetas, None, kind).expect("sampling"));
        });
    }

    for (name, kind) in [("f32", Kind::Float), ("bf16", Kind::BFloat16)] {
        let plan = EpochPlan::new(images.len(), BATCH);
        let scalars = (1..=plan.steps()).map(|number| StepScalars::on_host(1e-3, number, 0.0)).collect();
        let net = Net::new(&ModelConfig::Cnn(CnnConfig::default()), CLASSES.len(), 1, Device::Cpu).expect("a network");
        let on_device = DeviceImages::new(&images, Device::Cpu).expect("images fit into memory");
        let config = TrainConfig::default();
        let sampler = Sampler::Shuffle(images.len());
        let schedule = EpochSchedule::new(1, 0, &sampler, BATCH, &augment, scalars, &on_device).expect("a schedule");
        let placement = Placement { device: Device::Cpu, kind, tf32: false, reason: None, processes: 1 };
        let mut trainer = Trainer::new(net, on_device, &config, &placement, 1, plan).expect("a trainer");
        trainer.begin_epoch(schedule, 0, SIDE).expect("an epoch");
        group.bench_function(format!("one step of 64, {name}"), |bencher| {
            bencher.iter(|| trainer.step(0, 3).expect("a step"));
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
