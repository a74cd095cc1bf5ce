//! `grimace explain`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::common::{LabelArgs, RowArgs, check_run_output, print, print_json, read_images, read_labeled_images};
use super::predict::{Faces, read_face_crops, read_picture};
use crate::data::device_images::DeviceImages;
use crate::data::images::{Images, PIXELS};
use crate::data::read_options::LabelPolicy;
use crate::device::{DeviceChoice, place_for_inference};
use crate::inference::explain::{Explainer, HeatMap, Method, Selection};
use crate::inference::forward::predict;
use crate::inference::trained_run::{TrainedNet, TrainedRun};
use crate::metrics::Predictions;
use crate::metrics::predictions::argmax;
use crate::model::Net;
use crate::report::Console;
use crate::report::plot::{Explained, MAX_EXPLAINED, explanations};
use crate::transforms::tta::Tta;
use crate::util::error::{Outcome, input};
use crate::util::files::{OutputRules, is_standard_input};
use crate::util::text::count;

/// `grimace explain`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace explain runs/mine --data data/my_emotion_test.csv --out sheet.png\n  grimace explain runs/mine --data photo.jpg --faces detect --class happy --out sheet.png\n\nThe sheet has each image beside a heat map: the regions that speak for the predicted class, or for --class, against the other classes (--method hires_cam), or that raise its logit (--method grad_cam). If the data has labels, the most confident wrong predictions come first."
)]
pub struct ExplainArgs {
    /// Run directory of a network
    pub run: PathBuf,
    /// CSV, picture or folder of pictures; - reads standard input: a CSV, or a picture with --faces
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// PNG to write; - writes to standard output
    #[arg(long, value_name = "PNG")]
    pub out: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Explain this class instead of the predicted one
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// Max images on the sheet
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=MAX_EXPLAINED as i64))]
    pub limit: u32,
    /// Which images; all of them by default
    #[arg(long, value_name = "WHICH")]
    pub only: Option<Only>,
    /// How the evidence in the feature map is computed
    #[arg(long, value_enum, default_value_t)]
    pub method: Method,
    /// Block or stage whose feature map is explained, counted from 1 [default: the last]
    #[arg(long, value_name = "N")]
    pub layer: Option<usize>,
    /// Where the faces are in pictures: a whole picture is a face, or faces are found and cropped
    /// [default: whole]
    #[arg(long, value_name = "WHERE")]
    pub faces: Option<Faces>,
    /// Size of the smallest faces that are found, in pixels of the photo
    #[arg(long, value_name = "PIXELS", default_value_t = 32.0)]
    pub min_face: f32,
    /// Which rows
    #[command(flatten)]
    pub rows: RowArgs,
    /// Their labels, if the data has none of its own
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which images are explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// Wrong predictions
    Errors,
}

pub fn run(args: &ExplainArgs) -> Result<Outcome> {
    let inputs: Vec<_> = [Some(args.data.as_path()), args.labels.labels.as_deref()].into_iter().flatten().collect();
    let rules = OutputRules { inputs: &inputs, force: args.force, json: args.json };
    let output = check_run_output(&args.out, std::slice::from_ref(&args.run), rules)?;
    let run = open(args)?;
    let device = place_for_inference(args.device, run.config.threads)?.device;
    let net = run.net_for_inference(device)?;
    let explainer = explainer(args, &net)?;
    let class = args.class.as_deref().map(|name| class_number(name, &run.config.data.classes)).transpose()?;
    let temperature = run.temperature(Tta::None)?;
    let images = read(args, &run)?;
    let predict = |images: &Images| -> Result<Predictions> {
        let images = DeviceImages::place(images, device, run.config.data.resident)?;
        Ok(predict(&net, &images)?.with_temperature(temperature))
    };
    let (selection, images) = select(args, images, predict)?;
    let predictions = predict(&images)?;
    let mut explained: Vec<u8> = predictions.predicted();
    if let Some(class) = class {
        explained.fill(class);
    }
    let maps = explainer.explain(&net, &DeviceImages::new(&images, device)?, &explained)?;
    let result =
        Explanations { run: &run, net: &net, explainer, images: &images, predictions: &predictions, maps: &maps };
    output.write(&result.sheet(class)?)?;
    announce(&run, &selection)?;
    if args.json {
        print_json(&result.report(args, &selection, &explained, temperature))?;
        return Ok(Outcome::Done);
    }
    let message = format!("{} of {} written to {output}", explainer.method.describe(), count(images.len(), "image"));
    if output.is_standard_output() {
        Console::default().line(&message)?;
    } else {
        print(&(message + "\n"))?;
    }
    Ok(Outcome::Done)
}

