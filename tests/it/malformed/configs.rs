//! Configs and `--set`.

use super::*;

/// The small config with `old` replaced by `new`.
fn tiny(old: &str, new: &str) -> String {
    assert!(TINY.contains(old), "{old} is not in the config");
    TINY.replacen(old, new, 1)
}

/// The small config with a line added at the beginning of a section.
fn in_section(section: &str, line: &str) -> String {
    tiny(&format!("[{section}]\n"), &format!("[{section}]\n{line}\n"))
}

/// The small config with an `[augment]` section of one line, which is line 15.
fn augment(line: &str) -> String {
    format!("{TINY}[augment]\n{line}\n")
}

/// The small config with a `[predict]` section of one line, which is line 15.
fn predict(line: &str) -> String {
    format!("{TINY}[predict]\n{line}\n")
}

/// The small config with another optimizer, on line 13.
fn optimizer(table: &str) -> String {
    tiny("{ kind = \"adam\", lr = 3e-3 }", table)
}

/// Runs a case of a config or of `--set`. Its message must not contain Rust types.
fn refuse_config(cases: &mut Cases, args: &[&str], parts: &[&str]) {
    if let Some(done) = cases.expect(args, 2, parts) {
        for name in RUST_TYPES {
            let what = format!("{}: {name:?} in: {}", short(&args.join(" ")), short(&done.stderr));
            cases.check(!done.stderr.contains(name), &what);
        }
    }
    cases.check_no_run();
}

fn refuse_configs<Text: AsRef<[u8]>>(table: &[(Text, &[&str])]) {
    let mut cases = Cases::new();
    for (text, parts) in table {
        cases.write("c.toml", text);
        refuse_config(&mut cases, &["train", "c.toml", "--out", "none"], parts);
    }
    cases.finish();
}

#[test]
fn configs_that_are_not_toml() {
    let nested = |open: &str, times: usize| format!("seed = {}\n{TINY}", open.repeat(times));
    let dots = vec!["a"; 10_000].join(".");
    let too_large = format!("{TINY}#{}", "x".repeat(2 << 20));
    let nesting: &[&str] = &["c.toml", "not valid TOML", "recur"];
    refuse_configs::<Vec<u8>>(&[
        (vec![], &["c.toml: name: missing"]),
        (b"\n# nothing\n\n".to_vec(), &["c.toml: name: missing"]),
        (b"hello world\n".to_vec(), &["c.toml:1: not valid TOML"]),
        (b"{\"name\": \"x\"}\n".to_vec(), &["c.toml:1: not valid TOML"]),
        (b"[data]\ntrain=data/x.csv\n".to_vec(), &["c.toml:2: not valid TOML", "quoted"]),
        (format!("{TINY}\0").into(), &["c.toml:14: not valid TOML"]),
        (vec![0; 3000], &["c.toml:1: not valid TOML"]),
        ((0..=255).rev().cycle().take(3000).collect(), &["c.toml: not UTF-8"]),
        (utf16(TINY), &["c.toml: not UTF-8", "a config file in TOML"]),
        (TINY.replace('\n', "\r").into(), &["c.toml:1: not valid TOML"]),
        (tiny("epochs = 3", "epochs = 0").replace('\n', "\r\n").into(), &["c.toml:11: train.epochs = 0"]),
        (format!("\u{feff}{}", tiny("epochs = 3", "epochs = 0")).into(), &["c.toml:11: train.epochs = 0"]),
        (tiny("batch = 64", "batch = 64\nbatch = 32").into(), &["c.toml:13: not valid TOML: duplicate key"]),
        (format!("{TINY}[data]\ntrain = \"x\"\n").into(), &["c.toml:14: not valid TOML: duplicate key"]),
        (too_large.into(), &["c.toml: 20", "at most 1048576"]),
        (format!("{dots} = 1\n{TINY}").into(), nesting),
        (format!("{TINY}[{dots}]\nx = 1\n").into(), nesting),
        (format!("{TINY}[[{dots}]]\nx = 1\n").into(), nesting),
        (nested("[", 100_000).into(), nesting),
        (nested("{a=", 50_000).into(), nesting),
    ]);
}

