//! Launches, waits, memory and the driver's errors, on libtorch's own CUDA library.

use std::path::Path;

use super::{config, counted, device_b, run, small_data};
use crate::common::{good, json};

/// Launches of a step and of the end of an epoch at most, in float32 and bfloat16. PyTorch's eager
/// step of the notebook's network has 109 and 144.
const CEILINGS: [(&str, [u64; 2]); 4] =
    [("notebook", [70, 87]), ("best/cpu", [332, 406]), ("best/vgg", [120, 161]), ("best/gpu", [393, 488])];

/// Waits at the end of an epoch at most.
const EPOCH_SYNCS: u64 = 10;

fn write_config(folder: &Path, name: &str) {
    let done = good(folder, &["generate", "config", name]);
    fs_err::write(folder.join("x.toml"), done.stdout).unwrap();
}

#[test]
fn launches_of_a_step_stay_below_their_ceilings() {
    let Some(device) = device_b("launches_of_a_step_stay_below_their_ceilings") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 300);
    for (name, ceilings) in CEILINGS {
        write_config(folder, name);
        for (precision, ceiling) in ["f32", "bf16"].into_iter().zip(ceilings) {
            let out = format!("{}-{precision}", name.replace('/', "-"));
            let set = format!("precision={precision}");
            let mut args = vec!["train", "x.toml", "--out", &out, "--set", &set];
            for set in
                ["device=cuda:0", "data.train=small.csv", "data.validation=0.2", "train.epochs=3", "train.batch=48"]
            {
                args.extend(["--set", set]);
            }
            let (_, report) = counted(device, folder, &args, &[]);
            report.assert_clean(&out);
            let (launches, syncs, copies) =
                (report.counts("launches"), report.counts("syncs"), report.counts("copies_down"));
            // Five steps an epoch; the second epoch's first four, when everything is warm.
            for step in 6..10 {
                assert!(launches[step] <= ceiling, "{out}: {} launches, {ceiling} before", launches[step]);
                assert_eq!((syncs[step], copies[step]), (0, 0), "{out}: step {step} waits");
            }
            assert!(syncs[10] <= EPOCH_SYNCS, "{out}: the end of an epoch waits {} times", syncs[10]);
            let most = launches[6..10].iter().max().unwrap();
            println!("{out}: {most} launches a step, {} syncs at the end of an epoch", syncs[10]);
        }
    }
}

const CNN: &str = "kind = \"cnn\"\nfilters = [8, 16]\ndense = [12]";

#[test]
fn bf16_is_chosen_only_where_the_gpu_has_it() {
    let Some(device) = device_b("bf16_is_chosen_only_where_the_gpu_has_it") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_data(folder.path(), 120);
    let text = config(CNN, "", "").replace("\"f32\"", "\"auto\"").replace("\"cpu\"", "\"auto\"");
    fs_err::write(folder.path().join("small.toml"), text).unwrap();
    for (capability, expected) in [("75", "f32"), ("80", "bf16"), ("90", "bf16")] {
        let args = ["train", "small.toml", "--out", capability];
        let (_, report) = counted(device, folder.path(), &args, &[("CUDA_SIM_CAPABILITY", capability)]);
        let summary = json(folder.path().join(capability).join("summary.json"));
        assert_eq!((&summary["device"], &summary["precision"]), (&"cuda:0".into(), &expected.into()), "{capability}");
        assert!(report.counts("launches")[1] < 150, "{:?}", report.counts("launches"));
    }
}

