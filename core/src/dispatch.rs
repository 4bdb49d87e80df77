//! Runs one RESP command for a session: the short way for what is plain, the checks for the rest.

use pinnace_protocol::Args;
use pinnace_protocol::native::{self, Opcode};
use pinnace_protocol::resp::{self, RespDecoder};
use pinnace_types::ConnId;

use crate::batch::{Op, Route, Timing};
use crate::command::{CommandId, CommandSpec, Flags, Run};
use crate::core::{Core, CoreWire, PauseMode, append_out};
use crate::durability::Logged;
use crate::exec::{Exec, KeyedRun, error_line, quoted};
use crate::gather::{Outcome, SessionRef};
use crate::mail::{Ask, ReturnTo};
use crate::server;
use crate::session::{Hold, Protocol, ReplyMode};

/// Longest part of an unknown command's name and arguments that its error repeats, as in Redis.
const UNKNOWN_ECHO_BYTES: usize = 128;

/// Commands that are timed per batch and may take the short way.
pub(crate) const BRIEF: Flags = Flags::FAST.and(Flags::SHORT);

impl Core {
    /// Runs a command of the table.
    #[inline]
    pub(crate) fn run_command<W: CoreWire>(
        &mut self,
        op: &Op,
        id: CommandId,
        args: Args<'_>,
        wire: &mut W,
    ) -> Timing {
        let spec = self.table.spec(id);
        let in_the_way = W::GATED && self.log_is_in_the_way(op, spec);
        let Some(session) = self.sessions.get_mut(op.conn) else { return Timing::None };
        let plain = !session.special && self.pause.is_none() && self.server.monitors() == 0;
        if !plain || in_the_way || !spec.flags.intersects(BRIEF) || !spec.accepts(args.len()) {
            return self.run_checked(op, id, args, wire);
        }
        session.commands += 1;
        session.last_command = Some(id);
        match (spec.run, op.route) {
            (Run::Keyed(run) | Run::KeyedSplit(run, _) | Run::KeyedOr(run, _), Route::Local) => {
                self.run_local(op, id, spec, run, args, wire);
                Timing::Batch
            }
            (Run::Keyed(_) | Run::KeyedSplit(..) | Run::KeyedOr(..), Route::Remote(to)) => {
                self.forward_command(op, to, id, args);
                Timing::None
            }
            _ => self.run_any(op, id, spec, args, wire),
        }
    }

    /// A keyed command on this core whose reply nothing stands in the way of.
    #[inline]
    fn run_local<W: CoreWire>(
        &mut self,
        op: &Op,
        id: CommandId,
        spec: &'static CommandSpec,
        run: KeyedRun,
        args: Args<'_>,
        wire: &mut W,
    ) {
        let Some(session) = self.sessions.get_mut(op.conn) else { return };
        let direct = session.replies.is_empty();
        let Some(wire_out) = wire.out(op.conn) else { return };
        let out = if direct { wire_out } else { &mut self.side_out };
        let log = if W::GATED { self.log.as_deref() } else { None };
        let logged = log.map(|log| Logged::begin(log, spec, args));
        let mut exec = Exec {
            ks: &mut self.ks,
            out,
            resp: session.resp,
            first_key: op.key(args.at(spec.keys.first as usize)),
            scratch: &mut self.scratch,
            prng: &mut self.prng,
            limits: &self.config.limits,
            stats: &mut self.stats,
        };
        let before = exec.out.byte_len();
        let errors = exec.stats.error_replies;
        run(&mut exec, args);
        if exec.stats.error_replies != errors {
            exec.stats.commands[id.index()].failed += 1;
        }
        let out_bytes = exec.out.byte_len();
        if direct {
            session.output_bytes += (out_bytes - before) as u64;
            if out_bytes as u64 > self.config.limits.output_pause_bytes {
                session.hold(Hold::Output);
            }
        }
        if let (Some(gate), Some(logged)) = (wire.gate(), logged) {
            gate.wait(op.conn, logged.end(op.hash));
        }
        if !direct {
            self.flush_side_out(op.conn, wire);
        }
    }