#[test]
fn configs_with_unknown_and_missing_keys() {
    let without = |section: &str| {
        let begin = TINY.find(&format!("[{section}]")).unwrap();
        let end = TINY[begin..].find("\n[").map_or(TINY.len(), |next| begin + next + 1);
        format!("{}{}", &TINY[..begin], &TINY[end..])
    };
    refuse_configs::<String>(&[
        (format!("nmae = \"x\"\n{TINY}"), &["c.toml:1: nmae: unknown key", "name, seed"]),
        (in_section("data", "trian = \"x\""), &["c.toml:5: data.trian: unknown key", "train, test"]),
        (in_section("model", "filter = [1]"), &["c.toml:7: model.filter: unknown key", "filters, "]),
        (in_section("train", "epoch = 3"), &["c.toml:11: train.epoch: unknown key", "epochs, "]),
        (augment("rotat = 3"), &["c.toml:15: augment.rotat: unknown key", "rotate, "]),
        (optimizer("{ momentum = 0.9 }"), &["c.toml:13: train.optimizer.momentum: unknown key", "beta1, "]),
        (predict("views = \"flip\""), &["c.toml:15: predict.views: this key was renamed; use predict.tta"]),
        (format!("{TINY}[traning]\nepochs = 3\n"), &["c.toml:14: traning: unknown key"]),
        (format!("{TINY}[train.early_stop]\npatence = 3\n"), &["c.toml:15: train.early_stop.patence: unknown key"]),
        (
            format!("{TINY}[train.checkpoint_every]\nepoch = 3\n"),
            &["c.toml:15: train.checkpoint_every.epoch: unknown key"],
        ),
        (
            in_section("train", "schedule = { kind = \"constant\", hold = 3 }"),
            &["c.toml:11: train.schedule.hold: unknown key"],
        ),
        // A name in quotes is one name, whatever it contains.
        (format!("\"train.batch\" = 3\n{TINY}"), &["c.toml:1: \"train.batch\": unknown key"]),
        (format!("\"a\\u001b[31m\" = 3\n{TINY}"), &["c.toml", "unknown key"]),
        (format!("{} = 3\n{TINY}", "x".repeat(100_000)), &["c.toml:1: xxx", "unknown key"]),
        (tiny("name = \"tiny\"\n", ""), &["c.toml: name: missing"]),
        (tiny("train = \"data/my_emotion_train.csv\"\n", ""), &["c.toml:4: data.train: missing; this key is required"]),
        (without("data"), &["c.toml: data: missing"]),
        (without("model"), &["c.toml: model: missing"]),
        (tiny("kind = \"cnn\"\n", ""), &["c.toml:6: model.kind: missing"]),
    ]);
}

