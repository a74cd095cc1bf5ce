//! A writer of Protobuf messages with the six field types that event files need.

/// A message. Every added field is written, also one that has its default value.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

/// Wire types.
const VARINT: u32 = 0;
const EIGHT_BYTES: u32 = 1;
const WITH_LENGTH: u32 = 2;
const FOUR_BYTES: u32 = 5;

impl Message {
    /// Adds an `int32`, `int64`, `bool` or enum.
    pub fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, VARINT);
        // Negative numbers are written as two's complement.
        self.varint(value.cast_unsigned());
        self
    }

    /// Adds a `double`.
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a `float`.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds `bytes`.
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, WITH_LENGTH);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Adds a `string`.
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Adds a message.
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// The encoded message.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint(u64::from((field << 3) | kind));
    }

    /// Seven bits per byte, the lowest first; the eighth bit is set when more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A reader for tests.
#[cfg(test)]
pub mod reader {
    /// Value of a field: the number or bits of one without a length, the bytes of one with a
    /// length.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Field {
        Number(u64),
        Bytes(Vec<u8>),
    }

    impl Field {
        pub fn number(&self) -> u64 {
            if let Self::Number(number) = self { *number } else { panic!("{self:?}") }
        }
        pub fn bytes(&self) -> &[u8] {
            if let Self::Bytes(bytes) = self { bytes } else { panic!("{self:?}") }
        }
        pub fn text(&self) -> &str {
            std::str::from_utf8(self.bytes()).unwrap()
        }
        pub fn message(&self) -> Vec<(u32, Self)> {
            fields(self.bytes())
        }
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for place in 0.. {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << (7 * place);
            if *first < 0x80 {
                break;
            }
        }
        value
    }

    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }

    /// The fields of a message, in order.
    pub fn fields(mut bytes: &[u8]) -> Vec<(u32, Field)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                5 => Field::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()))),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Field::Bytes(take(&mut bytes, length).to_vec())
                }
                kind => panic!("kind {kind}"),
            };
            found.push(((key >> 3) as u32, value));
        }
        found
    }

    /// The values of one field.
    pub fn all(fields: &[(u32, Field)], number: u32) -> Vec<&Field> {
        fields.iter().filter(|(field, _)| *field == number).map(|(_, value)| value).collect()
    }

    /// The value of a field that occurs once.
    pub fn one(fields: &[(u32, Field)], number: u32) -> &Field {
        let all = all(fields, number);
        assert_eq!(all.len(), 1, "field {number} of {fields:?}");
        all[0]
    }
}

#[cfg(test)]
mod tests {
    use super::reader::{Field, fields};
    use super::*;

    #[test]
    fn fields_have_protobuf_encoding() {
        // The first two are the examples of protobuf's own description of the format.
        assert_eq!(Message::default().int(1, 150).encoded(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").encoded(), b"\x12\x07testing");
        assert_eq!(Message::default().int(1, -2).encoded()[1..], [0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        assert_eq!(Message::default().float(16, 1.0).encoded(), [0x85, 0x01, 0, 0, 0x80, 0x3f]);
        let inner = Message::default().double(1, 0.5);
        let outer = Message::default().message(3, &inner).bytes(4, &[7; 200]);
        let read = fields(outer.encoded());
        assert_eq!(read, [(3, Field::Bytes(inner.encoded().to_vec())), (4, Field::Bytes(vec![7; 200]))]);
        assert_eq!(read[0].1.message(), [(1, Field::Number(0.5f64.to_bits()))]);
    }
}