    /// The long way: everything that may stand between a command and its running.
    fn run_checked<W: CoreWire>(&mut self, op: &Op, id: CommandId, args: Args<'_>, wire: &mut W) -> Timing {
        let Some(session) = self.sessions.get_mut(op.conn) else { return Timing::None };
        if session.closing {
            return Timing::None;
        }
        if session.reply_mode == ReplyMode::SkipNext {
            session.reply_mode = ReplyMode::Skip;
        }
        let timing = match self.check(op, id, args) {
            Check::Run(id) => self.run_timed(op, id, args, wire),
            Check::Refuse(text) => {
                self.reply_error(op.conn, &text, wire);
                Timing::None
            }
            Check::Queued => {
                self.side_out.bytes().extend_from_slice(b"+QUEUED\r\n");
                self.flush_side_out(op.conn, wire);
                Timing::None
            }
            Check::Wait => Timing::Replay,
        };
        if let Some(session) = self.sessions.get_mut(op.conn)
            && session.reply_mode == ReplyMode::Skip
        {
            // What runs later is not answered then.
            let is_over = timing != Timing::Replay;
            session.reply_mode = if is_over { ReplyMode::On } else { ReplyMode::SkipNext };
            session.refresh();
        }
        timing
    }

    fn check(&mut self, op: &Op, id: CommandId, args: Args<'_>) -> Check {
        let mut id = id;
        if self.table.spec(id).flags.contains(Flags::CONTAINER) {
            match server::resolve(&self.table, id, args) {
                Ok(resolved) => id = resolved,
                Err(text) => return self.refuse_in_transaction(op.conn, text),
            }
        }
        let spec = self.table.spec(id);
        if matches!(spec.run, Run::Internal) || (args.at(0).contains(&b'|')) {
            return self.refuse_in_transaction(op.conn, unknown_command(args));
        }
        if !spec.accepts(args.len()) {
            self.stats.commands[id.index()].rejected += 1;
            if spec.name == "exec" {
                self.discard_multi(op.conn);
                let text = "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command";
                return Check::Refuse(text.to_owned());
            }
            let text = format!("ERR wrong number of arguments for '{}' command", spec.name);
            return self.refuse_in_transaction(op.conn, text);
        }
        let Some(session) = self.sessions.get_mut(op.conn) else { return Check::Refuse(String::new()) };
        let subscriber = session.resp == resp::Version::V2 && session.subscriptions.count() > 0;
        if subscriber && !spec.flags.contains(Flags::SUBSCRIBER) {
            return Check::Refuse(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
                 allowed in this context",
                spec.name
            ));
        }
        if let Some((mode, _)) = self.pause
            && pauses(mode, spec)
            && (session.transaction.is_none() || spec.flags.contains(Flags::IN_MULTI))
        {
            // Run again from its first byte once the pause ends.
            session.hold(Hold::Pause);
            self.waiting_for_time.push(op.conn);
            return Check::Wait;
        }
        let queues = session.transaction.is_some() && !spec.flags.contains(Flags::IN_MULTI);
        let writes = spec.flags.contains(Flags::WRITE);
        let executes =
            spec.name == "exec" && session.transaction.as_ref().is_some_and(|transaction| transaction.writes);
        let is_here = !matches!(op.route, Route::Remote(_));
        if writes && is_here && self.log_refuses_writes() {
            self.stats.commands[id.index()].rejected += 1;
            let text = self.log_full_text();
            return self.refuse_in_transaction(op.conn, text);
        }
        if queues {
            return self.queue_command(op.conn, id, args);
        }
        if (writes || executes) && self.is_a_log_late(op.route) {
            self.wait_for_segment(op.conn);
            return Check::Wait;
        }
        Check::Run(id)
    }

    /// Whether a command may write and a log has no room for it.
    #[inline]
    fn log_is_in_the_way(&self, op: &Op, spec: &CommandSpec) -> bool {
        let is_here = !matches!(op.route, Route::Remote(_));
        spec.flags.contains(Flags::WRITE)
            && ((is_here && !self.admits_writes()) || self.is_another_log_late(op.route))
    }

    fn refuse_in_transaction(&mut self, conn: ConnId, text: String) -> Check {
        if let Some(session) = self.sessions.get_mut(conn)
            && let Some(transaction) = &mut session.transaction
        {
            transaction.failed = true;
        }
        Check::Refuse(text)
    }

    /// Runs a command and, unless it is one of the short ones, times it.
    fn run_timed<W: CoreWire>(&mut self, op: &Op, id: CommandId, args: Args<'_>, wire: &mut W) -> Timing {
        let spec = self.table.spec(id);
        let Some(session) = self.sessions.get_mut(op.conn) else { return Timing::None };
        session.commands += 1;
        session.last_command = Some(id);
        let session_ref = SessionRef { conn: op.conn, resp: session.resp };
        // EXEC shows itself, behind the commands it runs.
        if self.server.monitors() > 0 && spec.name != "exec" {
            self.monitor_feed(session_ref, args);
        }
        let errors = self.stats.error_replies;
        let started_ns = (self.config.clock_ns)();
        self.run_any(op, id, spec, args, wire);
        if self.stats.error_replies != errors {
            self.stats.commands[id.index()].failed += 1;
        }
        let duration_ns = (self.config.clock_ns)().saturating_sub(started_ns);
        if !spec.flags.intersects(BRIEF) || id.index() != op_command_index(op) {
            self.stats.count_call(id, duration_ns);
            if !spec.flags.contains(Flags::SKIP_SLOWLOG) {
                self.slow_command(session_ref, args, duration_ns / 1000);
            }
            return Timing::None;
        }
        Timing::Batch
    }

    /// Runs a command wherever it has to run. Its checks have been made.
    fn run_any<W: CoreWire>(
        &mut self,
        op: &Op,
        id: CommandId,
        spec: &'static CommandSpec,
        args: Args<'_>,
        wire: &mut W,
    ) -> Timing {
        let Some(session) = self.sessions.get(op.conn) else { return Timing::None };
        let session_ref = SessionRef { conn: op.conn, resp: session.resp };
        match spec.run {
            Run::Session(run) => {
                let effects = wire.gate().map_or(0, |gate| gate.effects());
                self.run_session(run, session_ref, args, wire);
                if let Some(gate) = wire.gate().filter(|gate| gate.is_sync()) {
                    let looks = spec.flags.intersects(Flags::READONLY.and(Flags::WRITE));
                    if looks || gate.effects() != effects {
                        gate.wait_for_all(op.conn);
                    }
                }
            }
            Run::Keyed(run) | Run::KeyedSplit(run, _) | Run::KeyedOr(run, _) => {
                self.run_keyed(op, id, spec, run, session_ref, args, wire);
            }
            Run::Internal => unreachable!("internal commands are refused before they run"),
        }
        if spec.flags.intersects(BRIEF) { Timing::Batch } else { Timing::None }
    }

    #[expect(clippy::too_many_arguments, reason = "one call site; all of it is the command")]
    fn run_keyed<W: CoreWire>(
        &mut self,
        op: &Op,
        id: CommandId,
        spec: &'static CommandSpec,
        run: KeyedRun,
        session_ref: SessionRef,
        args: Args<'_>,
        wire: &mut W,
    ) {
        let mut owners = OwnerSet::default();
        for position in spec.keys.positions(args.len()) {
            let key = self.ks.key(args.at(position));
            owners.add(self.config.shards.core_of(key.shard()).0);
        }
        match owners.only() {
            Some(owner) if owner != self.config.core.0 => {
                self.forward_command(op, pinnace_types::CoreId(owner), id, args);
            }
            Some(_) => self.run_aside(op, spec, run, session_ref, args, wire),
            None => match spec.run {
                // MSET with a value missing: the command itself says so.
                Run::KeyedSplit(..) if !spec.keys.divides(args.len()) => {
                    self.run_aside(op, spec, run, session_ref, args, wire);
                }
                Run::KeyedSplit(_, split) => {
                    let gather = self.split_gather(id, spec, split, args);
                    self.start_gather(session_ref, gather, wire);
                }
                Run::KeyedOr(_, coordinate) => self.run_session(coordinate, session_ref, args, wire),
                _ => self.reply_error(op.conn, CROSSSLOT, wire),
            },
        }
    }

    /// A keyed command on this core, its reply by way of `side_out`.
    fn run_aside<W: CoreWire>(
        &mut self,
        op: &Op,
        spec: &'static CommandSpec,
        run: KeyedRun,
        session_ref: SessionRef,
        args: Args<'_>,
        wire: &mut W,
    ) {
        let position = spec.keys.positions(args.len()).next().unwrap_or(0);
        self.ks.set_touching(self.sessions.get(op.conn).is_none_or(|session| !session.no_touch));
        let log = if W::GATED { self.log.clone() } else { None };
        let logged = log.as_deref().map(|log| Logged::begin(log, spec, args));
        let mut side_out = std::mem::take(&mut self.side_out);
        let mut exec = Exec {
            first_key: self.ks.key(args.at(position)),
            ks: &mut self.ks,
            out: &mut side_out,
            resp: session_ref.resp,
            scratch: &mut self.scratch,
            prng: &mut self.prng,
            limits: &self.config.limits,
            stats: &mut self.stats,
        };
        run(&mut exec, args);
        let commit = logged.map(|logged| logged.end(exec.first_key.hash()));
        self.ks.set_touching(true);
        self.side_out = side_out;
        if let (Some(gate), Some(commit)) = (wire.gate(), commit) {
            gate.wait(op.conn, commit);
        }
        self.flush_side_out(op.conn, wire);
    }

    fn run_session<W: CoreWire>(
        &mut self,
        run: crate::command::SessionRun,
        session_ref: SessionRef,
        args: Args<'_>,
        wire: &mut W,
    ) {
        let mut out = self.spare_buffer();
        let outcome = run(self, session_ref, args, &mut out);
        if let Outcome::ReplyAt { monotonic_ns } = outcome {
            self.reply_at(session_ref.conn, monotonic_ns, out);
            return;
        }
        if !out.is_empty() {
            self.side_out.bytes().extend_from_slice(&out);
            self.flush_side_out(session_ref.conn, wire);
        }
        self.recycle_buffer(out);
        // Whatever the command changed of the session decides how its next command runs.
        if let Some(session) = self.sessions.get_mut(session_ref.conn) {
            session.refresh();
            let listens = session.subscriptions.count() > 0 || session.monitor;
            if listens != session.listens {
                session.listens = listens;
                wire.exempt_from_idle_timeout(session_ref.conn, listens);
            }
        }
        if let Outcome::Gather(gather) = outcome {
            self.start_gather(session_ref, gather, wire);
        }
        self.apply_effects(wire);
    }

    /// Keeps a reply, and the session's next command, until an instant.
    fn reply_at(&mut self, conn: ConnId, monotonic_ns: u64, reply: Vec<u8>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let ticket = session.replies.wait();
        session.hold(Hold::Until(monotonic_ns));
        self.waiting_for_time.push(conn);
        self.delayed_replies.push((conn, ticket, reply));
    }

    /// Sends what is in `side_out` to a session: at once, or behind the replies it waits for.
    pub(crate) fn flush_side_out<W: CoreWire>(&mut self, conn: ConnId, wire: &mut W) {
        let mut side_out = std::mem::take(&mut self.side_out);
        if let Some(session) = self.sessions.get_mut(conn)
            && !session.is_silent()
        {
            session.output_bytes += side_out.byte_len() as u64;
            if session.replies.is_empty() {
                if let Some(out) = wire.out(conn) {
                    append_out(out, &mut side_out);
                    if out.byte_len() as u64 > self.config.limits.output_pause_bytes
                        && session.hold == Hold::None
                    {
                        session.hold(Hold::Output);
                    }
                }
            } else {
                let spare = &mut self.spare_buffers;
                session.replies.push(&mut side_out, || spare.pop().unwrap_or_default());
            }
        }
        side_out.clear();
        self.side_out = side_out;
    }

    /// Replies with an error.
    #[cold]
    pub(crate) fn reply_error<W: CoreWire>(&mut self, conn: ConnId, text: &str, wire: &mut W) {
        self.stats.count_error(text);
        error_line(self.side_out.bytes(), text);
        self.flush_side_out(conn, wire);
    }

    #[cold]
    pub(crate) fn refuse_unknown<W: CoreWire>(
        &mut self,
        conn: ConnId,
        args: Args<'_>,
        wire: &mut W,
    ) -> Timing {
        let Some(session) = self.sessions.get_mut(conn) else { return Timing::None };
        if is_http(args.at(0)) && !session.closing {
            // At once: what follows in the same read must not run.
            session.closing = true;
            session.refresh();
            // A web page that makes a browser send commands; Redis closes without a reply, too.
            self.effect(crate::effects::Effect::Close(conn));
            return Timing::None;
        }
        if !session.closing
            && let Check::Refuse(text) = self.refuse_in_transaction(conn, unknown_command(args))
        {
            self.reply_error(conn, &text, wire);
        }
        Timing::None
    }

    /// Replies with an error and closes.
    #[cold]
    pub(crate) fn close_with_error<W: CoreWire>(&mut self, conn: ConnId, text: &str, wire: &mut W) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.protocol == Protocol::Native {
            if let Some(out) = wire.out(conn) {
                let status = native::Status::OVERLOADED;
                native::encode_error(out.bytes(), Opcode::CONNECTION_ERROR, 0, status, text);
            }
        } else {
            self.reply_error(conn, text, wire);
        }
        self.effect(crate::effects::Effect::CloseAfterReply(conn));
        self.apply_effects(wire);
    }

    /// A stream that no further request can be told from: says why and closes.
    #[cold]
    pub(crate) fn close_broken<W: CoreWire>(&mut self, conn: ConnId, bytes: &[u8], at: usize, wire: &mut W) {
        self.stats.protocol_errors += 1;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.closing {
            return;
        }
        if session.protocol == Protocol::Native {
            // Behind the replies that are still awaited, if there are any.
            let awaits = session.forwarded() > 0;
            let out =
                if awaits { Some(&mut session.farewell) } else { wire.out(conn).map(|out| out.bytes()) };
            if let (Some(out), Err(error)) = (out, native::decode(&bytes[at..], &self.native_limits)) {
                let text = error.to_string();
                native::encode_error(out, Opcode::CONNECTION_ERROR, 0, error.status(), &text);
            }
        } else {
            // The decoder has forgotten what it refused; a fresh one refuses it again and says why.
            let mut ranges = Vec::new();
            if let Err(error) = RespDecoder::new().decode(&bytes[at..], &self.resp_limits, &mut ranges) {
                let text = format!("ERR {error}");
                self.reply_error(conn, &text, wire);
            }
        }
        self.effect(crate::effects::Effect::CloseAfterReply(conn));
        self.apply_effects(wire);
    }

    fn forward_command(&mut self, op: &Op, to: pinnace_types::CoreId, id: CommandId, args: Args<'_>) {
        let spec = self.table.spec(id);
        let (mut hash, mut shard) = (op.hash, op.shard);
        if op.route == Route::Undecided {
            let position = spec.keys.positions(args.len()).next().unwrap_or(0);
            let key = self.ks.key(args.at(position));
            (hash, shard) = (key.hash(), key.shard());
        }
        let Some(session) = self.sessions.get_mut(op.conn) else { return };
        let return_to = if session.is_silent() {
            ReturnTo::Nobody
        } else {
            ReturnTo::Session { conn: op.conn, ticket: session.replies.wait() }
        };
        let ask = Ask::Keyed { command: id, hash, shard };
        self.outgoing[to.index()].push(ask, session.resp, return_to, !session.no_touch, args.iter());
        self.stats.commands_forwarded_out += 1;
        if session.forwarded() >= session.forward_window {
            session.hold(Hold::Forwarded);
        }
    }
}