#[test]
fn configs_with_values_of_other_types() {
    let no_train = TINY.split("[train]").next().unwrap();
    refuse_configs::<String>(&[
        (tiny("name = \"tiny\"", "name = 3"), &["c.toml:1: name = 3 is not allowed: expected a string"]),
        (tiny("device = \"cpu\"", "device = 0"), &["c.toml:2: device = 0 is not allowed"]),
        (tiny("precision = \"f32\"", "precision = 32"), &["c.toml:3: precision: expected a string"]),
        (format!("seed = 1.5\n{TINY}"), &["c.toml:1: seed = 1.5 is not allowed"]),
        ("name = \"x\"\ndata = 3\nmodel = 3\n".into(), &["c.toml:2: data = 3 is not allowed: expected a table"]),
        (
            "name = \"x\"\nmodel = 3\n[data]\ntrain = \"x\"\n".into(),
            &["c.toml:2: model = 3 is not allowed: expected a table"],
        ),
        // A list is no table, even if its values would fit.
        (format!("train = []\n{no_train}"), &["c.toml:1: train is an array; expected a table"]),
        (format!("augment = [1, 0.1, 0.1, true]\n{TINY}"), &["c.toml:1: augment is an array; expected a table"]),
        (format!("{TINY}[[augment]]\nrotate = 1\n"), &["c.toml", "augment is an array; expected a table"]),
        (tiny("\"data/my_emotion_train.csv\"", "3"), &["c.toml:5: data.train = 3 is not allowed"]),
        (
            in_section("data", "validation = true"),
            &["c.toml:5: data.validation = true is not allowed", "a fraction above 0"],
        ),
        (in_section("data", "classes = \"a,b\""), &["c.toml:5: data.classes = \"a,b\" is not allowed"]),
        (in_section("data", "classes = [1, 2]"), &["c.toml:5: data.classes[0] = 1 is not allowed"]),
        (tiny("[16, 32]", "\"16\""), &["c.toml:8: model.filters = \"16\" is not allowed"]),
        (tiny("[16, 32]", "[16, \"32\"]"), &["c.toml:8: model.filters[1] = \"32\" is not allowed"]),
        (tiny("kind = \"cnn\"", "kind = 3"), &["c.toml:7: model.kind = 3 is not allowed"]),
        (tiny("epochs = 3", "epochs = \"3\""), &["c.toml:11: train.epochs = \"3\" is not allowed"]),
        (tiny("epochs = 3", "epochs = nan"), &["c.toml:11: train.epochs = NaN is not allowed: expected an integer"]),
        (tiny("epochs = 3", "epochs = 2024-01-01"), &["c.toml:11: train.epochs = ", "expected an integer"]),
        (optimizer("\"adam\""), &["c.toml:13: train.optimizer = \"adam\" is not allowed: expected a table"]),
        (optimizer("{ lr = \"3e-3\" }"), &["c.toml:13: train.optimizer.lr = \"3e-3\" is not allowed"]),
        (predict("tta = 10"), &["c.toml:15: predict.tta"]),
        (format!("predict = [\"flip\"]\n{TINY}"), &["c.toml:1: predict is an array; expected a table"]),
        (augment("flip = 1"), &["c.toml:15: augment.flip = 1 is not allowed: expected true, false or \"alternating\""]),
    ]);
}

