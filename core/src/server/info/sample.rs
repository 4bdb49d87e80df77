//! What a core counts, in a form that can be sent and added up.

use std::collections::{BTreeMap, BTreeSet};

use pinnace_engine::MemoryUse;

use super::super::parts::{PartReader, PartWriter};
use super::super::pubsub::Kind;
use super::rates::driver_counters;
use crate::core::Core;
use crate::stats::{CommandStats, LATENCY_BUCKETS};

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// Counters that are added up over the cores.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(in super::super) struct Counters {
            $(pub(in super::super) $name: u64,)*
        }

        impl Counters {
            fn each(&mut self, mut visit: impl FnMut(&mut u64)) {
                $(visit(&mut self.$name);)*
            }
        }
    };
}

counters! {
    connections, pubsub_clients, watching_clients, watched_keys, query_buffer_bytes,
    memory_used, memory_peak, budget, index, ghost, metadata, segments, live, dead, free, large,
    keys, deadlines,
    hits, misses, sets, deletes, expired, evicted, ghost_hits, promoted, cleaned_bytes, out_of_memory,
    connections_received, connections_rejected, connections_moved, protocol_errors, input_limit_closes,
    commands, errors, forwarded_in, forwarded_out, handovers,
    input_bytes, output_bytes, turns, parks, busy_ns,
    commands_per_second, input_bytes_per_second, output_bytes_per_second,
    changes_since_snapshot, snapshot_buffer_bytes,
    log_effects, log_unsynced, log_full,
}

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct CommandSample {
    pub(super) calls: u64,
    pub(super) duration_ns: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    pub(super) latency: [u64; LATENCY_BUCKETS],
}

/// One core's counters, or all cores' together.
#[derive(Debug, Default)]
pub(in super::super) struct Sample {
    pub(in super::super) total: Counters,
    /// The counters of each core, in order; of one core for a part.
    pub(super) cores: Vec<Counters>,
    /// By index in the command table.
    pub(super) commands: BTreeMap<u64, CommandSample>,
    pub(super) errors: BTreeMap<String, u64>,
    /// Hashes of the names somebody is subscribed to: they are counted once for all cores.
    pub(super) names: [BTreeSet<u64>; 3],
}

/// What the engine holds of its budget.
pub(in super::super) fn memory_in_use(memory: &MemoryUse) -> u64 {
    memory.index + memory.ghost + memory.metadata + memory.segments
}

const KINDS: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

impl Sample {
    /// What this core counts.
    pub(in super::super) fn of(core: &Core) -> Self {
        let commands = core.table.iter().filter_map(|(id, _)| {
            let stats = &core.stats.commands[id.index()];
            let counts = stats.calls + stats.rejected + stats.failed > 0;
            counts.then(|| (id.index() as u64, CommandSample::of(stats)))
        });
        let names = KINDS.map(|kind| {
            let names = core.server.pubsub.index(kind).keys();
            names.map(|name| core.ks.key(name).hash().0).collect()
        });
        Self {
            total: counters_of(core),
            cores: Vec::new(),
            commands: commands.collect(),
            errors: core.stats.errors.clone(),
            names,
        }
    }

    /// The form in which it travels.
    pub(super) fn encode(mut self, latencies: bool, out: &mut Vec<u8>) {
        let mut writer = PartWriter(out);
        self.total.each(|counter| writer.u64(*counter));
        writer.u64(self.commands.len() as u64);
        for (index, command) in &self.commands {
            let CommandSample { calls, duration_ns, rejected, failed, latency } = command;
            [*index, *calls, *duration_ns, *rejected, *failed].iter().for_each(|value| writer.u64(*value));
            writer.u64(u64::from(latencies));
            if latencies {
                latency.iter().for_each(|bucket| writer.u64(*bucket));
            }
        }
        writer.u64(self.errors.len() as u64);
        for (code, count) in &self.errors {
            writer.bytes(code.as_bytes());
            writer.u64(*count);
        }
        for names in &self.names {
            writer.u64(names.len() as u64);
            names.iter().for_each(|name| writer.u64(*name));
        }
    }

    /// Adds up the parts of all cores.
    pub(in super::super) fn join(parts: &[Vec<u8>]) -> Self {
        let mut sample = Self::default();
        parts.iter().for_each(|part| sample.add(&mut PartReader::new(part)));
        sample
    }