/// Redis' error for keys that no one core owns.
pub(crate) const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// What the checks before a command say.
pub(crate) enum Check {
    /// Run it (a container's subcommand has its own id).
    Run(CommandId),
    /// Reply with an error.
    Refuse(String),
    /// It is in the transaction now.
    Queued,
    /// It runs later, from its first byte.
    Wait,
}

/// The cores that own the keys of a command, as far as matters: none, one, or more.
#[derive(Default)]
struct OwnerSet {
    first: Option<u16>,
    several: bool,
}

impl OwnerSet {
    fn add(&mut self, core: u16) {
        match self.first {
            None => self.first = Some(core),
            Some(first) => self.several |= first != core,
        }
    }

    fn only(&self) -> Option<u16> {
        if self.several { None } else { self.first }
    }
}

fn pauses(mode: PauseMode, spec: &CommandSpec) -> bool {
    match mode {
        PauseMode::All => !spec.name.starts_with("client|") && spec.name != "client",
        PauseMode::Write => {
            spec.flags.contains(Flags::WRITE) || spec.name == "publish" || spec.name == "exec"
        }
    }
}

fn op_command_index(op: &Op) -> usize {
    match op.kind {
        crate::batch::OpKind::Command(id) => id.index(),
        _ => usize::MAX,
    }
}

/// The first word of a line of an HTTP request that is not a command.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Redis' text for a command that does not exist, with the beginning of its arguments.
fn unknown_command(args: Args<'_>) -> String {
    let echo = |bytes: &[u8], room: usize| quoted(&bytes[..bytes.len().min(room)]);
    let mut beginning = String::new();
    for arg in args.from(1).iter() {
        if beginning.chars().count() >= UNKNOWN_ECHO_BYTES {
            break;
        }
        let room = UNKNOWN_ECHO_BYTES - beginning.chars().count();
        beginning.push_str(&format!("'{}' ", echo(arg, room)));
    }
    format!(
        "ERR unknown command '{}', with args beginning with: {beginning}",
        echo(args.at(0), UNKNOWN_ECHO_BYTES)
    )
}
