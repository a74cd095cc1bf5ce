//! Warnings about a training run: what makes its result mean less, or training slower.

use crate::config::Config;
use crate::data::class_counts::missing_validation_classes;
use crate::data::dataset::Dataset;
use crate::device;
use crate::run_dir::checkpoint::InitRecord;

/// The warnings of a run, for the log, `summary.json` and the report.
pub fn run_warnings(config: &Config, data: &Dataset, init: Option<&InitRecord>) -> Vec<String> {
    let found = [
        missing_validation_classes(&config.data.classes, data.validation_labels()),
        device::excess_threads(config.threads, device::cores()),
        early_stopping(config),
        init.and_then(seen_validation_images),
    ];
    found.into_iter().flatten().collect()
}

/// A warning if early stopping may end a run whose schedule assumes all epochs.
fn early_stopping(config: &Config) -> Option<String> {
    let patience = config.train.early_stop.patience;
    (config.train.depends_on_epochs() && patience > 0).then(|| {
        format!(
            "train.early_stop.patience = {patience} may stop this run before its learning rate has decayed or its images \
             have reached their last size; 0 disables early stopping"
        )
    })
}

/// A warning if the initial weights were trained on validation images.
fn seen_validation_images(init: &InitRecord) -> Option<String> {
    let seen = init.seen_validation_images.filter(|seen| *seen > 0)?;
    Some(format!(
        "the initial weights of {} were trained on {seen} of the {} validation images, so the validation metrics are \
         too good; use the same rows and split as that run (data.split, data.split_seed), or other images",
        init.path, init.validation_images
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;
    use crate::data::images::Images;

    fn config(more: &str) -> Config {
        let text = "[data]\ntrain = \"a.csv\"\nclasses = [\"sad\", \"happy\"]\n[model]\nkind = \"cnn\"\n";
        from_text(&format!("name = \"x\"\nthreads = 1\n{text}{more}"), "x.toml").unwrap()
    }

    fn data(validation: &[u8]) -> Dataset {
        Dataset::validation_only(Images { labels: Some(validation.to_vec()), ..Images::default() }, Vec::new())
    }

    #[test]
    fn a_usual_run_has_none() {
        assert_eq!(run_warnings(&config(""), &data(&[0, 1]), None), [""; 0]);
    }

    #[test]
    fn initial_weights_that_have_seen_validation_images_are_reported() {
        let warnings = |seen_validation_images| {
            let (path, hash) = ("runs/x/best.safetensors".to_owned(), String::new());
            let init = InitRecord { path, hash, validation_images: 9, seen_validation_images };
            run_warnings(&config(""), &data(&[0, 1]), Some(&init))
        };
        assert_eq!((warnings(None), warnings(Some(0))), (vec![], vec![]));
        assert!(warnings(Some(3))[0].contains("runs/x/best.safetensors were trained on 3 of the 9 validation images"));
    }

    #[test]
    fn validation_and_early_stopping_are_checked() {
        let cosine = "[train]\nschedule = { kind = \"cosine\" }\nearly_stop = { patience = ";
        let found = run_warnings(&config(&format!("{cosine}4 }}\n")), &data(&[1, 1]), None);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("every validation row is of class happy"), "{found:?}");
        assert!(found[1].starts_with("train.early_stop.patience = 4 may stop this run"), "{found:?}");
        assert_eq!(run_warnings(&config(&format!("{cosine}0 }}\n")), &data(&[0, 1]), None), [""; 0]);
    }
}