/// Opens the run, which must be that of a network.
fn open(args: &ExplainArgs) -> Result<TrainedNet> {
    match TrainedRun::open(&args.run)? {
        TrainedRun::Net(run) => Ok(*run),
        TrainedRun::Forest(_) => Err(input(format!(
            "{}: is a forest run; only networks have feature maps to explain. The report.html of a forest has the \
             importance of each pixel",
            args.run.display()
        ))),
    }
}

/// The method and the layer of the options.
fn explainer(args: &ExplainArgs, net: &Net) -> Result<Explainer> {
    let last = Explainer::new(net);
    let layers = net.feature_grids().len();
    let layer = match args.layer {
        None => last.layer,
        Some(layer) if (1..=layers).contains(&layer) => layer - 1,
        Some(layer) => {
            let sides: Vec<String> = net.feature_grids().iter().map(|grid| format!("{0}x{0}", grid.side)).collect();
            return Err(input(format!(
                "--layer {layer}: the network has {}, of {} cells; expected 1 to {layers}",
                count(layers, "feature map"),
                sides.join(", ")
            )));
        }
    };
    Ok(Explainer { layer, method: args.method })
}

fn class_number(name: &str, classes: &[String]) -> Result<u8> {
    let found = classes.iter().position(|class| class == name).and_then(|index| u8::try_from(index).ok());
    found.ok_or_else(|| {
        input(format!("--class {name}: the run has no such class; expected one of {}", classes.join(", ")))
    })
}

/// Reads the images, with their labels if there are any.
fn read(args: &ExplainArgs, run: &TrainedNet) -> Result<Images> {
    let data = &run.config.data;
    match args.faces {
        Some(Faces::Detect) if args.labels.labels.is_some() => {
            return Err(input("--labels: faces of photos have no labels; omit --labels or --faces detect"));
        }
        Some(Faces::Detect) => return read_face_crops(&args.data, args.min_face, &args.rows, data),
        Some(Faces::Whole) if is_standard_input(&args.data) => return read_picture(),
        _ => {}
    }
    if args.labels.labels.is_some() || !args.labels.label_map.is_empty() {
        let (images, labels) = read_labeled_images(&args.data, &args.labels, &args.rows, data)?;
        return Ok(Images { labels: Some(labels), ..images });
    }
    read_images(&args.data, data, LabelPolicy::Optional, &args.rows)
}

/// Chooses the images of the sheet.
fn select(
    args: &ExplainArgs,
    images: Images,
    predict: impl Fn(&Images) -> Result<Predictions>,
) -> Result<(Selection, Images)> {
    let (limit, only_errors) = (args.limit as usize, args.only == Some(Only::Errors));
    let selection = match &images.labels {
        Some(labels) => Selection::with_labels(&predict(&images)?, labels, limit, only_errors),
        None if only_errors => {
            return Err(input(format!(
                "--only errors: {} has no labels; give them with --labels CSV (id,emotion)",
                args.data.display()
            )));
        }
        None => Selection::first(images.len(), limit),
    };
    if selection.positions.is_empty() {
        return Err(input(format!(
            "--only errors: no prediction on the {} is wrong; omit it to explain correct ones",
            count(images.len(), "image")
        )));
    }
    let chosen = images.select(&selection.positions);
    Ok((selection, chosen))
}

