//! Replies and answers that wait until a commit is synced.
//!
//! While the log is synchronous every reply of a turn is staged here first. At the end of the turn it is known which
//! commit it depends on, and it goes on to the connection if that is synced, or is held. A connection's
//! replies leave in the order in which they were staged: what comes behind a reply that is held is held,
//! too. With an asynchronous log replies are staged only behind one whose client has asked to wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use pinnace_engine::PinnedValue;
use pinnace_protocol::OutBuf;
use pinnace_types::{CommitNumber, ConnId, CoreId, KeyHash};

use super::Log;
use crate::answer::Answer;
use crate::core::append_out;
use crate::mail::{Handover, Mail};

/// Memory of empty buffers kept for their next use: a pipeline's replies for thousands of connections ...
const SPARES_BYTES_MAX: usize = 16 << 20;
/// ... and none that has grown larger than this.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// What one connection has staged and held.
pub(super) struct Outlet {
    conn: ConnId,
    /// Everything staged or held depends on commits up to this one.
    pub(super) need: CommitNumber,
    pub(super) is_staged: bool,
    pub(super) staged: OutBuf<PinnedValue>,
    /// Oldest first, with what they wait for.
    pub(super) held: VecDeque<(CommitNumber, OutBuf<PinnedValue>)>,
    pub(super) held_bytes: usize,
    /// To be closed behind all that.
    pub(super) closes: bool,
}

impl Outlet {
    fn new(conn: ConnId) -> Self {
        Self {
            conn,
            need: CommitNumber(0),
            is_staged: false,
            staged: OutBuf::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            closes: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.held.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.staged.byte_len() + self.held_bytes
    }
}

/// The answers to a hand-over of another core.
struct HeldAnswer {
    need: CommitNumber,
    to: CoreId,
    handover: Box<Handover>,
}

/// This core's own part of a gathered command.
pub(crate) struct HeldPart {
    need: CommitNumber,
    pub(crate) gather: u64,
    pub(crate) part: u32,
    pub(crate) answer: Answer,
}

/// All that waits on a core.
pub(crate) struct Gate {
    log: Rc<RefCell<Log>>,
    /// Everything may have to wait; else only what has asked for it.
    is_sync: bool,
    synced: CommitNumber,
    /// The last commit that any connection waits for.
    need: CommitNumber,
    /// By the connection's place.
    outlets: Vec<Outlet>,
    pub(super) staged: Vec<ConnId>,
    /// Connections with something held.
    pub(super) waiting: Vec<ConnId>,
    held_bytes: u64,
    spares: Vec<OutBuf<PinnedValue>>,
    spares_bytes: usize,
    answers: Vec<HeldAnswer>,
    parts: Vec<HeldPart>,
    sync_wanted: bool,
}

impl Gate {
    pub(super) fn new(log: Rc<RefCell<Log>>, is_sync: bool) -> Self {
        Self {
            log,
            is_sync,
            synced: CommitNumber(0),
            need: CommitNumber(0),
            outlets: Vec::new(),
            staged: Vec::new(),
            waiting: Vec::new(),
            held_bytes: 0,
            spares: Vec::new(),
            spares_bytes: 0,
            answers: Vec::new(),
            parts: Vec::new(),
            sync_wanted: false,
        }
    }

    pub(super) fn set_synced(&mut self, through: CommitNumber) {
        self.log.borrow_mut().writer.on_synced(through);
        self.synced = self.synced.max(through);
    }

    #[inline]
    pub(crate) fn is_sync(&self) -> bool {
        self.is_sync
    }

    #[inline]
    pub(crate) fn is_synced(&self, commit: CommitNumber) -> bool {
        commit <= self.synced
    }

    /// Effects logged so far.
    #[inline]
    pub(crate) fn effects(&self) -> u64 {
        self.log.borrow().effects()
    }

    /// The last commit that has an effect.
    #[inline]
    pub(crate) fn last_commit(&self) -> CommitNumber {
        self.log.borrow().last_commit()
    }

    /// The commit that something depends on which has looked at one key, and which there were `effects` before.
    #[inline]
    pub(crate) fn commit_behind(&self, effects: u64, hash: KeyHash) -> CommitNumber {
        let log = self.log.borrow();
        if log.effects() != effects { log.last_commit() } else { log.commit_of(hash) }
    }

    pub(super) fn outlet(&self, conn: ConnId) -> Option<&Outlet> {
        self.outlets.get(conn.slab_index()).filter(|outlet| outlet.conn == conn)
    }

    pub(super) fn outlet_mut(&mut self, conn: ConnId) -> Option<&mut Outlet> {
        self.outlets.get_mut(conn.slab_index()).filter(|outlet| outlet.conn == conn)
    }

    /// The outlet of a connection, made if it has none. That of a predecessor in its place goes.
    #[inline]
    fn entry(&mut self, conn: ConnId) -> &mut Outlet {
        let index = conn.slab_index();
        if self.outlets.get(index).is_none_or(|outlet| outlet.conn != conn) {
            self.replace(conn);
        }
        &mut self.outlets[index]
    }

    #[cold]
    fn replace(&mut self, conn: ConnId) {
        let index = conn.slab_index();
        while self.outlets.len() <= index {
            let number = self.outlets.len() as u32;
            self.outlets
                .push(Outlet::new(ConnId { index: number, generation: conn.generation.wrapping_sub(1) }));
        }
        let old = self.outlets[index].conn;
        self.forget(old);
        self.outlets[index].conn = conn;
    }

