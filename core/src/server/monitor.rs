//! MONITOR: every client that asked sees every command of every core.
//!
//! A core tells the others how many such clients it has; a line is only formatted, and only sent to
//! a core, if somebody there wants it.

use std::fmt::Write as _;
use std::rc::Rc;

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};
use pinnace_types::{ConnId, CoreId};

use super::control::Control;
use super::redact::{REDACTED, is_secret};
use super::reply::{ADMIN, ask_all, doc, gathered, no_session, ok, reply, session};
use crate::command::{CommandSpec, Flags};
use crate::core::Core;
use crate::effects::Effect;
use crate::gather::{Outcome, SessionRef};

pub(super) static SPECS: &[CommandSpec] = &[gathered(
    session(
        "monitor",
        1,
        ADMIN,
        monitor,
        doc("server", "1.0.0", "Shows every command that the node gets, as it gets it", "O(1)"),
    ),
    monitor_part,
)];

/// Who runs MONITOR.
#[derive(Debug)]
pub(crate) struct Monitors {
    own: Vec<ConnId>,
    /// How many clients run it on each core; this core's own entry stays 0.
    elsewhere: Vec<u32>,
    /// All of them.
    total: u32,
}

impl Monitors {
    pub(super) fn new(core_count: u16) -> Self {
        Self { own: Vec::new(), elsewhere: vec![0; usize::from(core_count)], total: 0 }
    }

    /// How many clients of all cores want to see commands.
    #[inline]
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn on_count(&mut self, core: CoreId, count: u32) {
        self.elsewhere[core.index()] = count;
        self.recount();
    }

    fn recount(&mut self) {
        self.total = self.own.len() as u32 + self.elsewhere.iter().sum::<u32>();
    }
}

fn monitor(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    match core.session(session.conn) {
        None => return no_session(core, out, args),
        Some(own) if own.monitor => return ok(out),
        Some(_) => {}
    }
    let (id, count) = (core.config.core.0.to_string(), (core.server.monitors.own.len() + 1).to_string());
    // Every core must feed before the client hears OK, or it could miss what it sends next.
    let args: [&[u8]; 3] = [b"monitor", id.as_bytes(), count.as_bytes()];
    let gather = ask_all(core, "monitor", &args, Box::new(|core, session, _| start(core, session)));
    Outcome::Gather(gather.with_barrier())
}

fn start(core: &mut Core, session: SessionRef) -> crate::gather::Next {
    if let Some(own) = core.session_mut(session.conn) {
        own.monitor = true;
        core.server.monitors.own.push(session.conn);
    }
    core.server.monitors.recount();
    // Says the true number: the connection may be gone, and others may have come meanwhile.
    announce(core);
    reply(|out| resp::simple(out, "OK"))
}

fn monitor_part(core: &mut Core, args: Args<'_>, _version: Version, _out: &mut Vec<u8>) {
    let number =
        |index: usize| std::str::from_utf8(args.at(index)).ok().and_then(|text| text.parse::<u32>().ok());
    if let (Some(from), Some(count)) = (number(1), number(2))
        && from != u32::from(core.config.core.0)
    {
        core.server.monitors.on_count(CoreId(from as u16), count);
    }
}

/// Ends MONITOR for a connection.
pub(super) fn stop(core: &mut Core, conn: ConnId) {
    let Some(session) = core.session_mut(conn) else { return };
    if !std::mem::take(&mut session.monitor) {
        return;
    }
    core.server.monitors.own.retain(|own| *own != conn);
    core.server.monitors.recount();
    announce(core);
}

fn announce(core: &mut Core) {
    let count = core.server.monitors.own.len() as u32;
    for to in others(core) {
        core.send_control(to, Control::Monitors(count));
    }
}

fn others(core: &Core) -> impl Iterator<Item = CoreId> + use<> {
    let own = core.config.core;
    (0..core.core_count()).map(CoreId).filter(move |to| *to != own)
}

