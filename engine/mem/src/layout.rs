//! The bits of an index slot, and of the hash that orders a table.
//!
//! A slot is `tag | location + 1 | frequency (2 bits)`; 0 is empty. The location takes as many bits
//! as the memory needs, the tag what is left, so that small memories have longer tags and compare
//! fewer keys in vain. A table uses three bits of the hash more than the tag has: they can be
//! recovered from where a slot stands (see `table.rs`), and so a table grows without reading a key.

/// Hits that an item's counter can hold.
pub const FREQUENCY_MAX: u8 = 3;

const FREQUENCY_BITS: u32 = 2;

/// Longest tag: it must lie within the upper half of the slot, and scan cursors bound the hash.
const TAG_BITS_MAX: u32 = 31;

/// Hash bits that a slot's place tells.
pub(crate) const PLACE_BITS: u32 = 3;

/// How slots and hashes are cut for a memory of a certain size. All shifts are below 64, so the
/// wrapping forms used below never wrap; they only spare the check on the hottest path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    hash_bits: u32,
    /// Bits of a hash below its position.
    hash_shift: u32,
    /// Bits of a slot below the tag.
    low_bits: u32,
}

impl Layout {
    /// The layout for a memory of `bytes` bytes.
    ///
    /// # Panics
    /// If there are more than 2^38 bytes (256 GiB per core): tags would be too short to be of use.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        // An item takes several bytes, so a location + 1 is below `bytes`.
        let location_bits = 64 - (bytes - 1).leading_zeros();
        assert!(location_bits <= 38, "a core's memory is at most 256 GiB");
        let tag_bits = (64 - FREQUENCY_BITS - location_bits).min(TAG_BITS_MAX);
        let hash_bits = tag_bits + PLACE_BITS;
        Self { hash_bits, hash_shift: 64 - hash_bits, low_bits: 64 - tag_bits }
    }

    /// Bits of the hash that order a table's keys.
    #[inline(always)]
    #[must_use]
    pub fn hash_bits(&self) -> u32 {
        self.hash_bits
    }

    /// The position of a key in a table's order: the upper bits of its hash.
    #[inline(always)]
    #[must_use]
    pub fn position(&self, hash: u64) -> u64 {
        hash.wrapping_shr(self.hash_shift)
    }

    /// Bits of a slot below the tag.
    #[inline(always)]
    pub(crate) fn low_bits(&self) -> u32 {
        self.low_bits
    }

    #[inline(always)]
    pub(crate) fn tag_mask(&self) -> u64 {
        u64::MAX.wrapping_shr(self.low_bits)
    }

    /// The tag of a position, where it stands in a slot.
    #[inline(always)]
    pub(crate) fn tag_word(&self, position: u64) -> u64 {
        position.wrapping_shl(self.low_bits)
    }

    #[inline(always)]
    pub(crate) fn slot(&self, position: u64, location: u64, frequency: u8) -> u64 {
        debug_assert!(((location + 1) << FREQUENCY_BITS).wrapping_shr(self.low_bits) == 0);
        self.tag_word(position) | (location + 1) << FREQUENCY_BITS | u64::from(frequency)
    }

    /// The tag of a slot as a number.
    #[inline(always)]
    pub(crate) fn tag(&self, slot: u64) -> u64 {
        slot.wrapping_shr(self.low_bits)
    }

    #[inline(always)]
    pub(crate) fn location(&self, slot: u64) -> u64 {
        debug_assert_ne!(slot, 0);
        ((slot & !u64::MAX.wrapping_shl(self.low_bits)) >> FREQUENCY_BITS).wrapping_sub(1)
    }

    /// The same slot with another location and counter.
    #[inline(always)]
    pub(crate) fn moved(&self, slot: u64, location: u64, frequency: u8) -> u64 {
        self.tag_word(self.tag(slot)) | (location + 1) << FREQUENCY_BITS | u64::from(frequency)
    }
}

#[inline(always)]
pub(crate) fn frequency(slot: u64) -> u8 {
    (slot & u64::from(FREQUENCY_MAX)) as u8
}
