//! Runs of plain requests: several of one connection, one after another, that only touch keys of this
//! core and whose replies nothing stands in the way of. Whatever does not change between them is
//! looked up once for all of them.
//!
//! Anything unusual about a request or its session ends the run; `dispatch.rs` and `native.rs` know
//! how to go on with it.

use pinnace_protocol::{ArgRange, native};
use pinnace_types::CommitNumber;

use crate::batch::{Op, OpKind, Route, Sources, Timing};
use crate::command::{Flags, Run};
use crate::core::{Core, CoreWire};
use crate::dispatch::BRIEF;
use crate::durability::Logged;
use crate::exec::Exec;
use crate::native::get;
use crate::session::Hold;

impl Core {
    /// Runs the plain requests that `ops` begins with; gives how many they were and how their time
    /// is accounted for. 0: the first one is not plain.
    #[inline]
    pub(crate) fn run_plain<W: CoreWire>(
        &mut self,
        ops: &[Op],
        ranges: &[ArgRange],
        sources: Sources<'_>,
        wire: &mut W,
    ) -> (usize, Timing) {
        match ops.first() {
            Some(op) if op.route != Route::Local => (0, Timing::None),
            Some(Op { kind: OpKind::Command(_), .. }) => {
                (self.run_plain_commands(ops, ranges, sources, wire), Timing::Batch)
            }
            Some(Op { kind: OpKind::NativeGet, .. }) => {
                (self.run_plain_gets(ops, sources, wire), Timing::None)
            }
            _ => (0, Timing::None),
        }
    }

    fn run_plain_commands<W: CoreWire>(
        &mut self,
        ops: &[Op],
        ranges: &[ArgRange],
        sources: Sources<'_>,
        wire: &mut W,
    ) -> usize {
        let Some(first) = ops.first() else { return 0 };
        let Some(session) = self.sessions.get_mut(first.conn) else { return 0 };
        let is_plain = !session.special && session.replies.is_empty();
        if !is_plain || self.pause.is_some() || self.server.monitors() != 0 {
            return 0;
        }
        let Some(out) = wire.out(first.conn) else { return 0 };
        let before = out.byte_len();
        let mut exec = Exec {
            ks: &mut self.ks,
            out,
            resp: session.resp,
            first_key: first.key(&[]),
            scratch: &mut self.scratch,
            prng: &mut self.prng,
            limits: &self.config.limits,
            stats: &mut self.stats,
        };
        let log = if W::GATED { self.log.as_deref() } else { None };
        let mut need = CommitNumber(0);
        let mut count = 0;
        for op in ops {
            let OpKind::Command(id) = op.kind else { break };
            if op.conn != first.conn || op.route != Route::Local {
                break;
            }
            let spec = self.table.spec(id);
            let (Run::Keyed(run) | Run::KeyedSplit(run, _) | Run::KeyedOr(run, _)) = spec.run else { break };
            if !spec.flags.intersects(BRIEF) || !spec.accepts(op.range_count as usize) {
                break;
            }
            let args = op.args(op.raw(sources), ranges);
            if log.is_some_and(|log| spec.flags.contains(Flags::WRITE) && !log.borrow().admits_writes()) {
                break;
            }
            let logged = log.map(|log| Logged::begin(log, spec, args));
            exec.first_key = op.key(args.at(spec.keys.first as usize));
            let errors = exec.stats.error_replies;
            run(&mut exec, args);
            if exec.stats.error_replies != errors {
                exec.stats.commands[id.index()].failed += 1;
            }
            if let Some(logged) = logged {
                need = need.max(logged.end(op.hash));
            }
            session.last_command = Some(id);
            count += 1;
            if exec.out.byte_len() as u64 > self.config.limits.output_pause_bytes {
                session.hold(Hold::Output);
                break;
            }
        }
        session.commands += count as u64;
        session.output_bytes += (exec.out.byte_len() - before) as u64;
        if let Some(gate) = wire.gate() {
            gate.wait(first.conn, need);
        }
        count
    }

    fn run_plain_gets<W: CoreWire>(&mut self, ops: &[Op], sources: Sources<'_>, wire: &mut W) -> usize {
        let Some(first) = ops.first() else { return 0 };
        let Some(session) = self.sessions.get_mut(first.conn) else { return 0 };
        if session.closing || session.hold != Hold::None {
            return 0;
        }
        let Some(out) = wire.out(first.conn) else { return 0 };
        let before = out.byte_len();
        let log = if W::GATED { self.log.as_deref() } else { None };
        let mut need = CommitNumber(0);
        let mut count = 0;
        for op in ops {
            if op.kind != OpKind::NativeGet || op.conn != first.conn || op.route != Route::Local {
                break;
            }
            let key = &op.raw(sources)[native::HEADER_BYTES..][..op.range_count as usize];
            get(&mut self.ks, op.range_start, &op.key(key), None, false, out);
            if let Some(log) = log {
                need = need.max(log.borrow().commit_of(op.hash));
            }
            count += 1;
            if out.byte_len() as u64 > self.config.limits.output_pause_bytes {
                session.hold(Hold::Output);
                break;
            }
        }
        session.commands += count as u64;
        session.output_bytes += (out.byte_len() - before) as u64;
        self.stats.commands_processed += count as u64;
        if let Some(gate) = wire.gate() {
            gate.wait(first.conn, need);
        }
        count
    }
}