    /// Makes everything that a connection is sent from now on wait for a commit.
    #[inline]
    pub(crate) fn wait(&mut self, conn: ConnId, commit: CommitNumber) {
        if commit > self.synced {
            self.need = self.need.max(commit);
            let outlet = self.entry(conn);
            outlet.need = outlet.need.max(commit);
        }
    }

    /// Makes what a connection is sent wait for everything that has been logged.
    #[inline]
    pub(crate) fn wait_for_all(&mut self, conn: ConnId) {
        let commit = self.last_commit();
        self.wait(conn, commit);
    }

    /// Stages what a connection is sent from now on in this turn, before it is known what it depends on.
    pub(crate) fn stage(&mut self, conn: ConnId) {
        if !self.entry(conn).is_staged {
            let spare = self.spares.pop().unwrap_or_default();
            self.spares_bytes -= spare.owned_bytes();
            let outlet = self.entry(conn);
            outlet.staged = spare;
            outlet.is_staged = true;
            self.staged.push(conn);
        }
    }

    /// Whether what a connection is sent now has to be staged.
    #[inline]
    pub(super) fn stages(&self, conn: ConnId) -> bool {
        if self.is_sync {
            return true;
        }
        // With nobody waiting, which is the usual case, no outlet is looked at.
        (!self.staged.is_empty() || self.need > self.synced)
            && self.outlet(conn).is_some_and(|outlet| outlet.is_staged || outlet.need > self.synced)
    }

    pub(super) fn is_staged(&self, conn: ConnId) -> bool {
        self.outlet(conn).is_some_and(|outlet| outlet.is_staged)
    }

    /// Whether a connection has replies here.
    pub(crate) fn holds(&self, conn: ConnId) -> bool {
        self.outlet(conn).is_some_and(|outlet| !outlet.is_empty())
    }

    /// Drops what a connection has here.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        let Some(outlet) = self.outlet_mut(conn) else { return };
        let mut old = std::mem::replace(outlet, Outlet::new(conn));
        std::mem::swap(&mut self.outlets[conn.slab_index()].held, &mut old.held);
        self.held_bytes -= old.held_bytes as u64;
        self.recycle(old.staged);
        while let Some((_, buffer)) = self.outlets[conn.slab_index()].held.pop_front() {
            self.recycle(buffer);
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    pub(super) fn synced(&self) -> CommitNumber {
        self.synced
    }

    /// Holds what a connection is sent until what it needs is synced.
    pub(super) fn hold(&mut self, conn: ConnId, mut staged: OutBuf<PinnedValue>) {
        let bytes = staged.byte_len();
        self.held_bytes += bytes as u64;
        let outlet = self.entry(conn);
        outlet.held_bytes += bytes;
        let need = outlet.need;
        let is_first = outlet.held.is_empty();
        match outlet.held.back_mut() {
            Some((last, buffer)) if *last == need => {
                append_out(buffer, &mut staged);
                self.recycle(staged);
            }
            _ => outlet.held.push_back((need, staged)),
        }
        if is_first {
            self.waiting.push(conn);
        }
    }

    /// Takes the next buffer of a connection that has waited long enough.
    pub(super) fn take_synced(&mut self, conn: ConnId) -> Option<OutBuf<PinnedValue>> {
        let synced = self.synced;
        let outlet = self.outlet_mut(conn)?;
        outlet.held.front().filter(|(need, _)| *need <= synced)?;
        let (_, buffer) = outlet.held.pop_front()?;
        outlet.held_bytes -= buffer.byte_len();
        self.held_bytes -= buffer.byte_len() as u64;
        Some(buffer)
    }

    pub(super) fn recycle(&mut self, mut buffer: OutBuf<PinnedValue>) {
        let bytes = buffer.owned_bytes();
        if bytes > 0 && bytes <= SPARE_BYTES_MAX && self.spares_bytes + bytes <= SPARES_BYTES_MAX {
            buffer.clear();
            self.spares_bytes += buffer.owned_bytes();
            self.spares.push(buffer);
        }
    }

    /// Sends the answers to another core once a commit is synced.
    pub(crate) fn post_answer(
        &mut self,
        need: CommitNumber,
        to: CoreId,
        handover: Box<Handover>,
        post: &mut Vec<(CoreId, Mail)>,
    ) {
        if need <= self.synced {
            post.push((to, Mail::Answer(handover)));
        } else {
            self.answers.push(HeldAnswer { need, to, handover });
        }
    }

    pub(super) fn take_synced_answers(&mut self, post: &mut Vec<(CoreId, Mail)>) {
        let mut left = 0;
        for index in 0..self.answers.len() {
            if self.answers[index].need > self.synced {
                self.answers.swap(index, left);
                left += 1;
            }
        }
        // Swapping has kept the order of those that are left, and need not keep that of the others.
        for answer in self.answers.drain(left..) {
            post.push((answer.to, Mail::Answer(answer.handover)));
        }
    }

    /// Holds this core's part of a gathered command until everything logged is synced; gives it back if it is.
    pub(crate) fn hold_part(&mut self, gather: u64, part: u32, answer: Answer) -> Option<Answer> {
        let need = self.last_commit();
        if need <= self.synced {
            return Some(answer);
        }
        self.sync_wanted = true;
        self.parts.push(HeldPart { need, gather, part, answer });
        None
    }

    pub(super) fn take_synced_parts(&mut self) -> Vec<HeldPart> {
        let synced = self.synced;
        self.parts.extract_if(.., |part| part.need <= synced).collect()
    }

    /// Somebody waits for the log who did not have to.
    pub(crate) fn want_sync(&mut self) {
        self.sync_wanted = true;
    }

    pub(super) fn take_sync_wanted(&mut self) -> bool {
        std::mem::take(&mut self.sync_wanted) && self.last_commit() > self.synced
    }
}