#[test]
fn configs_with_data_names_and_networks_out_of_range() {
    let name = |text: &str| tiny("name = \"tiny\"", &format!("name = {text:?}"));
    let classes = |list: &str| in_section("data", &format!("classes = {list}"));
    let hundred = format!("{:?}", (0..=100).map(|number| format!("c{number}")).collect::<Vec<_>>());
    let long = format!("[\"{}\", \"b\"]", "x".repeat(70_000));
    let distinct: &[&str] = &["c.toml:5: data.classes", "names of 1 to 100 characters that differ not only in case"];
    refuse_configs::<String>(&[
        (name("a/b"), &["c.toml:1: name", "a/b", "letters, digits or -_.+"]),
        (name(".hidden"), &["c.toml:1: name", "not starting with a dot"]),
        (name(&"x".repeat(100_000)), &["c.toml:1: name", "1 to 100 letters"]),
        (tiny("\"tiny\"", "\"a\\u001b[31m\""), &["c.toml:1: name", "letters, digits"]),
        (format!("seed = -1\n{TINY}"), &["c.toml:1: seed", "-1"]),
        (format!("seed = 99999999999999999999999\n{TINY}"), &["c.toml:1"]),
        (format!("threads = 1025\n{TINY}"), &["c.toml:1: threads = 1025", "0 (one per core) to 1024"]),
        (tiny("\"f32\"", "\"f64\""), &["c.toml:3: precision = \"f64\" is not allowed", "\"bf16\""]),
        (tiny("\"cpu\"", "\"gpu\""), &["c.toml:2: device: unknown device \"gpu\"", "cuda:N"]),
        (tiny("\"data/my_emotion_train.csv\"", "\"\""), &["data.train"]),
        (in_section("data", "validation = 0"), &["c.toml:5: data.validation = 0", "a fraction above 0 and below 1"]),
        (in_section("data", "validation = nan"), &["c.toml:5: data.validation = NaN", "a fraction above 0"]),
        (in_section("data", "validation = \"Training\""), &["data.validation = \"Training\"", "the training rows"]),
        (
            in_section("data", "validation = \"PublicTest\""),
            &["data.validation = \"PublicTest\"", "my_emotion_train.csv has no column Usage"],
        ),
        (
            in_section("data", "split = \"kfold\""),
            &["c.toml:5: data.split = \"kfold\" is not allowed", "\"stratified\""],
        ),
        (
            in_section("data", "on_bad_row = \"ignore\""),
            &["c.toml:5: data.on_bad_row = \"ignore\" is not allowed", "\"skip\""],
        ),
        (classes("[]"), &["c.toml:5: data.classes", "2 to 100 class names"]),
        (classes(&hundred), &["c.toml:5: data.classes = 101", "2 to 100 names"]),
        (classes("[\"a\", \"a\"]"), distinct),
        (classes("[\"a,b\", \"c\"]"), distinct),
        (classes("[\"a\", \"\\u001b[31m\"]"), &["c.toml:5: data.classes"]),
        (classes(&long), &["c.toml:5: data.classes"]),
        (tiny("[16, 32]", "[]"), &["c.toml:8: model.filters = []", "1 to 8 numbers of 1 to 4096"]),
        (tiny("[16, 32]", "[9223372036854775807]"), &["c.toml:8: model.filters = [9223372036854775807]"]),
        (tiny("[16, 32]", &format!("[{}]", "1,".repeat(300_000))), &["c.toml:8: model.filters", "1 to 8 numbers"]),
        (tiny("[16, 32]", "[1, 1, 1, 1, 1, 1]"), &["c.toml:8: model.filters", "at least one pixel of 48x48"]),
        (tiny("[16]", "[65537]"), &["c.toml:9: model.dense = [65537]", "up to 8 numbers of 1 to 65536"]),
        (in_section("model", "kernel = 2"), &["c.toml:7: model.kernel = 2", "an odd number, 1 to 15"]),
        (in_section("model", "kernel = 9223372036854775807"), &["c.toml:7: model.kernel", "an odd number, 1 to 15"]),
        (in_section("model", "dropout = nan"), &["c.toml:7: model.dropout = NaN", "0 to below 1"]),
        (in_section("model", "padding = \"full\""), &["c.toml:7: model.padding = \"full\" is not allowed", "\"same\""]),
        (tiny("\"cnn\"", "\"rnn\""), &["c.toml:7: model.kind = \"rnn\" is not allowed", "\"cnn\""]),
        (
            tiny("[16, 32]", "[4096, 4096, 4096]").replace("[16]", "[65536, 65536]"),
            &["c.toml", "model = 8892104704 parameters is not allowed: expected at most 268435456"],
        ),
        (
            tiny("[16, 32]", "[4096, 4096, 4096, 4096, 4096]\nconvolutions = 8\nkernel = 15\npadding = \"same\""),
            &["c.toml", "parameters is not allowed: expected at most 268435456"],
        ),
    ]);
}

