//! Makes untrusted text safe to print: bounded length, no terminal control sequences, nothing hidden.

use std::path::Path;

/// Maximum characters of a printed message.
const MAX_MESSAGE: usize = 2000;

/// Cuts `text` after `length` characters and marks the cut with `...`. Control characters stay: use
/// it with `{:?}` or [`escaped`].
pub fn short(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

/// Escapes control characters except line breaks and tabs, and characters that reorder or hide text
/// (zero-width characters, bidirectional overrides and isolates).
pub fn escaped(text: &str) -> String {
    let escape = |c: char| if is_deceptive(c) { c.escape_default().collect() } else { vec![c] };
    text.chars().flat_map(escape).collect()
}

/// Whether a character makes a terminal show something else than the text.
fn is_deceptive(c: char) -> bool {
    let ranges = ['\u{200b}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2060}'..='\u{2069}', '\u{feff}'..='\u{feff}'];
    ranges.iter().any(|range| range.contains(&c)) || (c.is_control() && c != '\n' && c != '\t')
}

/// Escapes like [`escaped`], and removes the middle of a message of more than 2000 characters;
/// the end stays, because messages end with what was expected.
pub fn printable(message: &str) -> String {
    let escaped = escaped(message);
    let count = escaped.chars().count();
    if count <= MAX_MESSAGE {
        return escaped;
    }
    let (front, back) = (MAX_MESSAGE * 3 / 4, MAX_MESSAGE / 4);
    let start: String = escaped.chars().take(front).collect();
    let end: String = escaped.chars().skip(count - back).collect();
    format!("{start} [{} characters left out] {end}", count - front - back)
}

/// A number and its noun, such as `1 row` or `3 rows`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// `path` quoted for a shell, for a command in a message. A name that starts with `-` gets `./`, or
/// the command would take it for an option.
pub fn shell_quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = if text.starts_with('-') { format!("./{text}").into() } else { text };
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31m\nb\t\0"), "a\\u{1b}[31m\nb\t\\u{0}");
    }

    #[test]
    fn invisible_and_reordering_characters_are_escaped() {
        for c in ['\u{200b}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2060}', '\u{2066}', '\u{2069}', '\u{feff}'] {
            assert_eq!(escaped(&format!("a{c}b")), format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        let visible = "grün\u{200a}\u{2010}\u{202f}\u{205f}😀";
        assert_eq!(escaped(visible), visible);
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        for (path, quoted) in [("a.csv", "a.csv"), ("a b", "'a b'"), ("-k", "./-k")] {
            assert_eq!(shell_quoted(Path::new(path)), quoted);
        }
    }

    #[test]
    fn counts_agree_with_their_noun() {
        assert_eq!([count(0, "row"), count(1, "row"), count(2, "row")], ["0 rows", "1 row", "2 rows"]);
    }

    #[test]
    fn long_messages_keep_their_start_and_end() {
        let text = printable(&format!("name = {} is not allowed", "ä".repeat(100_000)));
        assert!(text.starts_with("name = ää") && text.ends_with("ä is not allowed"), "{text}");
        assert!(text.contains("characters left out") && text.chars().count() < 2100);
        assert_eq!((short("grün", 3).as_str(), short("grün", 4).as_str()), ("grü...", "grün"));
    }
}
