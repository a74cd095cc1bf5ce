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
    affectnet.check(&names(&CLASSES), Advice::Config).unwrap();
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

/// AffectNet's classes, in its order.
const AFFECTNET: [&str; 8] = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"];

#[test]
fn numbers_that_a_table_does_not_list_have_one_meaning() {
    let map = LabelMap::new(&names(&AFFECTNET), &table(&[("8", "skip"), ("7", "contempt"), ("6", "angry")]));
    // 0 is neutral by position and angry in FER2013.
    assert_eq!(resolve(&map, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]), [-2, -2, -2, -2, -2, -2, 6, 7, -1]);
    assert_eq!(resolve(&map, ["neutral", "anger"]), [0, 6]);
    assert_eq!(
        map.describe_unknown("0", Advice::Config),
        "label 0 is \"neutral\" by its position in data.classes, and \"angry\" in FER2013; list every number in \
         data.labels"
    );
    assert!(map.describe_unknown("0", Advice::CommandLine).ends_with("list every number in --label-map"));
    // Both meanings are the same.
    let swapped = names(&["disgust", "angry", "fear"]);
    let map = LabelMap::new(&swapped, &table(&[("7", "skip")]));
    assert_eq!(resolve(&map, ["0", "1", "2", "3"]), [-2, -2, 2, -2]);
    // Classes of other names have no order to differ in.
    let map = LabelMap::new(&names(&["good", "bad"]), &table(&[("happy", "good")]));
    assert_eq!(resolve(&map, ["3", "0"]), [0, -2]);
}

