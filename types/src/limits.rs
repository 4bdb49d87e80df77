//! Every bound of a node in one value: what a client may send, hold and cost.

/// The limits of a node. [`Limits::DEFAULT`] is what a node starts with; [`Limits::TEST_MIN`] makes
/// every queue fill and every bound bite within a short test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the whole node; one more gets an error and is closed.
    pub connections_max: u32,
    /// Longest key, at most 65,535 (the key length is 16 bits in the frame and in the item header).
    pub key_bytes_max: u32,
    /// Longest value. At most 512 MiB, as in Redis.
    pub value_bytes_max: u64,
    /// Arguments of one RESP command.
    pub args_max: u32,
    /// Bytes of one inline command line or of one RESP header line (Redis: 64 KiB).
    pub line_bytes_max: u32,
    /// Bytes of one request, all arguments together.
    pub request_bytes_max: u64,
    /// Received but not yet complete requests of one core's connections, together.
    pub input_bytes_max: u64,
    /// Unsent reply bytes at which a connection is no longer read.
    pub output_pause_bytes: u64,
    /// Unsent reply bytes at which a connection is closed.
    pub output_close_bytes: u64,
    /// Unsent bytes at which a subscriber or monitor that does not keep up is closed (Redis: 32 MiB).
    pub push_close_bytes: u64,
    /// Unsent reply bytes of all connections of the node; beyond it the connection with most is
    /// closed. Values that are sent from the engine's memory do not count.
    pub output_bytes_max: u64,
    /// Reply bytes of one connection that wait for the log to be synced; then it is not read.
    pub held_pause_bytes: u64,
    /// Such bytes of all connections of a core; then none that has some is read.
    pub held_bytes_max: u64,
    /// A connection that sends nothing for this long is closed; 0: never.
    pub idle_timeout_ms: u64,
    /// Requests of one connection that wait for other cores.
    pub forwarded_max: u32,
    /// Channels and patterns one connection may subscribe to.
    pub subscriptions_max: u32,
    /// Commands queued in one MULTI.
    pub multi_commands_max: u32,
}

impl Limits {
    /// The defaults of a node.
    pub const DEFAULT: Self = Self {
        connections_max: 10_000,
        key_bytes_max: 65_535,
        value_bytes_max: 512 << 20,
        args_max: 1 << 20,
        line_bytes_max: 64 << 10,
        request_bytes_max: 1 << 30,
        input_bytes_max: 1 << 30,
        output_pause_bytes: 1 << 20,
        output_close_bytes: 256 << 20,
        push_close_bytes: 32 << 20,
        output_bytes_max: 1 << 30,
        held_pause_bytes: 4 << 20,
        held_bytes_max: 256 << 20,
        idle_timeout_ms: 0,
        forwarded_max: 4096,
        subscriptions_max: 65_536,
        multi_commands_max: 65_536,
    };

    /// Small enough that a test of a few hundred operations meets every bound.
    pub const TEST_MIN: Self = Self {
        connections_max: 8,
        key_bytes_max: 64,
        value_bytes_max: 64 << 10,
        args_max: 64,
        line_bytes_max: 256,
        request_bytes_max: 128 << 10,
        input_bytes_max: 256 << 10,
        output_pause_bytes: 4 << 10,
        output_close_bytes: 512 << 10,
        push_close_bytes: 256 << 10,
        output_bytes_max: 1 << 20,
        held_pause_bytes: 4 << 10,
        held_bytes_max: 64 << 10,
        idle_timeout_ms: 0,
        forwarded_max: 8,
        subscriptions_max: 4,
        multi_commands_max: 8,
    };
}

const _: () = {
    assert!(Limits::DEFAULT.key_bytes_max <= u16::MAX as u32);
    assert!(Limits::DEFAULT.value_bytes_max <= 512 << 20);
    assert!(Limits::DEFAULT.output_pause_bytes < Limits::DEFAULT.output_close_bytes);
    assert!(Limits::DEFAULT.value_bytes_max <= Limits::DEFAULT.request_bytes_max);
    assert!(Limits::DEFAULT.value_bytes_max <= Limits::DEFAULT.input_bytes_max);
};
