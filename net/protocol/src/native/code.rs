//! The numbers of the protocol. Newtypes instead of enums: a peer may be newer than this code, and
//! an unknown number is an ordinary value that is answered, not undefined.

/// What a frame asks for or answers. A reply's opcode is the request's with the top bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opcode(pub u8);

impl Opcode {
    /// Greets: features, core map, credentials. May be left out.
    pub const HELLO: Self = Self(0x01);
    /// Answered with its own value.
    pub const PING: Self = Self(0x02);
    /// Answered once every earlier request of the connection has been answered.
    pub const NOOP: Self = Self(0x03);
    /// Reads one key.
    pub const GET: Self = Self(0x10);
    /// Reads many keys.
    pub const MULTI_GET: Self = Self(0x11);
    /// Writes one key, with conditions.
    pub const SET: Self = Self(0x12);
    /// Removes one key.
    pub const DELETE: Self = Self(0x13);
    /// Changes one key's deadline.
    pub const TOUCH: Self = Self(0x14);
    /// Adds to the integer that one key holds.
    pub const INCREMENT: Self = Self(0x15);
    /// Writes one key if it still has the version told.
    pub const CAS: Self = Self(0x16);
    /// A record: all keys of the shard were removed.
    pub const CLEAR: Self = Self(0x40);
    /// A record: what follows happened at the header's deadline or later.
    pub const CLOCK: Self = Self(0x41);
    /// A reply to no request: the connection is about to be closed, for the reason told.
    pub const CONNECTION_ERROR: Self = Self(0x80);

    const REPLY: u8 = 0x80;

    /// The opcode of the reply.
    #[inline]
    #[must_use]
    pub const fn reply(self) -> Self {
        Self(self.0 | Self::REPLY)
    }

    /// Whether it is a reply's.
    #[inline]
    #[must_use]
    pub const fn is_reply(self) -> bool {
        self.0 & Self::REPLY != 0
    }

    /// The opcode of the request that a reply answers.
    #[must_use]
    pub const fn request(self) -> Self {
        Self(self.0 & !Self::REPLY)
    }

    /// Whether it is a record of the log, of a snapshot or of a backup: never sent by clients.
    #[must_use]
    pub const fn is_record(self) -> bool {
        matches!(self.0, 0x40..=0x5f)
    }

    /// Whether it belongs to the conversation between nodes.
    #[must_use]
    pub const fn is_peer(self) -> bool {
        matches!(self.0, 0x60..=0x7f)
    }
}

/// How a request went. The high byte is its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

impl Status {
    /// Done.
    pub const OK: Self = Self(0x0000);
    /// There is no such key.
    pub const NOT_FOUND: Self = Self(0x0001);
    /// SET if absent: the key is there.
    pub const EXISTS: Self = Self(0x0002);
    /// CAS: the key is there with another version.
    pub const VERSION_MISMATCH: Self = Self(0x0003);

    /// The frame's body does not fit its opcode.
    pub const BAD_REQUEST: Self = Self(0x0100);
    /// The opcode is unknown.
    pub const UNKNOWN_OPCODE: Self = Self(0x0101);
    /// A flag, an option, an extension or the protocol version is unknown or not supported.
    pub const UNSUPPORTED: Self = Self(0x0102);
    /// Key or value is longer than the node accepts.
    pub const TOO_LARGE: Self = Self(0x0103);
    /// INCREMENT: the value is not a decimal integer of 64 bits.
    pub const NOT_A_NUMBER: Self = Self(0x0104);
    /// INCREMENT: the sum does not fit 64 bits.
    pub const OVERFLOW: Self = Self(0x0105);
    /// The key holds a type that the opcode does not work on.
    pub const WRONG_TYPE: Self = Self(0x0106);
    /// The node wants credentials first, or these are wrong.
    pub const UNAUTHENTICATED: Self = Self(0x0107);
    /// The credentials do not allow this.
    pub const FORBIDDEN: Self = Self(0x0108);

    /// No memory is left and the node's policy is not to evict.
    pub const OUT_OF_MEMORY: Self = Self(0x0200);
    /// A queue or a connection limit is full.
    pub const OVERLOADED: Self = Self(0x0201);
    /// The node is going down.
    pub const SHUTTING_DOWN: Self = Self(0x0202);

