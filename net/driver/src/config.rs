//! What a driver is made of and how it is tuned.

use std::cell::Cell;
use std::sync::Arc;

use pinnace_types::Limits;

use crate::budget::ConnectionBudget;
use crate::listen::Listener;
use crate::mesh::MeshEnd;

/// Sizes and times of the ring. [`DriverTuning::DEFAULT`] suits a node; tests use tiny ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverTuning {
    /// Submission queue entries, a power of two. More submissions in one turn cost one more enter.
    pub ring_entries: u32,
    /// Provided receive buffers, a power of two up to 32,768.
    pub buffer_count: u16,
    /// Bytes of one provided buffer: the most that one [`pinnace_protocol::wire::Event::Data`] carries.
    pub buffer_bytes: u32,
    /// Connections that this core can hold: the size of the ring's file table. Bounded by the limit on
    /// open files; see [`crate::raise_file_limit`].
    pub slots: u32,
    /// Longest busy-poll after the last event before the core sleeps; 0: sleeps at once. The default is
    /// about what a sleep and its wake-up cost: more spinning trades CPU for latency.
    pub spin_us: u32,
    /// Longest sleep inside the socket ring, which is much cheaper than parking but keeps the thread
    /// from other tasks of the executor; 0: parks at once. The default is longer than a tick of the
    /// kernel, whose timer then need not be set anew for each sleep.
    pub nap_us: u32,
    /// Longest time that requests of a crowd wait for each other before a busy core wakes up for them, so
    /// that a wake-up is paid once for several; 0: never. See `gather.rs`.
    pub gather_us: u32,
    /// Longest time between two yields to other tasks of the executor while busy.
    pub yield_us: u32,
    /// The same while other tasks have [`OtherWork::Urgent`].
    pub urgent_yield_us: u32,
    /// How long a stop waits for replies to be sent.
    pub drain_ms: u32,
    /// How long a connection that is being closed may take to read its last reply and hang up.
    pub linger_ms: u32,
}

impl DriverTuning {
    /// What a node uses. 512 buffers of 16 KiB are 8 MiB a core, touched only when used; a request
    /// batch of 512 native GETs still fits one buffer.
    pub const DEFAULT: Self = Self {
        ring_entries: 1024,
        buffer_count: 512,
        buffer_bytes: 16 << 10,
        slots: 10_240,
        spin_us: 5,
        nap_us: 10_000,
        gather_us: 200,
        yield_us: 1000,
        urgent_yield_us: 40,
        drain_ms: 1000,
        linger_ms: 1000,
    };

    /// Small enough that every bound bites within a short test.
    pub const TEST_MIN: Self = Self {
        ring_entries: 8,
        buffer_count: 8,
        buffer_bytes: 1024,
        slots: 64,
        spin_us: 20,
        nap_us: 100,
        gather_us: 50,
        yield_us: 1000,
        urgent_yield_us: 40,
        drain_ms: 500,
        linger_ms: 200,
    };
}

const _: () = {
    assert!(DriverTuning::DEFAULT.buffer_count.is_power_of_two());
    assert!(DriverTuning::DEFAULT.ring_entries.is_power_of_two());
};

/// Everything one core's driver is made of.
#[derive(Debug)]
pub struct DriverConfig<M> {
    /// The core's end of the mailboxes; it also says which core this is.
    pub mesh: MeshEnd<M>,
    /// What this core accepts on: usually its share of the common port, perhaps a port of its own.
    pub listeners: Vec<Listener>,
    /// The node's connection count, shared by all cores.
    pub budget: Arc<ConnectionBudget>,
    /// Output limits and idle timeout.
    pub limits: Limits,
    /// Ring sizes and times.
    pub tuning: DriverTuning,
}

/// What may be changed while the driver runs, by the service on the same core.
#[derive(Debug)]
pub struct DriverSettings {
    /// Unsent reply bytes at which a connection is no longer read.
    pub output_pause_bytes: Cell<u64>,
    /// Whether a connection over the pause limit is not read until it has drained. A service that
    /// holds such a connection itself turns this off: many clients send a whole pipeline before they
    /// read the first reply, and would wait for ever.
    pub output_pauses_reads: Cell<bool>,
    /// Unsent reply bytes at which a connection is closed.
    pub output_close_bytes: Cell<u64>,
    /// Memory that unsent replies of this core's connections may hold together, the core's share of
    /// [`Limits::output_bytes_max`]; beyond it the connections that hold most are closed.
    pub output_bytes_max: Cell<u64>,
    /// A connection that sends nothing for this long is closed; 0: never.
    pub idle_timeout_ms: Cell<u64>,
    /// Longest busy-poll before the core sleeps.
    pub spin_us: Cell<u32>,
    /// Longest sleep inside the socket ring; to be lowered while other tasks of the executor wait for
    /// something that should not wait for them.
    pub nap_us: Cell<u32>,
    /// Longest time that requests of a crowd wait for each other.
    pub gather_us: Cell<u32>,
    /// Whether other tasks of this executor wait for I/O.
    pub other_work: Cell<OtherWork>,
}

/// What other tasks of the executor wait for: the executor notices finished I/O only when the loop
/// gives way to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherWork {
    /// Nothing that the loop knows of.
    #[default]
    None,
    /// I/O whose end may be noticed late while the core is busy: an idle core sleeps where it is
    /// woken by it, in the executor and not in the ring.
    Patient,
    /// I/O that replies wait for, such as the sync of a log: a busy core looks every
    /// [`DriverTuning::urgent_yield_us`], an idle one sleeps at once where it is woken by it.
    Urgent,
}

impl DriverSettings {
    pub(crate) fn new(limits: &Limits, tuning: &DriverTuning, core_count: usize) -> Self {
        Self {
            output_pause_bytes: Cell::new(limits.output_pause_bytes),
            output_pauses_reads: Cell::new(true),
            output_close_bytes: Cell::new(limits.output_close_bytes),
            output_bytes_max: Cell::new(limits.output_bytes_max / core_count as u64),
            idle_timeout_ms: Cell::new(limits.idle_timeout_ms),
            spin_us: Cell::new(tuning.spin_us),
            nap_us: Cell::new(tuning.nap_us),
            gather_us: Cell::new(tuning.gather_us),
            other_work: Cell::default(),
        }
    }
}
