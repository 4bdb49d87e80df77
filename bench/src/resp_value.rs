//! A whole RESP2 value, for greetings: nested, copied, slow and simple.

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RespValue {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<RespValue>),
}

/// What the front of a buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A value and the bytes it takes.
    Whole(RespValue, usize),
    /// The start of one.
    Incomplete,
    /// Something else.
    Malformed,
}

/// Greetings are not nested deeper.
const DEPTH_MAX: usize = 8;

impl RespValue {
    pub(crate) fn read(bytes: &[u8]) -> Reading {
        let mut reader = Reader { bytes, at: 0 };
        match reader.value(DEPTH_MAX) {
            Ok(value) => Reading::Whole(value, reader.at),
            Err(stop) => stop,
        }
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<RespValue, Reading> {
        let Some(&kind) = self.bytes.get(self.at) else { return Err(Reading::Incomplete) };
        if !b"+-:$*".contains(&kind) || depth == 0 {
            return Err(Reading::Malformed);
        }
        let rest = &self.bytes[self.at + 1..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or(Reading::Incomplete)?;
        let text = std::str::from_utf8(&rest[..end]).map_err(|_| Reading::Malformed)?.to_owned();
        self.at += end + 3;
        let number = || text.parse::<i64>().map_err(|_| Reading::Malformed);
        Ok(match kind {
            b'+' => RespValue::Simple(text),
            b'-' => RespValue::Error(text),
            b':' => RespValue::Integer(number()?),
            b'$' => match usize::try_from(number()?) {
                Ok(len) => RespValue::Bulk(self.take(len)?),
                Err(_) => RespValue::Null,
            },
            _ => match usize::try_from(number()?) {
                Ok(len) => {
                    RespValue::Array((0..len).map(|_| self.value(depth - 1)).collect::<Result<_, _>>()?)
                }
                Err(_) => RespValue::Null,
            },
        })
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Reading> {
        let rest = &self.bytes[self.at..];
        if rest.len() < len + 2 {
            return Err(Reading::Incomplete);
        }
        self.at += len + 2;
        Ok(rest[..len].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::{Reading, RespValue};

    #[test]
    fn values_are_read_whole_or_not_at_all() {
        let bytes = b"*3\r\n:-5\r\n*1\r\n$3\r\na\r\n\r\n$-1\r\n";
        for end in 0..bytes.len() {
            assert_eq!(RespValue::read(&bytes[..end]), Reading::Incomplete);
        }
        let inner = RespValue::Array(vec![RespValue::Bulk(b"a\r\n".to_vec())]);
        let whole = RespValue::Array(vec![RespValue::Integer(-5), inner, RespValue::Null]);
        assert_eq!(RespValue::read(bytes), Reading::Whole(whole, bytes.len()));
        assert_eq!(RespValue::read(b"HTTP/1.1"), Reading::Malformed);
        assert_eq!(RespValue::read(b":x\r\n"), Reading::Malformed);
    }
}
