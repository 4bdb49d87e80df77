//! The bytes in which a core gives its part of a gathered command: numbers and byte strings one
//! after another. Both ends are this program, so a part that does not parse is a bug, not an error.

/// Appends to a part.
pub(super) struct PartWriter<'a>(pub(super) &'a mut Vec<u8>);

impl PartWriter<'_> {
    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.u64(value.len() as u64);
        self.0.extend_from_slice(value);
    }
}

/// Reads a part back.
pub(super) struct PartReader<'a>(&'a [u8]);

impl<'a> PartReader<'a> {
    pub(super) fn new(part: &'a [u8]) -> Self {
        Self(part)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u64(&mut self) -> u64 {
        let (head, rest) = self.0.split_first_chunk::<8>().expect("a part holds what its reader asks for");
        self.0 = rest;
        u64::from_le_bytes(*head)
    }

    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = self.u64() as usize;
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }
}

#[cfg(test)]
mod tests {
    use super::{PartReader, PartWriter};

    #[test]
    fn what_is_written_is_read() {
        let mut part = Vec::new();
        let mut writer = PartWriter(&mut part);
        writer.u64(7);
        writer.bytes(b"");
        writer.bytes(b"abc");
        writer.u64(u64::MAX);
        let mut reader = PartReader::new(&part);
        assert_eq!((reader.u64(), reader.bytes(), reader.bytes()), (7, &b""[..], &b"abc"[..]));
        assert!(!reader.is_empty());
        assert_eq!(reader.u64(), u64::MAX);
        assert!(reader.is_empty());
    }
}
