//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: transactions over the keys of one shard.
//!
//! A transaction runs in one go on the core that owns its keys; keys of different shards get
//! CROSSSLOT. WATCH remembers the version of every key (0 for an absent one) and EXEC hands the
//! versions over together with the commands, so that check and commands are one step.

use pinnace_protocol::{ArgRange, Args, resp};
use pinnace_types::{ConnId, ShardId};

use crate::command::{CommandId, CommandSpec, Flags, KeySpec, Run};
use crate::core::Core;
use crate::dispatch::{CROSSSLOT, Check};
use crate::gather::{Gather, Next, Outcome, PartRequest, SessionRef};

/// A key under WATCH.
#[derive(Debug)]
pub struct Watched {
    key: Vec<u8>,
    shard: ShardId,
    /// Its version when WATCH ran; 0: absent.
    version: u64,
}

/// Commands queued since MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    commands: Vec<Vec<Vec<u8>>>,
    /// The shard of the keys so far.
    shard: Option<ShardId>,
    crosses: bool,
    /// A command was refused while queueing: EXEC will discard everything.
    pub(crate) failed: bool,
}

impl Transaction {
    /// Number of commands queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    fn add_shard(&mut self, shard: ShardId) {
        self.crosses |= *self.shard.get_or_insert(shard) != shard;
    }
}

const TX: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::IN_MULTI);

const fn spec(
    name: &'static str,
    arity: i16,
    run: crate::command::SessionRun,
    summary: &'static str,
) -> CommandSpec {
    CommandSpec {
        name,
        arity,
        flags: TX,
        keys: KeySpec::NONE,
        run: Run::Session(run),
        part: None,
        group: "transactions",
        since: "1.2.0",
        summary,
        complexity: "O(1)",
    }
}

/// The commands of this family.
pub(crate) static SPECS: &[CommandSpec] = &[
    spec("multi", 1, multi, "Starts a transaction."),
    CommandSpec { since: "2.0.0", ..spec("discard", 1, discard, "Discards a transaction.") },
    CommandSpec {
        flags: Flags::NOSCRIPT
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::SKIP_SLOWLOG)
            .and(Flags::IN_MULTI),
        part: Some(exec_part),
        complexity: "Depends on commands in the transaction",
        ..spec("exec", 1, exec, "Executes all commands in a transaction.")
    },
    CommandSpec {
        since: "2.2.0",
        keys: KeySpec::ALL,
        part: Some(watch_part),
        complexity: "O(1) for every key.",
        ..spec("watch", -2, watch, "Monitors changes to keys to determine the execution of a transaction.")
    },
    CommandSpec {
        since: "2.2.0",
        ..spec("unwatch", 1, unwatch, "Forgets about watched keys of a transaction.")
    },
];

impl Core {
    /// Drops what MULTI and WATCH have collected (DISCARD, RESET).
    pub(crate) fn discard_multi(&mut self, conn: ConnId) {
        if let Some(session) = self.session_mut(conn) {
            session.transaction = None;
            session.watched.clear();
            session.refresh();
        }
    }

    /// Queues a command of an open transaction.
    pub(crate) fn queue_command(&mut self, conn: ConnId, id: CommandId, args: Args<'_>) -> Check {
        let spec = self.table.spec(id);
        let shards: Vec<ShardId> = match spec.run {
            Run::Session(_) => Vec::new(),
            _ => spec.keys.positions(args.len()).map(|at| self.ks.key(args.at(at)).shard()).collect(),
        };
        let commands_max = self.config.limits.multi_commands_max as usize;
        let core_count = self.core_count();
        let Some(session) = self.session_mut(conn) else { return Check::Refuse(String::new()) };
        let Some(transaction) = &mut session.transaction else { return Check::Run(id) };
        let refusal = if spec.flags.contains(Flags::NO_MULTI) {
            Some("ERR Command not allowed inside a transaction".to_owned())
        } else if core_count > 1 && matches!(spec.run, Run::Session(_)) && spec.part.is_some() {
            Some(format!("ERR '{}' asks all cores and is not allowed inside a transaction", spec.name))
        } else if transaction.len() >= commands_max {
            Some(format!("ERR a transaction is limited to {commands_max} commands (multi_commands_max)"))
        } else {
            None
        };
        if let Some(text) = refusal {
            transaction.failed = true;
            return Check::Refuse(text);
        }
        shards.into_iter().for_each(|shard| transaction.add_shard(shard));
        transaction.commands.push(args.iter().map(<[u8]>::to_vec).collect());
        Check::Queued
    }

