//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: transactions over the keys of one shard.
//!
//! The keyed commands of a transaction run in one go on the core that owns its keys; keys of
//! different shards get CROSSSLOT. Commands without keys (PING, PUBLISH, CLIENT ...) run on the
//! connection's core right after that, in their order. WATCH remembers the version
//! of every key, or since when it is absent, and EXEC hands that over together with the commands, so
//! that check and commands are one step.

use std::collections::VecDeque;

use pinnace_engine::{AbsenceStamp, Key};
use pinnace_protocol::{ArgRange, Args, resp};
use pinnace_types::{ConnId, ShardId};

use crate::answer::{Answer, View};
use crate::command::{CommandId, CommandSpec, Flags, KeySpec, Part, Run};
use crate::core::Core;
use crate::dispatch::{CROSSSLOT, Check};
use crate::gather::{Gather, Next, Outcome, PartRequest, SessionRef, Then};

/// A key under WATCH.
#[derive(Debug)]
pub struct Watched {
    key: Vec<u8>,
    shard: ShardId,
    /// What [`state_of`] said when WATCH ran.
    state: u64,
}

/// A command queued since MULTI.
#[derive(Debug)]
struct Queued {
    args: Vec<Vec<u8>>,
    /// It has keys, and runs on the core that owns them.
    keyed: bool,
}

/// Commands queued since MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    commands: Vec<Queued>,
    /// The shard of the keys so far.
    shard: Option<ShardId>,
    crosses: bool,
    /// A command was refused while queueing: EXEC will discard everything.
    pub(crate) failed: bool,
    /// A command of it may change keys.
    pub(crate) writes: bool,
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

const QUEUEABLE: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST);
const TX: Flags = QUEUEABLE.and(Flags::IN_MULTI);

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
        part: Some(Part::Large(exec_part)),
        complexity: "Depends on commands in the transaction",
        ..spec("exec", 1, exec, "Executes all commands in a transaction.")
    },
    CommandSpec {
        since: "2.2.0",
        keys: KeySpec::ALL,
        part: Some(Part::Plain(watch_part)),
        complexity: "O(1) for every key.",
        ..spec("watch", -2, watch, "Monitors changes to keys to determine the execution of a transaction.")
    },
    CommandSpec {
        since: "2.2.0",
        flags: QUEUEABLE,
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
        let Some(session) = self.session_mut(conn) else { return Check::Refuse(String::new()) };
        let Some(transaction) = &mut session.transaction else { return Check::Run(id) };
        let refusal = if spec.flags.contains(Flags::NO_MULTI) {
            Some("ERR Command not allowed inside a transaction".to_owned())
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
        let keyed = !matches!(spec.run, Run::Session(_));
        transaction.writes |= spec.flags.contains(Flags::WRITE);
        transaction.commands.push(Queued { args: args.iter().map(<[u8]>::to_vec).collect(), keyed });
        Check::Queued
    }

    fn error(&mut self, out: &mut Vec<u8>, text: &str) -> Outcome {
        self.stats.count_error(text);
        crate::exec::error_line(out, text);
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

/// Asks the owners of the keys for their states; the session's next command waits for them.
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
            PartRequest { to, command, args: vec![b"watch".to_vec(), bytes.to_vec()], large: None }
        })
        .collect();
    Outcome::Gather(Gather {
        requests,
        then: Then::Plain(Box::new(move |core, session, parts| {
            Next::Reply(watched(core, session, keys, &parts))
        })),
        barrier: true,
        alone: false,
        timeout_ms: 0,
    })
}

fn watched(
    core: &mut Core,
    session: SessionRef,
    keys: Vec<(Vec<u8>, ShardId)>,
    parts: &[Vec<u8>],
) -> Vec<u8> {
    let mut reply = Vec::new();
    let states: Option<Vec<u64>> =
        parts.iter().map(|part| part.as_slice().try_into().ok().map(u64::from_le_bytes)).collect();
    match (states, core.session_mut(session.conn)) {
        (Some(states), Some(entry)) => {
            let keys = keys.into_iter().zip(states);
            entry.watched.extend(keys.map(|((key, shard), state)| Watched { key, shard, state }));
            resp::simple(&mut reply, "OK");
        }
        _ => {
            core.error(&mut reply, "OOM command not allowed when used memory > 'maxmemory'.");
        }
    }
    reply
}

/// Marks the state of an absent key: versions count from 1 and never come near.
const ABSENT: u64 = 1 << 63;

/// What a key is under WATCH: its version, or since when it is known to be absent. `None` if there is
/// no memory for a version.
fn state_of(core: &mut Core, key: &Key<'_>) -> Option<u64> {
    match core.ks.version(key).ok()? {
        Some(version) => Some(version.0),
        None => Some(core.ks.see_absent(key).0 | ABSENT),
    }
}

