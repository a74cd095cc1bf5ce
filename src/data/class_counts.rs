//! Rows of each class.

/// Each class and its number of rows.
pub fn count_rows<'a>(classes: &'a [String], labels: &'a [u8]) -> impl Iterator<Item = (&'a str, usize)> {
    let rows = |class: usize| labels.iter().filter(|label| usize::from(**label) == class).count();
    classes.iter().enumerate().map(move |(number, class)| (class.as_str(), rows(number)))
}

/// A warning if the validation rows lack a class.
pub fn missing_validation_classes(classes: &[String], labels: &[u8]) -> Option<String> {
    let missing: Vec<&str> =
        count_rows(classes, labels).filter(|(_, rows)| *rows == 0).map(|(class, _)| class).collect();
    if missing.is_empty() {
        return None;
    }
    let mut present = count_rows(classes, labels).filter(|(_, rows)| *rows > 0);
    let advice = |of: &str| format!("add rows of {of}, or set another data.validation");
    Some(match (present.next(), present.next()) {
        (Some((class, _)), None) => format!(
            "every validation row is of class {class}: the validation accuracy is only the recall of that class; add rows of the \
             others ({}), or set another data.validation",
            missing.join(", ")
        ),
        _ if missing.len() == 1 => {
            format!(
                "no validation row is of class {}: the validation metrics do not measure it; {}",
                missing.join(""),
                advice("it")
            )
        }
        _ => format!(
            "no validation row is of the classes {}: the validation metrics do not measure them; {}",
            missing.join(", "),
            advice("them")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["sad", "happy", "fear"].map(String::from).to_vec()
    }

    #[test]
    fn missing_validation_classes_are_named() {
        let message = |labels: &[u8]| missing_validation_classes(&classes(), labels);
        assert_eq!(message(&[2, 0, 1, 1]), None);
        let one = message(&[2, 0, 0]).unwrap();
        assert!(one.starts_with("no validation row is of class happy: ") && one.contains("rows of it"), "{one}");
        let single = message(&[1, 1]).unwrap();
        assert!(single.starts_with("every validation row is of class happy: "), "{single}");
        assert!(single.contains("others (sad, fear)"), "{single}");
        let four = [&classes()[..], &["angry".to_owned()]].concat();
        let two = missing_validation_classes(&four, &[0, 1]).unwrap();
        assert!(two.starts_with("no validation row is of the classes fear, angry: "), "{two}");
        assert!(two.contains("rows of them"), "{two}");
    }
}
