//! Numbers for large values, which items in the log stand for them by.

use pinnace_mem::{LargeValue, Memory};

/// Large values by number.
#[derive(Debug, Default)]
pub(crate) struct LargeValues {
    values: Vec<Option<LargeValue>>,
    free: Vec<u32>,
    /// Bytes of the values that have a number.
    bytes: u64,
    /// The next value that is looked at when a segment of blocks is emptied, and how many were.
    drain_next: usize,
    drain_seen: usize,
}

/// Values that one step of emptying looks at.
const DRAIN_STEP: usize = 16;

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

    /// Empties sparse segments of blocks a little, if there are any: a block that is free can only be
    /// a block again, so without this they would lie idle when the share of large values falls.
    pub(crate) fn drain_step(&mut self, memory: &mut Memory) {
        if self.values.is_empty() || !memory.begin_drain() {
            self.drain_seen = 0;
            return;
        }
        for _ in 0..DRAIN_STEP.min(self.values.len()) {
            self.drain_next = (self.drain_next + 1) % self.values.len();
            self.drain_seen += 1;
            if let Some(value) = &mut self.values[self.drain_next] {
                memory.move_blocks(value);
            }
        }
        if self.drain_seen > self.values.len() {
            self.drain_seen = 0;
            memory.end_drain();
        }
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