#[test]
fn configs_with_a_training_out_of_range() {
    let epochs = |value: &str| tiny("epochs = 3", &format!("epochs = {value}"));
    let batch = |value: &str| tiny("batch = 64", &format!("batch = {value}"));
    let lr = |value: &str| tiny("3e-3", value);
    let train = |line: &str| in_section("train", line);
    let every: &[&str] = &["c.toml:11: train.checkpoint_every", "at least one of epochs, steps, seconds"];
    refuse_configs::<String>(&[
        (epochs("0"), &["c.toml:11: train.epochs = 0", "1 to 100000"]),
        (epochs("-1"), &["c.toml:11: train.epochs", "-1"]),
        (epochs("9223372036854775808"), &["c.toml:11: not valid TOML"]),
        (batch("0"), &["c.toml:12: train.batch = 0", "1 to 65536"]),
        (batch("-64"), &["c.toml:12: train.batch", "-64"]),
        (lr("0"), &["c.toml:13: train.optimizer.lr = 0", "above 0, at most 100"]),
        (lr("nan"), &["c.toml:13: train.optimizer.lr = NaN", "above 0, at most 100"]),
        (lr("1e400"), &["c.toml:13: not valid TOML"]),
        (optimizer("{ beta1 = 1 }"), &["c.toml:13: train.optimizer.beta1 = 1", "0 to below 1"]),
        (optimizer("{ eps = inf }"), &["c.toml:13: train.optimizer.eps = inf", "above 0, at most 1"]),
        (optimizer("{ kind = \"adamw\", weight_decay = 11 }"), &["c.toml:13: train.optimizer.weight_decay = 11"]),
        (optimizer("{ kind = \"sgd\", momentum = 1 }"), &["c.toml:13: train.optimizer.momentum = 1", "0 to below 1"]),
        (optimizer("{ kind = \"sgd\", momentum = 0 }"), &["c.toml:13: train.optimizer.nesterov", "momentum is 0"]),
        (optimizer("{ kind = \"muon\", momentum = 0 }"), &["c.toml:13: train.optimizer.nesterov", "momentum is 0"]),
        (optimizer("{ kind = \"muon\", step = 5 }"), &["c.toml:13: train.optimizer.step: unknown key", "beta1"]),
        (
            optimizer("{ kind = \"rmsprop\" }"),
            &["c.toml:13: train.optimizer.kind = \"rmsprop\" is not allowed", "\"adamw\""],
        ),
        (train("schedule = { rate = inf }"), &["c.toml:11: train.schedule.rate = inf", "0 to 100"]),
        (train("schedule = { hold = -1 }"), &["c.toml:11: train.schedule.hold", "-1"]),
        (train("schedule = { kind = \"linear\" }"), &["c.toml:11: train.schedule.kind = \"linear\" is not allowed"]),
        (
            train("early_stop = { monitor = \"loss\" }"),
            &["c.toml:11: train.early_stop.monitor = \"loss\" is not allowed"],
        ),
        (train("checkpoint_every = {}"), every),
        (train("checkpoint_every = { seconds = nan }"), every),
        (train("max_rollbacks = 101"), &["c.toml:11: train.max_rollbacks = 101", "0 to 100"]),
        (augment("rotate = 181"), &["c.toml:15: augment.rotate = 181", "0 to 180 degrees"]),
        (augment("shift = inf"), &["c.toml:15: augment.shift = inf", "0 to 1"]),
        (augment("zoom = nan"), &["c.toml:15: augment.zoom = NaN", "0 to below 1"]),
        (augment("brightness = 1"), &["c.toml:15: augment.brightness = 1 ", "0 (off) to below 1"]),
        (augment("contrast = -0.1"), &["c.toml:15: augment.contrast = -0.1 ", "0 (off) to below 1"]),
        (augment("crop = 1"), &["c.toml:15: augment.crop = 1 ", "0 (off) to below 1"]),
        (augment("random_erasing = 1.5"), &["c.toml:15: augment.random_erasing = 1.5 ", "0 (off) to 1, a probability"]),
        (augment("mixup = 11"), &["c.toml:15: augment.mixup = 11 ", "0 (off) to 10"]),
        (augment("cutmix = -1"), &["c.toml:15: augment.cutmix = -1 ", "0 (off) to 10"]),
        (augment("gamma = nan"), &["c.toml:15: augment.gamma = NaN ", "0 (off) to below 1"]),
        (predict("tta = \"both\""), &["c.toml:15: predict.tta = \"both\" is not allowed", "\"flip\"", "\"ten_crop\""]),
    ]);
}

