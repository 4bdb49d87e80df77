//! Command lookup by name, in any case.

use super::CommandSpec;

/// A command's position in the table; the same on every core of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandId(u16);

/// All commands, found by an open-addressed hash of the name.
pub struct CommandTable {
    specs: Vec<&'static CommandSpec>,
    /// Indexes into `specs`, [`EMPTY`] where there is none; a power of two long and at most half full.
    buckets: Vec<u16>,
    /// The last name found. Pipelines repeat one command, so one comparison usually suffices.
    last: (CachedName, CommandId),
}

const EMPTY: u16 = u16::MAX;
const NAME_BYTES_MAX: usize = 24;

/// A name as it was sent, up to eight bytes; longer names are not cached.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CachedName {
    bytes: u64,
    len: usize,
}

impl CachedName {
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        let mut bytes = [0u8; 8];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { bytes: u64::from_le_bytes(bytes), len: name.len() })
    }
}

impl CommandTable {
    /// Builds the table from families of commands.
    ///
    /// # Panics
    /// If two commands share a name: that is a mistake in the source.
    #[must_use]
    pub fn new(families: &[&'static [CommandSpec]]) -> Self {
        let specs: Vec<&'static CommandSpec> = families.iter().flat_map(|family| family.iter()).collect();
        let mut buckets = vec![EMPTY; (specs.len() * 2).next_power_of_two()];
        for (index, spec) in specs.iter().enumerate() {
            assert!(spec.name.len() <= NAME_BYTES_MAX, "{} is too long a name", spec.name);
            let mut at = hash(spec.name.as_bytes()) & (buckets.len() - 1);
            while buckets[at] != EMPTY {
                assert!(specs[usize::from(buckets[at])].name != spec.name, "{} stands twice", spec.name);
                at = (at + 1) & (buckets.len() - 1);
            }
            buckets[at] = index as u16;
        }
        Self { specs, buckets, last: (CachedName { bytes: 0, len: usize::MAX }, CommandId(0)) }
    }

    /// Finds a command by the name a client sent.
    #[inline]
    pub fn find(&mut self, name: &[u8]) -> Option<CommandId> {
        let cached = CachedName::of(name);
        if cached == Some(self.last.0) {
            return Some(self.last.1);
        }
        let id = self.find_slow(name)?;
        if let Some(cached) = cached {
            self.last = (cached, id);
        }
        Some(id)
    }

    fn find_slow(&self, name: &[u8]) -> Option<CommandId> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut at = hash(name) & (self.buckets.len() - 1);
        while self.buckets[at] != EMPTY {
            let index = self.buckets[at];
            if self.specs[usize::from(index)].name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(CommandId(index));
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
        None
    }

    /// Finds a command's id without touching the cache of the last name.
    #[must_use]
    pub fn id(&self, name: &[u8]) -> Option<CommandId> {
        self.find_slow(name)
    }

    /// Finds a command without touching the cache of the last name.
    #[must_use]
    pub fn lookup(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        self.find_slow(name).map(|id| self.spec(id))
    }

    /// A command.
    #[inline]
    #[must_use]
    pub fn spec(&self, id: CommandId) -> &'static CommandSpec {
        self.specs[usize::from(id.0)]
    }

    /// All commands with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (CommandId, &'static CommandSpec)> + '_ {
        self.specs.iter().enumerate().map(|(index, spec)| (CommandId(index as u16), *spec))
    }

    /// The number of commands.
    #[must_use]
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }
}

impl CommandId {
    /// The command as an index into per-command arrays.
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// FNV-1a over the lower-case name (Fowler, Noll, Vo): the names are ours, so no seed is needed.
fn hash(name: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in name {
        hash = (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash ^ (hash >> 32)) as usize
}
