use super::*;

fn names(classes: &[&str]) -> Vec<String> {
    classes.iter().map(|class| (*class).to_owned()).collect()
}

fn table(entries: &[(&str, &str)]) -> LabelNames {
    LabelNames::Table(entries.iter().map(|(label, class)| ((*label).to_owned(), (*class).to_owned())).collect())
}

/// The class number of each label, -1 for skipped rows, -2 for unknown labels.
fn resolve<const N: usize>(map: &LabelMap, labels: [&str; N]) -> [i32; N] {
    labels.map(|label| match map.resolve(label) {
        Some(LabelTarget::Class(class)) => i32::from(class),
        Some(LabelTarget::Skip) => -1,
        None => -2,
    })
}

#[test]
fn without_labels_numbers_are_positions_and_words_are_names() {
    let map = LabelMap::new(&names(&CLASSES), &LabelNames::Classes);
    assert_eq!(resolve(&map, ["0", " 6 ", "3.0", "03", "4."]), [0, 6, 3, 3, 4]);
    assert_eq!(resolve(&map, ["7", "-1", "3.5", "", " ", "1e0", "+3", "256", "99999999999999999999"]), [-2; 9]);
    assert_eq!(resolve(&map, ["happy", " Happy", "NEUTRAL", "happiness", "Anger", "fearful"]), [3, 3, 6, 3, 0, 2]);
    assert_eq!(resolve(&map, ["contempt", "joy"]), [-2, -2]);
    let both = LabelMap::new(&names(&["anger", "angry"]), &LabelNames::Classes);
    assert_eq!(resolve(&both, ["angry", "anger", "1"]), [1, 0, 1], "names before synonyms");
}

#[test]
fn a_list_gives_the_class_of_each_number() {
    let affectnet =
        LabelNames::List(names(&["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "skip"]));
    affectnet.check(&names(&CLASSES)).unwrap();
    let map = LabelMap::new(&names(&CLASSES), &affectnet);
    assert_eq!(resolve(&map, ["0", "1", "6", "7", "8", "happy"]), [6, 3, 0, -1, -2, 3]);
}

#[test]
fn a_table_maps_words_numbers_and_merged_classes() {
    let merged = table(&[("happy", "positive"), ("Angry", "negative"), ("sad", "negative"), ("disgust", "skip")]);
    assert_eq!(merged.default_classes(), ["negative", "positive"]);
    let map = LabelMap::new(&merged.default_classes(), &merged);
    assert_eq!(resolve(&map, ["3", "happy", "0", "4", "1", "happiness", "6", "fear"]), [1, 1, 0, 0, -1, 1, -2, -2]);
    let from_one = table(&[("1", "angry"), ("2", "disgust"), ("07.0", "neutral"), ("joy", "happy")]);
    assert_eq!(from_one.default_classes(), CLASSES);
    let map = LabelMap::new(&names(&CLASSES), &from_one);
    assert_eq!(resolve(&map, ["1", "2.0", "7", "joy", "sad"]), [0, 1, 6, 3, 4]);
    let fewer = table(&[("disgust", "skip")]);
    let map = LabelMap::new(&names(&["angry", "fear", "happy", "sad", "surprise", "neutral"]), &fewer);
    assert_eq!(resolve(&map, ["0", "1", "2", "6"]), [0, -1, 1, 5], "numbers keep FER2013's meaning");
}

#[test]
fn entries_are_checked() {
    let message = |labels: &LabelNames, classes: &[&str]| labels.check(&names(classes)).unwrap_err().to_string();
    let text = message(&table(&[("joy", "glad")]), &CLASSES);
    assert!(
        text.starts_with("data.labels.joy = \"glad\" is not allowed: expected a class of data.classes (\"angry\""),
        "{text}"
    );
    assert!(message(&LabelNames::List(names(&["x"])), &["a", "b"]).contains("data.labels[0] = \"x\""));
    assert!(message(&LabelNames::List(Vec::new()), &["a", "b"]).contains("1 to 1000 entries"));
    assert!(message(&table(&[("x", "a")]), &["a", "skip"]).contains("other than \"skip\""));
    assert!(message(&table(&[("Joy", "a"), ("joy", "b")]), &["a", "b"]).contains("each label once"));
    assert!(LabelNames::Classes.check(&names(&["a", "skip"])).is_ok());
}

#[test]
fn unknown_labels_are_described_with_a_way_to_map_them() {
    let map = LabelMap::new(&names(&["sad", "happy"]), &LabelNames::Classes);
    assert_eq!(
        map.describe_unknown("Joy", Advice::Config),
        "unknown label \"Joy\"; expected 0..1 or a class name (sad, happy); to map it, set data.labels = \
         { joy = \"CLASS\" }, with a class name, or skip to leave such rows out"
    );
    assert!(map.describe_unknown("-1 x", Advice::Config).contains("{ \"-1 x\" = \"CLASS\" }"));
    assert!(map.describe_unknown("7", Advice::CommandLine).contains("add --label-map '7=CLASS'"));
    let listed = LabelMap::new(&names(&["sad", "happy"]), &table(&[("a", "sad")]));
    assert!(listed.describe_unknown("b", Advice::Config).contains("add b = \"CLASS\" to data.labels"));
    assert!(!map.describe_unknown("", Advice::Config).contains("to map it"));
}

#[test]
fn the_command_line_form_is_parsed() {
    assert_eq!(LabelNames::parse("joy=happy, 7 = skip").unwrap(), table(&[("7", "skip"), ("joy", "happy")]));
    assert_eq!(LabelNames::parse("sad,happy").unwrap(), LabelNames::List(names(&["sad", "happy"])));
    for text in ["", "a=b,", "a=b,c", "a=b,a=c"] {
        assert!(LabelNames::parse(text).is_err(), "{text:?}");
    }
}