    /// The log has no room: writes are refused until its disk has space again, reads go on.
    pub const LOG_FULL: Self = Self(0x0203);

    /// Another node owns the key's slot.
    pub const MOVED: Self = Self(0x0300);
    /// The shard has no leader or no quorum now.
    pub const UNAVAILABLE: Self = Self(0x0301);

    /// A fault of the node.
    pub const INTERNAL: Self = Self(0x0400);

    /// Whether it says that the request was understood and carried out or found not to apply.
    #[inline]
    #[must_use]
    pub const fn is_outcome(self) -> bool {
        self.0 < 0x0100
    }

    /// Whether the same request may succeed later, unchanged and at the same node.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        self.0 >> 8 == 2
    }
}

/// Flags that mean the same for every opcode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Leave out the expected reply; see [`Flags::suppresses`].
    pub const QUIET: Self = Self(0x01);
    /// A read may be answered by a follower, and may then be old.
    pub const STALE_OK: Self = Self(0x02);
    /// The two bits that tell when a write counts as done. 0: as the node is configured.
    pub const DURABILITY_MASK: Self = Self(0x0c);
    /// Done when applied in memory.
    pub const DURABILITY_APPLIED: Self = Self(0x04);
    /// Done when a quorum has received it.
    pub const DURABILITY_COMMITTED: Self = Self(0x08);
    /// Done when a quorum has synced it to disk.
    pub const DURABILITY_SYNCED: Self = Self(0x0c);
    /// The reply shall carry the item's version.
    pub const RETURN_VERSION: Self = Self(0x10);
    /// An extension block follows the header.
    pub const EXTENDED: Self = Self(0x80);
    /// What is not assigned.
    pub const RESERVED: Self = Self(0x60);

    /// Whether all bits of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a request with these flags gets no reply if it ends with `status`: reads leave out
    /// NOT_FOUND, writes leave out OK.
    #[inline]
    #[must_use]
    pub const fn suppresses(self, opcode: Opcode, status: Status) -> bool {
        if !self.contains(Self::QUIET) {
            return false;
        }
        match opcode {
            Opcode::GET => status.0 == Status::NOT_FOUND.0,
            Opcode::SET | Opcode::DELETE | Opcode::TOUCH | Opcode::INCREMENT | Opcode::CAS => {
                status.0 == Status::OK.0
            }
            _ => false,
        }
    }
}

/// Options of one opcode, in a request's `status` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options(pub u16);

impl Options {
    /// None.
    pub const NONE: Self = Self(0);
    /// SET: only if the key is absent, else EXISTS.
    pub const SET_IF_ABSENT: Self = Self(0x0001);
    /// SET: only if the key is there, else NOT_FOUND.
    pub const SET_IF_PRESENT: Self = Self(0x0002);
    /// SET and CAS: the item keeps the deadline it has; the header's is for a new item.
    pub const KEEP_DEADLINE: Self = Self(0x0004);
    /// INCREMENT: an absent key is created with the initial value and the header's deadline.
    pub const INCREMENT_CREATE: Self = Self(0x0001);

    /// Whether all bits of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The options that an opcode knows; a request with another is UNSUPPORTED.
    #[must_use]
    pub const fn known(opcode: Opcode) -> Self {
        match opcode {
            Opcode::SET => Self(0x0007),
            Opcode::CAS => Self::KEEP_DEADLINE,
            Opcode::INCREMENT => Self::INCREMENT_CREATE,
            _ => Self::NONE,
        }
    }
}

/// What two peers can do beyond the fixed part, agreed on in HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Versions: CAS and [`Flags::RETURN_VERSION`].
    pub const VERSIONS: Self = Self(1 << 0);
    /// The connection is moved to the core it asks for.
    pub const CORE_PLACEMENT: Self = Self(1 << 1);
    /// [`Flags::DURABILITY_MASK`] is honoured.
    pub const DURABILITY: Self = Self(1 << 2);
    /// [`Flags::STALE_OK`] is honoured.
    pub const STALE_READS: Self = Self(1 << 3);

    /// What both sides have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
