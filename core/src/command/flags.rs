//! Command flags with the names COMMAND INFO prints.

/// A set of command flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// The names of the flags in this set, as COMMAND INFO prints them.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$name, $text)),*]
                    .into_iter()
                    .filter(move |(flag, name)| !name.is_empty() && self.contains(*flag))
                    .map(|(_, name)| name)
            }
        }
    };
}

flags! {
    /// Changes keys.
    WRITE = 0, "write";
    /// Only reads keys.
    READONLY = 1, "readonly";
    /// May need memory: refused when there is none and the policy is `reject`.
    DENYOOM = 2, "denyoom";
    /// Administration.
    ADMIN = 3, "admin";
    /// Publish and subscribe.
    PUBSUB = 4, "pubsub";
    /// Not in scripts.
    NOSCRIPT = 5, "noscript";
    /// Allowed while loading.
    LOADING = 6, "loading";
    /// Allowed on a stale replica.
    STALE = 7, "stale";
    /// Not shown to MONITOR.
    SKIP_MONITOR = 8, "skip_monitor";
    /// Constant or logarithmic time; timed per batch rather than one by one.
    FAST = 9, "fast";
    /// Allowed before authentication.
    NO_AUTH = 10, "no_auth";
    /// Not inside MULTI.
    NO_MULTI = 11, "no_multi";
    /// Not shown by SLOWLOG.
    SKIP_SLOWLOG = 12, "skip_slowlog";
    /// Runs even while a transaction is being queued (EXEC, DISCARD, MULTI, WATCH, QUIT, RESET).
    IN_MULTI = 13, "";
    /// Allowed in RESP2 subscriber mode.
    SUBSCRIBER = 14, "";
    /// Keys cannot be told from a fixed pattern.
    MOVABLE_KEYS = 15, "movablekeys";
    /// Has subcommands, each a command `container|sub` of its own.
    CONTAINER = 16, "";
    /// Short enough to be timed per batch, though Redis does not call it fast.
    SHORT = 17, "";
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// This set and another.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any flag of `other` is set.
    #[inline]
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all flags of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
