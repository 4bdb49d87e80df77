//! What commands want done on the wire. They are collected while a command runs, since a command
//! knows no wire, and applied right after it.

use std::rc::Rc;

use pinnace_types::{ConnId, CoreId};

use crate::core::{Core, CoreWire};
use crate::mail::Mail;
use crate::server::control::Control;

/// Something to do after the command.
#[derive(Debug)]
pub enum Effect {
    /// Close a connection of this core at once.
    Close(ConnId),
    /// Close it once everything replied so far is sent.
    CloseAfterReply(ConnId),
    /// Send a value that no request asked for: a pub/sub message, a line of MONITOR. Shared by all
    /// connections it goes to.
    Push {
        /// A connection of this core.
        conn: ConnId,
        /// One encoded RESP value.
        bytes: Rc<[u8]>,
    },
    /// Tell another core something; it does not answer.
    Control {
        /// The core.
        to: CoreId,
        /// What it is told.
        control: Control,
    },
    /// Hand a connection to another core once it is quiet.
    Move {
        /// The connection.
        conn: ConnId,
        /// Its new core.
        to: CoreId,
    },
    /// Stop the node cleanly.
    Shutdown,
}

impl Core {
    /// Asks for something to be done after the command that is running.
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Tells another core something.
    pub(crate) fn send_control(&mut self, to: CoreId, control: Control) {
        self.effects.push(Effect::Control { to, control });
    }

    pub(crate) fn apply_effects<W: CoreWire>(&mut self, wire: &mut W) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.apply_effect(effect, wire);
        }
        debug_assert!(self.effects.is_empty());
        self.effects = effects;
    }

    fn apply_effect<W: CoreWire>(&mut self, effect: Effect, wire: &mut W) {
        match effect {
            Effect::Close(conn) => {
                self.mark_closing(conn);
                wire.close(conn);
            }
            Effect::CloseAfterReply(conn) => {
                self.mark_closing(conn);
                match self.sessions.get_mut(conn) {
                    Some(session) if !session.replies.is_empty() || session.forwarded() > 0 => {
                        session.close_when_answered = true;
                    }
                    _ => wire.close_after_flush(conn),
                }
            }
            Effect::Push { conn, .. }
                if wire.unsent_bytes(conn) as u64 > self.config.limits.push_close_bytes =>
            {
                self.mark_closing(conn);
                wire.close(conn);
            }
            Effect::Push { conn, bytes } => {
                if let Some(out) = wire.out(conn) {
                    out.bytes().extend_from_slice(&bytes);
                }
            }
            Effect::Control { to, control } if to == self.config.core => self.on_control(to, control),
            Effect::Control { to, control } => self.post.push((to, Mail::Control(Box::new(control)))),
            Effect::Move { conn, to } => self.begin_move(conn, to, wire),
            Effect::Shutdown => self.stop = true,
        }
    }

    fn mark_closing(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.closing = true;
            session.refresh();
        }
    }
}