#[test]
fn bad_overrides() {
    let parts = |count: usize| format!("{}=1", vec!["a"; count].join("."));
    let (seventeen, ten_thousand) = (parts(17), parts(10_000));
    let brackets = format!("seed={}", "[".repeat(50_000));
    let (long_key, long_value) = (format!("{}=1", "x".repeat(50_000)), format!("name={}", "x".repeat(50_000)));
    let network = "model={kind=\"cnn\",filters=[4096,4096,4096],dense=[65536,65536]}";
    let table: Vec<(&str, &[&str])> = vec![
        ("train", &["--set train: expected key=value, such as train.batch=128"]),
        ("", &["expected key=value, such as train.batch=128"]),
        ("=3", &["--set =3: the key is empty"]),
        ("train..batch=3", &["--set train..batch=3: the key is empty or has an empty part"]),
        (&seventeen, &["has more than 16 parts"]),
        (&ten_thousand, &["has more than 16 parts"]),
        ("name.x=1", &["--set name.x=1: name is not a table"]),
        ("model.filters.0=3", &["--set model.filters.0=3: filters is not a table"]),
        ("train.batch=0", &["--set train.batch=0: train.batch = 0", "1 to 65536"]),
        ("train.batch=-1", &["--set train.batch=-1: train.batch", "-1"]),
        ("train.batch=many", &["--set train.batch=many: train.batch = \"many\" is not allowed"]),
        ("train.batch=", &["--set train.batch=: train.batch = \"\" is not allowed"]),
        ("train.epochs=99999999999999999999999", &["train.epochs", "99999999999999999999999"]),
        ("train.optimizer.lr=nan", &["--set train.optimizer.lr=nan: train.optimizer.lr = NaN", "at most 100"]),
        ("train.optimizer={kind=\"sdg\"}", &["train.optimizer.kind = \"sdg\" is not allowed", "\"sgd\""]),
        ("train=[]", &["--set train=[]: train is an array; expected a table"]),
        ("augment=[1,0.1,0.1,true]", &["augment is an array; expected a table"]),
        ("model.filters=[4096", &["--set model.filters=[4096: model.filters = \"[4096\" is not allowed"]),
        ("seed=3\nname=\"x\"", &["seed = \"3", "expected an integer"]),
        ("seed=-1", &["--set seed=-1: seed", "-1"]),
        ("TRAIN.batch=3", &["--set TRAIN.batch=3: TRAIN: unknown key"]),
        ("\u{1b}[31m=1", &["unknown key"]),
        ("data.classes=[]", &["--set data.classes=[]: data.classes", "2 to 100 class names"]),
        ("data.train=", &["data.train"]),
        ("precision=f16", &["--set precision=f16: precision = \"f16\" is not allowed"]),
        (network, &["--set model=", "8892104704 parameters is not allowed: expected at most 268435456"]),
        (
            "model.kind=resnet",
            &["model.kind changed from \"cnn\" to \"resnet\"", "no dense, filters", "--set 'model={kind=\"resnet\"}'"],
        ),
        ("data.keep_copies_together=true", &["this key was renamed; use data.group_duplicates"]),
        (&brackets, &["seed = \"[[[", "expected an integer"]),
        (&long_key, &["unknown key"]),
        (&long_value, &["name = xxx", "1 to 100 letters"]),
    ];
    let mut cases = Cases::new();
    for (set, parts) in table {
        refuse_config(&mut cases, &["train", "tiny.toml", "--out", "none", "--set", set], parts);
    }
    let two = ["train", "tiny.toml", "--out", "none", "--set", "train.epochs=0", "--set", "train.epochs=1"];
    let three = [&two[..], &["--set", "train.batch=0"]].concat();
    refuse_config(&mut cases, &three, &["--set train.batch=0: train.batch = 0"]);
    let sheet = ["data", "preview", "tiny.toml", "--out", "none.png", "--set", "augment.zoom=2"];
    refuse_config(&mut cases, &sheet, &["--set augment.zoom=2: augment.zoom = 2", "0 to below 1"]);
    cases.finish();
}
