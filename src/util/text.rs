//! Text from outside made fit to be shown: of a length that somebody reads, and without what steers a terminal.

/// Characters of a message that are shown.
const LONGEST: usize = 2000;

/// The beginning of `text`, at most `length` characters of it, with dots where it was cut. For `{:?}` or data of ours:
/// what steers a terminal stays.
pub fn short(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

/// `text` with control characters escaped, line breaks and tabs apart.
pub fn escaped(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { c.escape_default().collect() } else { vec![c] };
    text.chars().flat_map(shown).collect()
}

/// A message fit to be read: [`escaped`], and with its middle left out where it is far too long; what was expected stands at
/// the end.
pub fn legible(message: &str) -> String {
    let escaped = escaped(message);
    let count = escaped.chars().count();
    if count <= LONGEST {
        return escaped;
    }
    let (front, back) = (LONGEST * 3 / 4, LONGEST / 4);
    let start: String = escaped.chars().take(front).collect();
    let end: String = escaped.chars().skip(count - back).collect();
    format!("{start} [{} characters left out] {end}", count - front - back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(legible("a\u{1b}[31m\nb\t\0"), "a\\u{1b}[31m\nb\t\\u{0}");
    }

    #[test]
    fn beginning_and_end_of_a_long_message_stay() {
        let shown = legible(&format!("name = {} is not allowed", "ä".repeat(100_000)));
        assert!(shown.starts_with("name = ää") && shown.ends_with("ä is not allowed"), "{shown}");
        assert!(shown.contains("characters left out") && shown.chars().count() < 2100);
        assert_eq!((short("grün", 3).as_str(), short("grün", 4).as_str()), ("grü...", "grün"));
    }
}