    fn error(&mut self, out: &mut Vec<u8>, text: &str) -> Outcome {
        self.stats.count_error(text);
        resp::error(out, text);
        Outcome::Replied
    }

    fn id_of(&self, name: &str) -> CommandId {
        self.table.id(name.as_bytes()).expect("the transaction commands are in the table")
    }
}

fn multi(core: &mut Core, session: SessionRef, _: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(entry) = core.session_mut(session.conn) else { return Outcome::Replied };
    if entry.transaction.is_some() {
        return core.error(out, "ERR MULTI calls can not be nested");
    }
    entry.transaction = Some(Box::default());
    resp::simple(out, "OK");
    Outcome::Replied
}

fn discard(core: &mut Core, session: SessionRef, _: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if core.session(session.conn).is_none_or(|entry| entry.transaction.is_none()) {
        return core.error(out, "ERR DISCARD without MULTI");
    }
    core.discard_multi(session.conn);
    resp::simple(out, "OK");
    Outcome::Replied
}

fn unwatch(core: &mut Core, session: SessionRef, _: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if let Some(entry) = core.session_mut(session.conn) {
        entry.watched.clear();
    }
    resp::simple(out, "OK");
    Outcome::Replied
}

/// Asks the owners of the keys for their versions; the session's next command waits for them.
fn watch(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let watched_max = core.config.limits.multi_commands_max as usize;
    let Some(entry) = core.session(session.conn) else { return Outcome::Replied };
    if entry.transaction.is_some() {
        return core.error(out, "ERR WATCH inside MULTI is not allowed");
    }
    if entry.watched.len() + args.len() - 1 > watched_max {
        return core.error(out, "ERR too many watched keys (multi_commands_max)");
    }
    let command = core.id_of("watch");
    let mut keys = Vec::new();
    let requests = args
        .from(1)
        .iter()
        .map(|bytes| {
            let key = core.ks.key(bytes);
            keys.push((bytes.to_vec(), key.shard()));
            let to = core.config.shards.core_of(key.shard());
            PartRequest { to, command, args: vec![b"watch".to_vec(), bytes.to_vec()] }
        })
        .collect();
    Outcome::Gather(Gather {
        requests,
        then: Box::new(move |core, session, parts| Next::Reply(watched(core, session, keys, &parts))),
        barrier: true,
    })
}

fn watched(
    core: &mut Core,
    session: SessionRef,
    keys: Vec<(Vec<u8>, ShardId)>,
    parts: &[Vec<u8>],
) -> Vec<u8> {
    let mut reply = Vec::new();
    let versions: Option<Vec<u64>> =
        parts.iter().map(|part| part.as_slice().try_into().ok().map(u64::from_le_bytes)).collect();
    match (versions, core.session_mut(session.conn)) {
        (Some(versions), Some(entry)) => {
            let keys = keys.into_iter().zip(versions);
            entry.watched.extend(keys.map(|((key, shard), version)| Watched { key, shard, version }));
            resp::simple(&mut reply, "OK");
        }
        _ => {
            core.error(&mut reply, "OOM command not allowed when used memory > 'maxmemory'.");
        }
    }
    reply
}

/// The version of one key as 8 bytes; 0 if it is absent; nothing if there is no memory for one.
fn watch_part(core: &mut Core, args: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    let key = core.ks.key(args.at(1));
    if let Ok(version) = core.ks.version(&key) {
        out.extend_from_slice(&version.map_or(0, |version| version.0).to_le_bytes());
    }
}

