//! Large values: several blocks of memory under one shared handle.

use std::rc::Rc;

use pinnace_protocol::Slices;

/// A value that is too large for the log and lies in blocks of its own. Cloning it pins it: the
/// memory stays put and is given back only after the last handle is gone.
#[derive(Clone, Debug)]
pub struct LargeValue(Rc<[u8]>);

impl LargeValue {
    /// Bytes of the value.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value has no byte; large values have many.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<&[u8]> for LargeValue {
    fn from(bytes: &[u8]) -> Self {
        Self(Rc::from(bytes))
    }
}

impl Slices for LargeValue {
    fn slice_count(&self) -> usize {
        1
    }

    fn slice(&self, _index: usize) -> &[u8] {
        &self.0
    }

    fn byte_len(&self) -> usize {
        self.len()
    }
}