#[test]
fn a_map_is_added_to_another() {
    let classes = names(&CLASSES);
    let resolved = |base: &LabelNames, over: &LabelNames, classes: &[String], labels: [&str; 4]| {
        resolve(&LabelMap::new(classes, &base.with(over, classes)), labels)
    };
    let list = LabelNames::List(names(&["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "skip"]));
    let eight = table(&[("8", "skip")]);
    assert_eq!(resolved(&list, &eight, &classes, ["0", "6", "7", "8"]), [6, 0, -1, -1], "a list keeps its numbers");
    let joy = table(&[("Joy", "happy"), ("sad", "skip")]);
    assert_eq!(resolved(&joy, &table(&[("SAD", "fear")]), &classes, ["joy", "sad", "4", "0"]), [3, 2, 2, 0]);
    assert_eq!(resolved(&LabelNames::Classes, &eight, &classes, ["0", "6", "7", "8"]), [0, 6, -2, -1]);
    // A run's numbers are positions, also those after FER2013's.
    assert_eq!(resolved(&LabelNames::Classes, &eight, &names(&AFFECTNET), ["0", "6", "7", "8"]), [0, 6, 7, -1]);
    let plus = [&CLASSES[..], &["contempt"]].concat();
    assert_eq!(resolved(&LabelNames::Classes, &eight, &names(&plus), ["0", "6", "7", "8"]), [0, 6, 7, -1]);
    assert_eq!(resolved(&LabelNames::Classes, &joy, &names(&["x", "happy"]), ["0", "1", "joy", "2"]), [-2, -2, 1, -2]);
    assert_eq!(
        resolved(&LabelNames::Classes, &table(&[("joy", "b")]), &names(&["a", "b"]), ["0", "1", "joy", "2"]),
        [0, 1, 1, -2]
    );
    assert_eq!(joy.with(&list, &classes), list, "a list is complete");
    assert_eq!(joy.with(&LabelNames::Classes, &classes), joy);
}

#[test]
fn entries_match_synonyms_and_classes_match_regardless_of_case() {
    let map = LabelMap::new(&names(&CLASSES), &table(&[("anger", "Happy"), ("contempt", "SKIP")]));
    assert_eq!(resolve(&map, ["angry", "0", "Anger", "contemptuous", "happy"]), [3, 3, 3, -1, 3]);
    let both = LabelMap::new(&names(&["angry", "anger"]), &table(&[("anger", "angry")]));
    assert_eq!(resolve(&both, ["angry", "anger"]), [0, 0]);
    let both = LabelMap::new(&names(&["angry", "anger", "x"]), &table(&[("anger", "x")]));
    assert_eq!(resolve(&both, ["angry", "anger"]), [0, 2], "a synonym that is another class");
    let capitals = LabelNames::List(names(&["Neutral", "Happy", "SKIP"]));
    assert_eq!(capitals.default_classes(), CLASSES);
    assert_eq!(resolve(&LabelMap::new(&names(&CLASSES), &capitals), ["0", "1", "2"]), [6, 3, -1]);
    assert!(capitals.check(&names(&CLASSES), Advice::Config).is_ok());
}

#[test]
fn entries_without_rows_are_known() {
    let entries = [("disgsut", "skip"), ("joy", "happy"), ("1", "angry"), ("sadness", "fear"), ("12", "sad")];
    let map = LabelMap::new(&names(&CLASSES), &table(&entries));
    assert_eq!(map.unused(), ["1", "12", "disgsut", "joy", "sadness"]);
    let clone = map.clone();
    assert_eq!(resolve(&clone, ["Joy", "1", "4", "0", "none"]), [3, 0, 2, 0, -2]);
    assert_eq!(map.unused(), ["12", "disgsut"], "4 is sad in FER2013");
    assert!(LabelMap::new(&names(&CLASSES), &LabelNames::Classes).unused().is_empty());
}

#[test]
fn entries_are_checked() {
    let message =
        |labels: &LabelNames, classes: &[&str]| labels.check(&names(classes), Advice::Config).unwrap_err().to_string();
    let text = message(&table(&[("joy", "glad")]), &CLASSES);
    assert!(
        text.starts_with("data.labels.joy = \"glad\" is not allowed: expected one of the classes (\"angry\""),
        "{text}"
    );
    assert!(message(&LabelNames::List(names(&["x"])), &["a", "b"]).contains("data.labels[0] = \"x\""));
    assert!(message(&LabelNames::List(Vec::new()), &["a", "b"]).contains("1 to 1000 entries"));
    assert!(message(&table(&[("x", "a")]), &["a", "skip"]).contains("other than \"skip\""));
    assert!(message(&table(&[("Joy", "a"), ("joy", "b")]), &["a", "b"]).contains("each label once"));
    let typed = table(&[("joy", "glad")]).check(&names(&CLASSES), Advice::CommandLine).unwrap_err().to_string();
    assert!(typed.starts_with("--label-map joy = \"glad\" is not allowed: expected one of the classes"), "{typed}");
    assert!(LabelNames::Classes.check(&names(&["a", "skip"]), Advice::Config).is_ok());
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
    assert!(map.describe_unknown("so so", Advice::CommandLine).contains("add --label-map 'so so=CLASS'"));
    assert!(map.describe_unknown("don't", Advice::CommandLine).contains("add --label-map \"don't=CLASS\""));
    assert!(map.describe_unknown("a\"b", Advice::Config).contains("{ 'a\"b' = \"CLASS\" }"));
    for label in ["a,b", "a=b", "a\u{1}b", &"x".repeat(41)] {
        let message = map.describe_unknown(label, Advice::CommandLine);
        assert!(message.ends_with("; rename it in the file"), "{message}");
    }
}

#[test]
fn the_command_line_form_is_parsed() {
    assert_eq!(LabelNames::parse("joy=happy, 7 = skip").unwrap(), table(&[("7", "skip"), ("joy", "happy")]));
    assert_eq!(LabelNames::parse("sad,happy").unwrap(), LabelNames::List(names(&["sad", "happy"])));
    for text in ["", "a=b,", "a=b,c", "a=b,a=c", "=skip"] {
        assert!(LabelNames::parse(text).is_err(), "{text:?}");
    }
}