impl Core {
    /// Shows a command to everybody who runs MONITOR.
    #[cold]
    pub(crate) fn monitor_feed(&mut self, session: SessionRef, args: Args<'_>) {
        let hidden = self.table.lookup(args.at(0)).is_some_and(|spec| is_hidden(spec, args));
        let Some(own) = self.session(session.conn) else { return };
        if hidden {
            return;
        }
        let line = format_line(self, &own.peer.to_string(), args);
        let elsewhere = &self.server.monitors.elsewhere;
        let wanted: Vec<CoreId> = others(self).filter(|core| elsewhere[core.index()] > 0).collect();
        for to in wanted {
            self.send_control(to, Control::MonitorLine(line.clone()));
        }
        let line = Rc::from(line);
        // A client that leaves MONITOR by RESET does not see that itself.
        let leaves = args.at(0).eq_ignore_ascii_case(b"reset").then_some(session.conn);
        for conn in
            self.server.monitors.own.iter().copied().filter(|own| Some(*own) != leaves).collect::<Vec<_>>()
        {
            self.effect(Effect::Push { conn, bytes: Rc::clone(&line) });
        }
    }

    pub(super) fn push_to_monitors(&mut self, line: &Rc<[u8]>) {
        for conn in self.server.monitors.own.clone() {
            self.effect(Effect::Push { conn, bytes: Rc::clone(line) });
        }
    }
}

fn is_hidden(spec: &CommandSpec, args: Args<'_>) -> bool {
    const HIDDEN: [Flags; 2] = [Flags::ADMIN, Flags::SKIP_MONITOR];
    HIDDEN.iter().any(|flag| spec.flags.contains(*flag)) || (spec.name == "config" && args.len() > 1)
}

/// What is shown of one argument, and of a command about. Redis shows everything; a value of half a
/// gigabyte would be held once for every client that watches, escaped to four times its size.
const ARG_BYTES_MAX: usize = 64 << 10;
const LINE_BYTES_MAX: usize = 256 << 10;
const NEVER_FAILS: &str = "a String takes all that is written";

/// `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`
fn format_line(core: &Core, peer: &str, args: Args<'_>) -> Vec<u8> {
    let (seconds, millis) = (core.time.wall.0 / 1000, core.time.wall.0 % 1000);
    let micros = millis * 1000 + u64::from(core.time.wall_micros);
    let mut line = format!("+{seconds}.{micros:06} [0 {peer}]");
    for (index, arg) in args.iter().enumerate() {
        if line.len() >= LINE_BYTES_MAX {
            write!(line, " ... ({} more arguments)", args.len() - index).expect(NEVER_FAILS);
            break;
        }
        line.push(' ');
        let shown = if is_secret(args, index) { REDACTED } else { arg };
        quote(&mut line, &shown[..shown.len().min(ARG_BYTES_MAX)]);
        if shown.len() > ARG_BYTES_MAX {
            write!(line, "... ({} more bytes)", shown.len() - ARG_BYTES_MAX).expect(NEVER_FAILS);
        }
    }
    line.push_str("\r\n");
    line.into_bytes()
}

/// Quotes as `redis-cli` does, so that one command stays one line.
fn quote(line: &mut String, arg: &[u8]) {
    line.push('"');
    for &byte in arg {
        match byte {
            b'\\' | b'"' => line.extend(['\\', char::from(byte)]),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x07 => line.push_str("\\a"),
            0x08 => line.push_str("\\b"),
            0x20..=0x7e => line.push(char::from(byte)),
            _ => write!(line, "\\x{byte:02x}").expect(NEVER_FAILS),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn bytes_that_would_break_a_line_are_escaped() {
        let mut line = String::new();
        quote(&mut line, b"a\"\\\r\n\t\x07\x08\x00\xff~");
        assert_eq!(line, r#""a\"\\\r\n\t\a\b\x00\xff~""#);
    }
}