fn is_unchanged(core: &mut Core, key: &Key<'_>, state: u64) -> bool {
    if state & ABSENT != 0 {
        return core.ks.is_still_absent(key, AbsenceStamp(state & !ABSENT));
    }
    core.ks.version(key).is_ok_and(|version| version.is_some_and(|version| version.0 == state))
}

/// The state of one key as 8 bytes; nothing if there is no memory for it.
fn watch_part(core: &mut Core, args: Args<'_>, _: resp::Version, out: &mut Vec<u8>) {
    let key = core.ks.key(args.at(1));
    if let Some(state) = state_of(core, &key) {
        out.extend_from_slice(&state.to_le_bytes());
    }
}

fn exec(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
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
    if core.server.monitors() > 0 {
        for command in &transaction.commands {
            with_args(&command.args, |args| core.monitor_feed(session, args));
        }
        // Redis shows EXEC behind the commands it runs.
        core.monitor_feed(session, args);
    }
    let to = transaction.shard.map_or(core.config.core, |shard| core.config.shards.core_of(shard));
    let request = PartRequest { to, command, args: pack(&transaction, &watched), large: None };
    let queue = transaction.commands;
    Outcome::Gather(Gather {
        requests: vec![request],
        then: Then::Large(Box::new(|core, session, mut parts| {
            assemble(core, session, queue, &parts.pop().unwrap_or_default())
        })),
        barrier: true,
        alone: false,
        timeout_ms: 0,
    })
}

/// Puts the replies of a transaction together, in the order of its commands: those of the keyed
/// ones have come from the core that owns the keys, the others run here, with their session.
fn assemble(core: &mut Core, session: SessionRef, queue: Vec<Queued>, keyed: &Answer) -> Next {
    let mut reply = Answer::default();
    if let Some(text) = keyed.view().bytes().strip_prefix(&[REFUSED]) {
        let text = format!("EXECABORT Transaction discarded because of: {}", String::from_utf8_lossy(text));
        core.error(reply.bytes(), &text);
        return Next::Large(reply);
    }
    let Some(keyed) = split_replies(keyed.view()) else {
        resp::null_array(reply.bytes(), session.resp);
        return Next::Large(reply);
    };
    resp::array(reply.bytes(), queue.len());
    Assembly { queue: queue.into(), keyed: keyed.into(), reply }.go_on(core, session)
}

/// A transaction's reply under construction.
struct Assembly {
    queue: VecDeque<Queued>,
    /// Replies of the keyed commands that are still in the queue.
    keyed: VecDeque<Answer>,
    reply: Answer,
}

impl Assembly {
    fn go_on(mut self, core: &mut Core, session: SessionRef) -> Next {
        while let Some(command) = self.queue.pop_front() {
            if command.keyed {
                let reply = self.keyed.pop_front().expect("every keyed command was answered");
                self.reply.push(reply.view());
                continue;
            }
            let outcome = with_args(&command.args, |args| run_here(core, session, args, self.reply.bytes()));
            if let Outcome::Gather(gather) = outcome {
                return Next::Gather(self.behind(gather));
            }
        }
        Next::Large(self.reply)
    }

    /// Goes on once a gathered command of the queue is answered.
    fn behind(mut self, gather: Gather) -> Gather {
        let Gather { requests, then, .. } = gather;
        let then = move |core: &mut Core, session, parts| match then.run(core, session, parts) {
            Next::Gather(gather) => Next::Gather(self.behind(gather)),
            Next::Reply(reply) => {
                self.reply.bytes().extend(reply);
                self.go_on(core, session)
            }
            Next::Large(reply) => {
                self.reply.push(reply.view());
                self.go_on(core, session)
            }
        };
        Gather { requests, then: Then::Large(Box::new(then)), barrier: true, alone: false, timeout_ms: 0 }
    }
}

/// Runs a command of a transaction that has no keys.
fn run_here(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let id = core.resolve_command(args).expect("it was found when it was queued");
    let Run::Session(run) = core.table.spec(id).run else {
        unreachable!("keyed commands ran on the core that owns their keys");
    };
    let started_ns = (core.config.clock_ns)();
    let outcome = run(core, session, args, out);
    let spent_ns = (core.config.clock_ns)().saturating_sub(started_ns);
    core.stats.count_call(id, spent_ns);
    outcome
}