/// Name, environment, and what the message says.
type Fault<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn faults_of_driver_and_gpu_say_what_to_do() {
    let Some(device) = device_b("faults_of_driver_and_gpu_say_what_to_do") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "")).unwrap();
    let old = [("CUDA_SIM_ERROR", "35"), ("CUDA_SIM_DRIVER", "12040")];
    let none = [("CUDA_SIM_ERROR", "35"), ("CUDA_SIM_DRIVER", "0")];
    let faults: [Fault; 5] = [
        ("old", &old, &["supports CUDA 12.4 and this libtorch needs 13.0", "580 or newer", "built for CUDA 12.6"]),
        ("no-driver", &none, &["no NVIDIA driver is installed"]),
        ("no-device", &[("CUDA_SIM_ERROR", "100")], &["reports no device", "nvidia-smi"]),
        ("unknown", &[("CUDA_SIM_ERROR", "999")], &["CUDA error 999", "restart the machine"]),
        (
            "old-gpu",
            &[("CUDA_SIM_NO_IMAGE", "1"), ("CUDA_SIM_CAPABILITY", "61")],
            &["of compute capability 6.1, is too old", "needs 7.5", "built for CUDA 12.6"],
        ),
    ];
    for (name, fault, parts) in faults {
        let train = |device: &'static str| ["train", "small.toml", "--set", device, "--out", name];
        let done = run(device, folder, &train("device=cuda:0"), fault);
        assert_eq!(done.code, 2, "{name}: {}", done.all());
        parts.iter().for_each(|part| assert!(done.stderr.contains(part), "{name}, {part:?}: {}", done.all()));
        assert!(!done.stderr.contains("frame #"), "{name}: {}", done.all());
        // auto trains on the CPU and says why.
        let done = run(device, folder, &train("device=auto"), fault);
        assert_eq!(done.code, 0, "{name}: {}", done.all());
        assert!(done.stderr.contains("device: cpu (") && done.stderr.contains(parts[0]), "{name}: {}", done.all());
    }
}

/// Devices that do not compute are left out of a sweep with `device = "auto"`.
#[test]
fn a_sweep_trains_on_the_cpu_if_no_device_computes() {
    let Some(device) = device_b("a_sweep_trains_on_the_cpu_if_no_device_computes") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_data(folder, 120);
    fs_err::write(folder.join("small.toml"), config(CNN, "", "").replace("\"cpu\"", "\"auto\"")).unwrap();
    let fault = [("CUDA_SIM_NO_IMAGE", "1"), ("CUDA_SIM_DEVICES", "2"), ("CUDA_SIM_CAPABILITY", "120")];
    let done = run(device, folder, &["sweep", "small.toml", "--seeds", "2", "--out", "sweep"], &fault);
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stderr.contains("device: cpu (") && done.stderr.contains("is not among the GPUs"), "{}", done.all());
}

/// The largest config on a small card: validation takes what fits.
#[test]
fn four_gibibytes_are_enough_for_the_large_network() {
    let Some(device) = device_b("four_gibibytes_are_enough_for_the_large_network") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Enough validation images that 2048 at once would not fit.
    let done = good(folder, &["data", "synth", "--out", "data", "--train", "3200", "--test", "10"]);
    assert_eq!(done.code, 0);
    write_config(folder, "best/gpu");
    let mut args = vec!["train", "x.toml", "--out", "run"];
    for set in [
        "device=cuda:0",
        "data.train=data/my_emotion_train.csv",
        "data.validation=0.9",
        "train.epochs=3",
        "train.batch=64",
    ] {
        args.extend(["--set", set]);
    }
    let memory = (4u64 << 30).to_string();
    let (_, report) = counted(device, folder, &args, &[("CUDA_SIM_MEMORY", &memory)]);
    // 2880 validation images: of 2048 at once, two activations of the first layer alone are 2.3 GiB.
    let peak = report.0["peak_bytes"].as_u64().unwrap();
    assert!(peak < 3 << 30, "{peak}");
    // A device of half a gibibyte: batches are halved after a failed allocation, or the error says what to do.
    let done = run(
        device,
        folder,
        &args.iter().map(|a| if *a == "run" { "half" } else { a }).collect::<Vec<_>>(),
        &[("CUDA_SIM_MEMORY", "536870912")],
    );
    assert_eq!(done.code, 1, "{}", done.all());
    assert!(done.stderr.contains("use a smaller train.batch") && !done.stderr.contains("frame #"), "{}", done.all());
}

/// Device B computes nothing: what is read back is 0.
#[test]
fn doctor_fails_on_a_device_that_computes_something_else() {
    let Some(device) = device_b("doctor_fails_on_a_device_that_computes_something_else") else { return };
    let folder = tempfile::tempdir().unwrap();
    let done = run(device, folder.path(), &["doctor", "--device", "cuda:0"], &[]);
    assert_eq!(done.code, 1, "{}", done.all());
    assert!(done.stdout.contains("DIFFERENT"), "{}", done.all());
    assert!(done.stderr.contains("cuda:0 does not compute what the CPU computes"), "{}", done.all());
}
