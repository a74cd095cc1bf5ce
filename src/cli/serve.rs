//! `grimace serve`

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::ModelArgs;
use super::common::print;
use crate::device::DeviceChoice;
use crate::inference::classifier::ClassifierOptions;
use crate::inference::trained_run::TrainedRun;
use crate::serve::{ServeOptions, Server, ServiceToken, parse_address};
use crate::util::error::{Outcome, input};
use crate::util::signals::Signals;

/// `grimace serve`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace serve runs/mine\n  curl --data-binary @face.png -H 'Content-Type: image/png' http://127.0.0.1:8000/v1/predict\n  curl -F photo=@photo.jpg 'http://127.0.0.1:8000/v1/predict?faces=detect'\n\nSIGTERM and SIGINT end the service with exit code 0, after the responses to all requests in progress. docs/serving.md describes the API."
)]
pub struct ServeArgs {
    /// Run directory
    pub run: PathBuf,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000", value_parser = parse_address)]
    pub addr: SocketAddr,
    /// Port on 127.0.0.1, short for --addr 127.0.0.1:PORT
    #[arg(long, conflicts_with = "addr")]
    pub port: Option<u16>,
    /// Listen on an address that other machines reach; needs a token in the environment variable
    /// GRIMACE_TOKEN, or in the file that GRIMACE_TOKEN_FILE names, which clients send as
    /// Authorization: Bearer TOKEN
    #[arg(long)]
    pub allow_remote: bool,
    /// Name of this service behind a proxy, such as faces.example.com; repeatable
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Maximum number of images that the model predicts at once
    #[arg(long, value_name = "IMAGES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// Maximum time that a batch waits for images that are being decoded
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub batch_wait: u16,
    /// Maximum number of requests for predictions in progress; others are answered with 503
    #[arg(long, value_name = "REQUESTS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub queue: u16,
    /// Maximum number of open connections; others wait
    #[arg(long, value_name = "NUMBER", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_connections: u16,
    /// Maximum size of the body of a request
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_body: u16,
    /// Maximum number of megapixels of the images of a request, together
    #[arg(long, value_name = "MEGAPIXELS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub max_pixels: u16,
    /// Seconds for the headers of a request, and until an idle connection is closed; a body has this
    /// time and a second more for each 64 KiB
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub timeout: f64,
    /// Seconds after a signal in which new connections are still accepted, and GET /healthz is 503, so
    /// that a load balancer notices
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    pub grace: f64,
    /// CPU threads of the network; 0: one per core
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// How to predict
    #[command(flatten)]
    pub model: ModelArgs,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Do not log requests
    #[arg(long)]
    pub quiet: bool,
    /// Print a line of JSON with the URL when the service is ready
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &ServeArgs) -> Result<Outcome> {
    // Which of several signals ends it at once, the server decides.
    let signals = Signals::watch_forwarded()?;
    if !(0.1..=3600.0).contains(&args.timeout) {
        return Err(input(format!("--timeout {}: expected 0.1 to 3600 seconds", args.timeout)));
    }
    if !(0.0..=300.0).contains(&args.grace) {
        return Err(input(format!("--grace {}: expected 0 to 300 seconds", args.grace)));
    }
    let options = ServeOptions {
        addr: args.port.map_or(args.addr, |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        allow_remote: args.allow_remote,
        hosts: args.allow_host.clone(),
        batch: usize::from(args.batch),
        batch_wait: Duration::from_millis(u64::from(args.batch_wait)),
        queue: usize::from(args.queue),
        max_body: usize::from(args.max_body) << 20,
        max_pixels: u64::from(args.max_pixels) * 1_000_000,
        timeout: Duration::from_secs_f64(args.timeout),
        grace: Duration::from_secs_f64(args.grace),
        connections: usize::from(args.max_connections),
        access_log: !args.quiet,
    };
    let model = ClassifierOptions {
        device: args.device,
        threads: usize::from(args.threads),
        tta: args.model.tta,
        is_calibrated: args.model.is_calibrated(),
    };
    let token = ServiceToken::from_env()?;
    let run = TrainedRun::open(&args.run)?;
    let server = Server::start(run, &model, options, token, signals.clone())?;
    // From here on a signal ends the service after the responses in progress.
    signals.defer();
    if args.json {
        print(&format!("{}\n", json!({"url": server.url()})))?;
    }
    server.run()?;
    Ok(Outcome::Done)
}