/// Says which images were chosen, and that they are explained without test-time augmentation.
fn announce(run: &TrainedNet, selection: &Selection) -> Result<()> {
    let mut console = Console::default();
    console.line(&format!("explained: {}", selection.reason))?;
    let tta = run.config.predict.tta;
    if tta != Tta::None {
        console.line(&format!(
            "without test-time augmentation, unlike evaluate and predict with the run's predict.tta = {tta}: classes \
             and probabilities may differ"
        ))?;
    }
    Ok(())
}

/// The images of a sheet, and what was found.
struct Explanations<'a> {
    run: &'a TrainedNet,
    net: &'a Net,
    explainer: Explainer,
    images: &'a Images,
    predictions: &'a Predictions,
    maps: &'a [HeatMap],
}

impl Explanations<'_> {
    fn class(&self, class: u8) -> &str {
        self.run.config.data.classes.get(usize::from(class)).map_or("?", String::as_str)
    }

    /// Predicted class and its probability, of each image.
    fn predicted(&self) -> impl Iterator<Item = (u8, f32)> {
        self.predictions.probabilities.chunks(self.predictions.classes.max(1)).map(argmax)
    }

    fn label(&self, index: usize) -> Option<&str> {
        self.images.labels.as_ref()?.get(index).map(|label| self.class(*label))
    }

    /// Cells in a row of the feature map.
    fn side(&self) -> usize {
        self.net.feature_grids().get(self.explainer.layer).map_or(0, |grid| grid.side)
    }

    /// The PNG; `class` is that of `--class`.
    fn sheet(&self, class: Option<u8>) -> Result<Vec<u8>> {
        let (ids, pixels) = (self.images.row_ids(), self.images.pixels.all()?);
        let explained: Vec<Explained> = (self.predicted().zip(self.maps).zip(&ids).enumerate())
            .map(|(index, (((predicted, probability), map), id))| Explained {
                image: pixels.get(index * PIXELS..(index + 1) * PIXELS).unwrap_or_default(),
                heat: &map.values,
                predicted: self.class(predicted),
                confidence: f64::from(probability),
                label: self.label(index),
                id: Some(id),
            })
            .collect();
        let class = class.map_or("the predicted class".to_owned(), |class| self.class(class).to_owned());
        let title = format!("{}: evidence for {class}", self.explainer.method.describe());
        let (layers, side) = (self.net.feature_grids().len(), self.side());
        let note =
            format!("{}: layer {} of {layers}, {side}x{side} cells", self.run.config.name, self.explainer.layer + 1);
        Ok(explanations(&title, &note, &explained)?.png)
    }

    fn report<'a>(
        &'a self,
        args: &ExplainArgs,
        selection: &'a Selection,
        explained: &[u8],
        temperature: f64,
    ) -> Report<'a> {
        let ids = self.images.row_ids().into_iter();
        let found = ids.zip(self.predicted()).zip(self.maps).zip(explained).enumerate();
        let images = found.map(|(index, (((id, (predicted, probability)), map), explained))| ImageReport {
            id,
            predicted: self.class(predicted),
            probability,
            label: self.label(index),
            explained: self.class(*explained),
            heat_center: map.center().map(|(x, y)| [x, y]),
        });
        Report {
            out: args.out.to_string_lossy().into_owned(),
            method: self.explainer.method,
            layer: self.explainer.layer + 1,
            layers: self.net.feature_grids().len(),
            cells: self.side(),
            tta: Tta::None,
            temperature,
            selection: &selection.reason,
            images: images.collect(),
        }
    }
}

/// Output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    out: String,
    method: Method,
    layer: usize,
    layers: usize,
    /// Cells in a row of the feature map.
    cells: usize,
    tta: Tta,
    temperature: f64,
    selection: &'a str,
    images: Vec<ImageReport<'a>>,
}

#[derive(Serialize)]
struct ImageReport<'a> {
    id: String,
    predicted: &'a str,
    probability: f32,
    label: Option<&'a str>,
    /// The class that the heat is evidence for.
    explained: &'a str,
    /// x and y in pixels, from 0 to 47; null if nothing in the image is evidence.
    heat_center: Option<[f64; 2]>,
}
