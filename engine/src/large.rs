//! Numbers for large values, which items in the log stand for them by.

use pinnace_mem::LargeValue;

/// Large values by number.
#[derive(Debug, Default)]
pub(crate) struct LargeValues {
    values: Vec<Option<LargeValue>>,
    free: Vec<u32>,
    /// Bytes of the values that have a number.
    bytes: u64,
}

impl LargeValues {
    /// Gives a value a number.
    pub(crate) fn add(&mut self, value: LargeValue) -> u32 {
        self.bytes += value.len() as u64;
        match self.free.pop() {
            Some(id) => {
                self.values[id as usize] = Some(value);
                id
            }
            None => {
                self.values.push(Some(value));
                (self.values.len() - 1) as u32
            }
        }
    }

    /// # Panics
    /// If the number is not given to a value: items and numbers come and go together.
    #[inline]
    pub(crate) fn get(&self, id: u32) -> &LargeValue {
        self.values[id as usize].as_ref().expect("an item's number is that of a value")
    }

    /// Takes a value out; its number is free again.
    pub(crate) fn take(&mut self, id: u32) -> LargeValue {
        let value = self.values[id as usize].take().expect("an item's number is that of a value");
        self.bytes -= value.len() as u64;
        self.free.push(id);
        value
    }

    /// Takes all values out.
    pub(crate) fn take_all(&mut self) -> Vec<LargeValue> {
        let values = std::mem::take(self).values;
        values.into_iter().flatten().collect()
    }

    /// Bytes of all values.
    pub(crate) fn value_bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of values.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }
}