fn exec(core: &mut Core, session: SessionRef, _: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let command = core.id_of("exec");
    let Some(entry) = core.session_mut(session.conn) else { return Outcome::Replied };
    let Some(mut transaction) = entry.transaction.take() else {
        return core.error(out, "ERR EXEC without MULTI");
    };
    let watched = std::mem::take(&mut entry.watched);
    entry.refresh();
    if transaction.failed {
        return core.error(out, "EXECABORT Transaction discarded because of previous errors.");
    }
    watched.iter().for_each(|watched| transaction.add_shard(watched.shard));
    if transaction.crosses {
        return core.error(out, CROSSSLOT);
    }
    let to = transaction.shard.map_or(core.config.core, |shard| core.config.shards.core_of(shard));
    let request = PartRequest { to, command, args: pack(&transaction, &watched) };
    Outcome::Gather(Gather {
        requests: vec![request],
        then: Box::new(|_, _, mut parts| Next::Reply(parts.pop().unwrap_or_default())),
        barrier: true,
    })
}

/// Watched keys and commands as one flat argument list: counts are decimal text in front of what
/// they count.
fn pack(transaction: &Transaction, watched: &[Watched]) -> Vec<Vec<u8>> {
    let count = |n: usize| n.to_string().into_bytes();
    let mut args = vec![b"exec".to_vec(), count(watched.len())];
    for key in watched {
        args.push(key.key.clone());
        args.push(key.version.to_le_bytes().to_vec());
    }
    args.push(count(transaction.commands.len()));
    for command in &transaction.commands {
        args.push(count(command.len()));
        args.extend(command.iter().cloned());
    }
    args
}

/// Reads what [`pack`] wrote.
struct Unpack<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Unpack<'a> {
    fn next(&mut self) -> &'a [u8] {
        self.at += 1;
        self.args.at(self.at - 1)
    }

    fn count(&mut self) -> usize {
        let text = std::str::from_utf8(self.next()).expect("counts are written by `pack`");
        text.parse().expect("counts are written by `pack`")
    }
}

fn exec_part(core: &mut Core, args: Args<'_>, resp: resp::Version, out: &mut Vec<u8>) {
    let mut unpack = Unpack { args, at: 1 };
    for _ in 0..unpack.count() {
        let key = core.ks.key(unpack.next());
        let expected = unpack.next();
        let unchanged = match core.ks.version(&key) {
            Ok(version) => version.map_or(0, |version| version.0).to_le_bytes() == *expected,
            Err(_) => false,
        };
        if !unchanged {
            resp::null_array(out, resp);
            return;
        }
    }
    let commands = unpack.count();
    resp::array(out, commands);
    let mut buffer = Vec::new();
    let mut ranges = Vec::new();
    for _ in 0..commands {
        buffer.clear();
        ranges.clear();
        for _ in 0..unpack.count() {
            let arg = unpack.next();
            ranges.push(ArgRange { start: buffer.len() as u32, len: arg.len() as u32 });
            buffer.extend_from_slice(arg);
        }
        run_queued(core, Args::new(&buffer, &ranges), resp, out);
    }
}

/// Runs one queued command on the core that owns the transaction's keys.
fn run_queued(core: &mut Core, args: Args<'_>, resp: resp::Version, out: &mut Vec<u8>) {
    let id = core.resolve_command(args).expect("it was found when it was queued");
    let spec = core.table.spec(id);
    let started_ns = (core.config.clock_ns)();
    match spec.run {
        Run::Session(run) => {
            // No such connection on this core: what these commands say does not depend on one.
            let nobody = ConnId { index: u32::MAX, generation: 0 };
            let session = SessionRef { conn: nobody, resp };
            if let Outcome::Gather(gather) = run(core, session, args, out) {
                // Several cores refuse such a command when it is queued; one core has all the parts.
                out.extend(core.gather_here(session, gather));
            }
        }
        _ => {
            let position = spec.keys.positions(args.len()).next().unwrap_or(0);
            let key = core.ks.key(args.at(position));
            core.run_keyed_into(spec, key, resp, args, out);
        }
    }
    let spent_ns = (core.config.clock_ns)().saturating_sub(started_ns);
    core.stats.count_call(id, spent_ns);
}

impl Core {
    /// The command that `args` call, a container's subcommand included.
    fn resolve_command(&mut self, args: Args<'_>) -> Option<CommandId> {
        let id = self.table.find(args.at(0))?;
        if self.table.spec(id).flags.contains(Flags::CONTAINER) {
            return crate::server::resolve(&self.table, id, args).ok();
        }
        Some(id)
    }
}
