//! Images that stream from the host to a simulated device.

use super::{config, counted, device_a, device_b, metrics, small_data};
use crate::common::{good, tensors};

const CNN: &str = "kind = \"cnn\"\nfilters = [8, 16]\ndense = [12]";

#[test]
fn streamed_images_give_the_results_of_resident_ones() {
    let Some(device) = device_a("streamed_images_give_the_results_of_resident_ones") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    let text = config(CNN, "", "crop = 0.3\nrandom_erasing = 0.5\nmixup = 0.4").replace("1024", "32");
    fs_err::write(folder.join("small.toml"), text).unwrap();
    for place in ["device", "host"] {
        let set = format!("data.resident={place}");
        let args = ["train", "small.toml", "--set", "device=cuda:0", "--set", &set, "--out", place];
        let (_, report) = counted(device, folder, &args, &[]);
        report.assert_clean(place);
    }
    assert_eq!(metrics(&folder.join("device")), metrics(&folder.join("host")));
    let last = |run: &str| tensors(&folder.join(run).join("last.safetensors"));
    assert!(last("device") == last("host"), "the weights differ");
}

/// Copies from pinned memory do not wait, so a step has no waits with streamed images either.
#[test]
fn streamed_steps_do_not_wait_for_the_device() {
    let Some(device) = device_b("streamed_steps_do_not_wait_for_the_device") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 300);
    let text = config(CNN, "", "").replace("1024", "48").replace("0.25", "0.2");
    fs_err::write(folder.join("small.toml"), text).unwrap();
    let args = ["train", "small.toml", "--set", "device=cuda:0", "--set", "data.resident=host", "--out", "run"];
    let (done, report) = counted(device, folder, &args, &[]);
    report.assert_clean("host");
    let (syncs, copies) = (report.counts("syncs"), report.counts("copies_down"));
    // Five steps an epoch; the second epoch's first four.
    for step in 6..10 {
        assert_eq!((syncs[step], copies[step]), (0, 0), "step {step} waits: {}", done.all());
    }
}

/// A device whose memory is too small for the images gets them batch by batch.
#[test]
fn images_that_do_not_fit_stream() {
    let Some(device) = device_a("images_that_do_not_fit_stream") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    good(folder, &["data", "synth", "--out", "data", "--train", "4000", "--test", "10"]);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "").replace("1024", "16")).unwrap();
    let train = "data.train=data/my_emotion_train.csv";
    let args = ["train", "small.toml", "--set", "device=cuda:0", "--set", "train.cuda_graph=true", "--set", train];
    let args = [&args[..], &["--out", "small"]].concat();
    let (done, _) = counted(device, folder, &args, &[("CUDA_SIM_MEMORY", "12000000")]);
    assert!(done.stderr.contains("CUDA graphs are not used: the images are on the host"), "{}", done.all());
}
