//! A section of texts: where each ends, uint64 `[N]`, then all of them in UTF-8.

use anyhow::{Context, Result, ensure};

/// The bytes of a section with these texts.
pub fn encode(texts: &[String]) -> Vec<u8> {
    let mut end = 0u64;
    let mut bytes = Vec::with_capacity(texts.len() * 8);
    for text in texts {
        end += text.len() as u64;
        bytes.extend(end.to_le_bytes());
    }
    texts.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
    bytes
}

/// The `count` texts of a section.
///
/// # Errors
/// What is wrong with the section.
pub fn decode(bytes: &[u8], count: usize) -> Result<Vec<String>> {
    let (ends, all) = bytes.split_at_checked(count * 8).context("a text is missing")?;
    let mut start = 0;
    let mut texts = Vec::with_capacity(count);
    for end in ends.as_chunks().0 {
        let end = usize::try_from(u64::from_le_bytes(*end))?;
        let text = all.get(start..end).context("a text ends before it begins, or after all of them")?;
        texts.push(std::str::from_utf8(text).context("a text is not UTF-8")?.to_owned());
        start = end;
    }
    ensure!(start == all.len(), "there is more than the texts");
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_damage_is_an_error() {
        let texts = ["", "Training", "ä, \"x\"\n", ""].map(String::from);
        let bytes = encode(&texts);
        assert_eq!(decode(&bytes, 4).unwrap(), texts);
        assert_eq!(decode(&encode(&[]), 0).unwrap(), [""; 0]);
        assert!(
            decode(&bytes, 5).is_err() && decode(&bytes, 3).is_err() && decode(&bytes[..bytes.len() - 1], 4).is_err()
        );
        let mut backwards = bytes.clone();
        backwards[8] = 0;
        backwards[0] = 8;
        assert!(decode(&backwards, 4).is_err());
        let mut split = bytes;
        // In the middle of a character.
        split[8] = 9;
        assert!(decode(&split, 4).is_err());
    }
}
