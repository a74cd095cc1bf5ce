//! TFRecord framing: length, its checksum, data, its checksum.

/// Added to a checksum that is stored beside its data.
const MASK: u32 = 0xa282_ead8;

/// Frames `data` as one record.
pub fn tfrecord(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

/// Masked CRC-32C, as the format defines it.
fn checksum(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

/// The data of each record of a file; panics at an incomplete record.
#[cfg(test)]
pub fn tfrecords(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let data = &file[12..12 + length];
        assert_eq!(&file[..16 + length], tfrecord(data), "record {}", found.len());
        found.push(data.to_vec());
        file = &file[16 + length..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C by its definition, bit by bit.
    fn by_definition(data: &[u8]) -> u32 {
        let mut crc = !0;
        for byte in data {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn checksums_match_the_definition() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        let bytes: Vec<u8> = (0..=255).collect();
        for end in [0, 1, 8, 100, 256] {
            let crc = by_definition(&bytes[..end]);
            assert_eq!(crc32c::crc32c(&bytes[..end]), crc);
            let masked = u32::from_le_bytes(checksum(&bytes[..end]));
            assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), crc, "as readers remove the mask");
        }
    }

    #[test]
    fn record_headers_match_tensorflow() {
        // The first 12 bytes of every event file: the version event has 24 bytes.
        let framed = tfrecord(&[9; 24]);
        assert_eq!(framed[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(tfrecords(&[framed, tfrecord(b"")].concat()), [vec![9; 24], vec![]]);
    }
}
