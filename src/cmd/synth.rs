//! `grimace data synth`

use anyhow::{Result, anyhow};
use fs_err as fs;
use rayon::prelude::*;
use serde_json::json;

use super::{print, print_json};
use crate::cli::Synth;
use crate::data::synth::{draw, label};
use crate::error::{Outcome, input};
use crate::files::write_atomically;
use crate::report::table::thousands;

pub fn run(args: &Synth) -> Result<Outcome> {
    let out = &args.out;
    if out.exists() && !out.is_dir() {
        return Err(anyhow!("{}: is not a folder; expected a folder to write drawn faces to", out.display()));
    }
    let names = ["my_emotion_train.csv", "my_emotion_test.csv", "my_emotion_test_labels.csv"];
    if let Some(name) = names.iter().find(|name| out.join(name).exists()).filter(|_| !args.force) {
        let shown = out.join(name);
        return Err(input(format!("{}: exists; choose another --out, or replace it with --force", shown.display())));
    }
    fs::create_dir_all(out)?;
    let (train, test) = (u64::from(args.train), u64::from(args.test));
    let row = |index: u64, first: String| {
        let face = draw(args.seed, index, label(args.seed, index));
        let pixels: Vec<String> = face.iter().map(ToString::to_string).collect();
        format!("{first},{}\n", pixels.join(" "))
    };
    let emotion = |index: u64| label(args.seed, index).to_string();
    // Test faces follow the training faces in the sequence, so the two never share one.
    let file = |name: &str, header: &str, rows: Vec<String>| {
        write_atomically(&out.join(name), (header.to_owned() + &rows.concat()).as_bytes())
    };
    file("my_emotion_train.csv", "emotion,pixels\n", (0..train).into_par_iter().map(|i| row(i, emotion(i))).collect())?;
    file(
        "my_emotion_test.csv",
        "id,pixels\n",
        (0..test).into_par_iter().map(|i| row(train + i, i.to_string())).collect(),
    )?;
    file(
        "my_emotion_test_labels.csv",
        "id,emotion\n",
        (0..test).map(|i| format!("{i},{}\n", emotion(train + i))).collect(),
    )?;
    if args.json {
        print_json(&json!({"out": out.to_string_lossy(), "train": train, "test": test, "seed": args.seed}))?;
        return Ok(Outcome::Done);
    }
    print(&format!(
        "{} training and {} test faces drawn in {}\n",
        thousands(train as usize),
        thousands(test as usize),
        out.display()
    ))?;
    Ok(Outcome::Done)
}