/// Lays arguments out as a decoder would.
fn with_args<T>(args: &[Vec<u8>], run: impl FnOnce(Args<'_>) -> T) -> T {
    let bytes = args.concat();
    let mut start = 0;
    let ranges: Vec<ArgRange> = args
        .iter()
        .map(|arg| {
            let range = ArgRange { start, len: arg.len() as u32 };
            start += range.len;
            range
        })
        .collect();
    run(Args::new(&bytes, &ranges))
}

/// Watched keys and keyed commands as one flat argument list: counts are decimal text in front of
/// what they count.
fn pack(transaction: &Transaction, watched: &[Watched]) -> Vec<Vec<u8>> {
    let count = |n: usize| n.to_string().into_bytes();
    let mut args = vec![b"exec".to_vec(), count(watched.len())];
    for key in watched {
        args.push(key.key.clone());
        args.push(key.state.to_le_bytes().to_vec());
    }
    let keyed = || transaction.commands.iter().filter(|command| command.keyed);
    args.push(count(keyed().count()));
    for command in keyed() {
        args.push(count(command.args.len()));
        args.extend(command.args.iter().cloned());
    }
    args
}

/// In front of every reply of [`exec_part`]: its bytes and its large values, 8 bytes each.
const REPLY_HEADER_BYTES: usize = 16;

fn reply_header(bytes: usize, values: usize) -> [u8; REPLY_HEADER_BYTES] {
    (bytes as u128 | (values as u128) << 64).to_le_bytes()
}
/// Stands in front of why the commands were not run.
const REFUSED: u8 = 2;

/// Splits what [`exec_part`] wrote; `None` if a watched key had changed.
fn split_replies(part: View<'_>) -> Option<Vec<Answer>> {
    if part.bytes().first() != Some(&0) {
        return None;
    }
    let mut rest = part.split_at(1, 0).1;
    let mut replies = Vec::new();
    while let Some((header, _)) = rest.bytes().split_first_chunk::<REPLY_HEADER_BYTES>() {
        let header = u128::from_le_bytes(*header);
        let behind = rest.split_at(REPLY_HEADER_BYTES, 0).1;
        let (reply, behind) = behind.split_at(header as u64 as usize, (header >> 64) as usize);
        let mut answer = Answer::default();
        answer.push(reply);
        replies.push(answer);
        rest = behind;
    }
    Some(replies)
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

/// Checks the watched keys and runs the keyed commands. Writes 1 if a key had changed, [`REFUSED`] and an
/// error text if they must not run, else 0 and every reply behind its [`reply_header`].
fn exec_part(core: &mut Core, args: Args<'_>, resp: resp::Version, out: &mut Answer) {
    let mut unpack = Unpack { args, at: 1 };
    let mut changed = false;
    for _ in 0..unpack.count() {
        let key = core.ks.key(unpack.next());
        let state = unpack.next().try_into().expect("states are written by `pack`");
        changed |= !is_unchanged(core, &key, u64::from_le_bytes(state));
    }
    if changed {
        return out.bytes().push(1);
    }
    let commands: Vec<Vec<Vec<u8>>> =
        (0..unpack.count()).map(|_| (0..unpack.count()).map(|_| unpack.next().to_vec()).collect()).collect();
    let bytes: usize = commands.iter().flatten().map(Vec::len).sum();
    if core.log_refuses_writes() && commands.iter().any(|command| core.writes(command)) {
        out.bytes().push(REFUSED);
        out.bytes().extend_from_slice(core.log_full_text().as_bytes());
        return;
    }
    out.bytes().push(0);
    core.in_one_commit(bytes as u64, |core| {
        for command in commands {
            let mut reply = Answer::default();
            with_args(&command, |args| run_queued(core, args, resp, &mut reply));
            let view = reply.view();
            out.bytes().extend_from_slice(&reply_header(view.bytes().len(), view.value_count()));
            out.push(view);
        }
    });
}

/// Runs one keyed command on the core that owns the transaction's keys.
fn run_queued(core: &mut Core, args: Args<'_>, resp: resp::Version, out: &mut Answer) {
    let id = core.resolve_command(args).expect("it was found when it was queued");
    let spec = core.table.spec(id);
    let started_ns = (core.config.clock_ns)();
    let position = spec.keys.positions(args.len()).next().unwrap_or(0);
    let key = core.ks.key(args.at(position));
    core.run_keyed_into(spec, key, resp, args, out);
    let spent_ns = (core.config.clock_ns)().saturating_sub(started_ns);
    core.stats.count_call(id, spent_ns);
}

impl Core {
    /// Whether a command may change keys.
    fn writes(&mut self, command: &[Vec<u8>]) -> bool {
        let id = with_args(command, |args| self.resolve_command(args));
        id.is_some_and(|id| self.table.spec(id).flags.contains(Flags::WRITE))
    }

    /// All effects of what runs within are found after a crash, or none.
    fn in_one_commit(&mut self, payload_bytes: u64, run: impl FnOnce(&mut Self)) {
        if let Some(log) = &self.log {
            log.borrow_mut().begin_atomic(payload_bytes);
        }
        run(self);
        if let Some(log) = &self.log {
            log.borrow_mut().end_atomic();
        }
    }

    /// The command that `args` call, a container's subcommand included.
    fn resolve_command(&mut self, args: Args<'_>) -> Option<CommandId> {
        let id = self.table.find(args.at(0))?;
        if self.table.spec(id).flags.contains(Flags::CONTAINER) {
            return crate::server::resolve(&self.table, id, args).ok();
        }
        Some(id)
    }
}