    fn add(&mut self, reader: &mut PartReader<'_>) {
        let mut own = Counters::default();
        own.each(|counter| *counter = reader.u64());
        self.cores.push(own);
        let mut own_values = Vec::new();
        own.each(|counter| own_values.push(*counter));
        let mut values = own_values.into_iter();
        self.total.each(|sum| *sum = sum.saturating_add(values.next().unwrap_or(0)));
        for _ in 0..reader.u64() {
            self.commands.entry(reader.u64()).or_insert_with(CommandSample::new).add(reader);
        }
        for _ in 0..reader.u64() {
            let code = String::from_utf8_lossy(reader.bytes()).into_owned();
            *self.errors.entry(code).or_default() += reader.u64();
        }
        for names in &mut self.names {
            (0..reader.u64()).for_each(|_| _ = names.insert(reader.u64()));
        }
    }
}

impl CommandSample {
    fn new() -> Self {
        Self { calls: 0, duration_ns: 0, rejected: 0, failed: 0, latency: [0; LATENCY_BUCKETS] }
    }

    fn of(stats: &CommandStats) -> Self {
        Self {
            calls: stats.calls,
            duration_ns: stats.duration_ns,
            rejected: stats.rejected,
            failed: stats.failed,
            latency: stats.latency.buckets,
        }
    }

    fn add(&mut self, reader: &mut PartReader<'_>) {
        for sum in [&mut self.calls, &mut self.duration_ns, &mut self.rejected, &mut self.failed] {
            *sum = sum.saturating_add(reader.u64());
        }
        if reader.u64() == 1 {
            self.latency.iter_mut().for_each(|sum| *sum = sum.saturating_add(reader.u64()));
        }
    }
}

fn counters_of(core: &Core) -> Counters {
    let (engine, memory, driver) = (core.ks.stats(), core.ks.memory(), driver_counters(core));
    let per_second = core.server.rates.per_second();
    let used = memory_in_use(&memory);
    let [log_effects, log_unsynced, log_full] = core.log_counters();
    let mut counters = Counters {
        memory_used: used,
        memory_peak: core.server.rates.memory_peak().max(used),
        budget: memory.budget,
        index: memory.index,
        ghost: memory.ghost,
        metadata: memory.metadata,
        segments: memory.segments,
        live: memory.live,
        dead: memory.dead,
        free: memory.free,
        large: memory.large,
        keys: core.ks.len(),
        deadlines: core.ks.deadlines_len(),
        hits: engine.hits,
        misses: engine.misses,
        sets: engine.sets,
        deletes: engine.deletes,
        expired: engine.expired,
        evicted: engine.evicted,
        ghost_hits: engine.ghost_hits,
        promoted: engine.promoted,
        cleaned_bytes: engine.cleaned_bytes,
        out_of_memory: engine.out_of_memory,
        connections_received: core.stats.connections_received,
        connections_rejected: driver.connections_rejected,
        connections_moved: core.stats.connections_moved,
        protocol_errors: core.stats.protocol_errors,
        input_limit_closes: core.stats.input_limit_closes,
        commands: core.stats.commands_processed,
        errors: core.stats.error_replies,
        forwarded_in: core.stats.commands_forwarded_in,
        forwarded_out: core.stats.commands_forwarded_out,
        handovers: core.stats.handovers,
        log_effects,
        log_unsynced,
        log_full,
        input_bytes: driver.input_bytes,
        output_bytes: driver.output_bytes,
        turns: driver.turns,
        parks: driver.parks,
        busy_ns: driver.busy_ns,
        commands_per_second: per_second.commands,
        input_bytes_per_second: per_second.input_bytes,
        output_bytes_per_second: per_second.output_bytes,
        changes_since_snapshot: core.changes_since_snapshot(),
        snapshot_buffer_bytes: core.snapshot_buffer_bytes(),
        ..Counters::default()
    };
    count_sessions(core, &mut counters);
    counters
}

fn count_sessions(core: &Core, counters: &mut Counters) {
    for (_, session) in core.sessions() {
        counters.connections += 1;
        counters.pubsub_clients += u64::from(session.subscriptions.count() > 0);
        counters.watching_clients += u64::from(session.watch_len() > 0);
        counters.watched_keys += session.watch_len() as u64;
        counters.query_buffer_bytes += session.query_buffer_len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandSample, Sample};

    #[test]
    fn parts_add_up() {
        let part = |keys: u64, calls: u64| {
            let mut sample = Sample::default();
            sample.total.keys = keys;
            let mut command = CommandSample::new();
            command.calls = calls;
            command.latency[3] = calls;
            sample.commands.insert(7, command);
            sample.errors.insert("ERR".to_owned(), 1);
            sample.names[0].extend([1, keys]);
            let mut bytes = Vec::new();
            sample.encode(true, &mut bytes);
            bytes
        };
        let joined = Sample::join(&[part(2, 10), part(3, 20)]);
        assert_eq!((joined.total.keys, joined.cores.len()), (5, 2));
        assert_eq!((joined.commands[&7].calls, joined.commands[&7].latency[3]), (30, 30));
        assert_eq!((joined.errors["ERR"], joined.names[0].len()), (2, 3));
    }
}
