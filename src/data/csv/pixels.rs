//! Parsing a `pixels` cell: 2304 integers 0..255, separated by spaces.
//!
//! Line breaks, tabs, commas and brackets separate them as well, as NumPy and Python print arrays
//! and lists.

use crate::data::images::PIXELS;

/// Minimum length of a cell in bytes: a digit per pixel, and the spaces between.
pub const MIN_CELL_BYTES: u64 = 2 * PIXELS as u64 - 1;

/// Why a `pixels` cell could not be read; positions count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PixelError {
    /// An empty cell.
    #[error("no pixels; expected {PIXELS} integers 0..255, separated by spaces")]
    Empty,
    /// Not 2304 pixels.
    #[error("{count} pixels; expected {PIXELS} (48x48){}", unclosed(*has_breaks))]
    Count {
        /// How many.
        count: usize,
        /// Whether the cell has line breaks.
        has_breaks: bool,
    },
    /// Not a nonnegative integer.
    #[error("pixel {position} is {text:?}; expected an integer 0..255{}", unclosed(*has_breaks))]
    NotANumber {
        /// Number of the pixel, from 1.
        position: usize,
        /// What is there, truncated.
        text: String,
        /// Whether the cell has line breaks.
        has_breaks: bool,
    },
    /// A number above 255.
    #[error("pixel {position} is {text}; expected 0..255")]
    OutOfRange {
        /// Number of the pixel, from 1.
        position: usize,
        /// What is there, truncated.
        text: String,
    },
}

/// A quote that is not closed makes a cell of the rows after it.
fn unclosed(has_breaks: bool) -> &'static str {
    if has_breaks { "; the cell has line breaks: is a quote not closed?" } else { "" }
}

/// Parses a cell into `image`, row-major. Repeated, leading and trailing separators are allowed.
///
/// # Errors
/// The first error in the cell; `image` then holds the pixels before it.
pub fn parse(cell: &[u8], image: &mut [u8]) -> Result<(), PixelError> {
    if parse_fast(cell, image) { Ok(()) } else { parse_general(cell, image) }
}

/// Parses numbers of one to three digits separated by single spaces. Returns `false` for any other
/// cell.
fn parse_fast(cell: &[u8], image: &mut [u8]) -> bool {
    let mut rest = cell;
    for pixel in image.iter_mut() {
        let digit = |byte: u8| u32::from(byte.wrapping_sub(b'0'));
        let (value, used) = match rest {
            [a, b' ', ..] | [a] if digit(*a) <= 9 => (digit(*a), 1),
            [a, b, b' ', ..] | [a, b] if digit(*a) <= 9 && digit(*b) <= 9 => (digit(*a) * 10 + digit(*b), 2),
            [a, b, c, b' ', ..] | [a, b, c] if digit(*a) <= 9 && digit(*b) <= 9 && digit(*c) <= 9 => {
                (digit(*a) * 100 + digit(*b) * 10 + digit(*c), 3)
            }
            _ => return false,
        };
        let Ok(value) = u8::try_from(value) else { return false };
        *pixel = value;
        rest = rest.get(used + 1..).unwrap_or_default();
    }
    // Nothing may follow, not even the space that the last number consumed.
    rest.is_empty() && !cell.ends_with(b" ")
}

/// Parses any cell, with an error for an invalid one.
fn parse_general(cell: &[u8], image: &mut [u8]) -> Result<(), PixelError> {
    let has_breaks = || memchr::memchr2(b'\n', b'\r', cell).is_some();
    let mut count = 0;
    let mut at = 0;
    while let Some(&byte) = cell.get(at) {
        if is_separator(byte) {
            at += 1;
            continue;
        }
        let start = at;
        let mut value = 0u32;
        while let Some(&byte) = cell.get(at) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = (value * 10 + u32::from(digit)).min(1000);
            at += 1;
        }
        if at == start || cell.get(at).is_some_and(|byte| !is_separator(*byte)) {
            let (text, has_breaks) = (token(cell, start), has_breaks());
            return Err(PixelError::NotANumber { position: count + 1, text, has_breaks });
        }
        let pixel = u8::try_from(value)
            .map_err(|_| PixelError::OutOfRange { position: count + 1, text: token(cell, start) })?;
        if let Some(slot) = image.get_mut(count) {
            *slot = pixel;
        }
        count += 1;
    }
    match count {
        0 => Err(PixelError::Empty),
        count if count == image.len() => Ok(()),
        count => Err(PixelError::Count { count, has_breaks: has_breaks() }),
    }
}

fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b || matches!(byte, b',' | b';' | b'[' | b']')
}

/// The token at `start`, truncated for an error message.
fn token(cell: &[u8], start: usize) -> String {
    let rest = cell.get(start..).unwrap_or_default();
    let end = rest.iter().position(|byte| is_separator(*byte)).unwrap_or(rest.len());
    let truncated: String =
        String::from_utf8_lossy(rest.get(..end.min(64)).unwrap_or_default()).chars().take(20).collect();
    if end > 20 { format!("{truncated}...") } else { truncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cell: &str) -> Result<[u8; 4], PixelError> {
        let mut image = [0; 4];
        parse(cell.as_bytes(), &mut image).map(|()| image)
    }

    #[test]
    fn valid_cells() {
        assert_eq!(read("0 7 42 255"), Ok([0, 7, 42, 255]));
        assert_eq!(read("  0 7  42 255 "), Ok([0, 7, 42, 255]));
        assert_eq!(read("000 07 042 255"), Ok([0, 7, 42, 255]));
        for cell in
            ["0\t7\n42\r\n255", "0, 7, 42, 255", "0;7;42;255", "[[ 0   7]\n [ 42 255]]", "\u{b}0 7\u{c}42 255\n"]
        {
            assert_eq!(read(cell), Ok([0, 7, 42, 255]), "{cell:?}");
        }
    }

    #[test]
    fn fast_parser_agrees_with_general_parser() {
        for cell in [
            "0 7 42 255",
            "1 2 3 4",
            "255 255 255 255",
            "1 2 3",
            "1 2 3 4 ",
            " 1 2 3 4",
            "1 2 3 256",
            "1 2 3 4 5",
            "1 2 x 4",
            "1  2 3 4",
            "1 2 3 0004",
            "",
        ] {
            let (mut fast, mut general) = ([9; 4], [9; 4]);
            let result = parse_general(cell.as_bytes(), &mut general);
            if parse_fast(cell.as_bytes(), &mut fast) {
                assert_eq!((result, general), (Ok(()), fast), "{cell:?}");
            }
        }
        assert!(parse_fast(b"0 7 42 255", &mut [0; 4]));
    }

    #[test]
    fn invalid_cells() {
        assert_eq!(read(""), Err(PixelError::Empty));
        assert_eq!(read("1 2 3"), Err(PixelError::Count { count: 3, has_breaks: false }));
        assert_eq!(read("1 2 3 4 5"), Err(PixelError::Count { count: 5, has_breaks: false }));
        let message = |cell: &str| read(cell).unwrap_err().to_string();
        assert_eq!(message("1 256 3 4"), "pixel 2 is 256; expected 0..255");
        assert_eq!(message("1 99999999999999999999 3 4"), "pixel 2 is 99999999999999999999; expected 0..255");
        assert_eq!(message("1 2 -3 4"), "pixel 3 is \"-3\"; expected an integer 0..255");
        assert_eq!(message("1 2 3.5 4"), "pixel 3 is \"3.5\"; expected an integer 0..255");
        assert_eq!(message("1:2:3:4"), "pixel 1 is \"1:2:3:4\"; expected an integer 0..255");
        assert!(message("1 2 3 4\n0,4").ends_with("is a quote not closed?"));
        assert!(message("1 2 3 4\nx,4").ends_with("is a quote not closed?"));
        assert!(message(&"x".repeat(100)).contains("xxx...\""));
        assert_eq!(message("1 2 \0 4"), "pixel 3 is \"\\0\"; expected an integer 0..255");
    }
}
