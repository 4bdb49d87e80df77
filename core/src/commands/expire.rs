//! Expiration times of keys.
//!
//! Deadlines have 48 bits of milliseconds: one past the year 10889 is stored as that year.

use pinnace_protocol::Args;
use pinnace_types::Deadline;

use super::expiry::{Form, Instant, Lifetime};
use super::refusal::Refusal;
use super::{READ_FAST, WRITE_FAST, docs, keyed, spec};
use crate::command::{CommandSpec, KeySpec, Run};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "expire",
        -3,
        WRITE_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(expire)),
        docs("generic", "1.0.0", "O(1)", "Lets a key live for a number of seconds."),
    ),
    spec(
        "pexpire",
        -3,
        WRITE_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(pexpire)),
        docs("generic", "2.6.0", "O(1)", "Lets a key live for a number of milliseconds."),
    ),
    spec(
        "expireat",
        -3,
        WRITE_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(expireat)),
        docs("generic", "1.2.0", "O(1)", "Lets a key live until a Unix time in seconds."),
    ),
    spec(
        "pexpireat",
        -3,
        WRITE_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(pexpireat)),
        docs("generic", "2.6.0", "O(1)", "Lets a key live until a Unix time in milliseconds."),
    ),
    spec(
        "persist",
        2,
        WRITE_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(persist)),
        docs("generic", "2.2.0", "O(1)", "Removes the expiration time of a key."),
    ),
    spec(
        "ttl",
        2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(ttl),
        docs("generic", "1.0.0", "O(1)", "Gives the seconds that a key has left."),
    ),
    spec(
        "pttl",
        2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(pttl),
        docs("generic", "2.6.0", "O(1)", "Gives the milliseconds that a key has left."),
    ),
    spec(
        "expiretime",
        2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(expiretime),
        docs("generic", "7.0.0", "O(1)", "Gives the expiration time of a key in Unix seconds."),
    ),
    spec(
        "pexpiretime",
        2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(pexpiretime),
        docs("generic", "7.0.0", "O(1)", "Gives the expiration time of a key in Unix milliseconds."),
    ),
];

const NX_ALONE: &str = "ERR NX and XX, GT or LT options at the same time are not compatible";
const GT_OR_LT: &str = "ERR GT and LT options at the same time are not compatible";

/// On which conditions a deadline is changed; all that are set must hold.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    has_none: bool,
    has_one: bool,
    is_later: bool,
    is_earlier: bool,
}

impl Conditions {
    fn parse(options: Args<'_>) -> Result<Self, Refusal> {
        let mut conditions = Self::default();
        for option in options.iter() {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"nx") {
                conditions.has_none = true;
            } else if is(b"xx") {
                conditions.has_one = true;
            } else if is(b"gt") {
                conditions.is_later = true;
            } else if is(b"lt") {
                conditions.is_earlier = true;
            } else {
                let text = format!("ERR Unsupported option {}", crate::exec::quoted(option));
                return Err(Refusal::Composed(text));
            }
        }
        if conditions.has_none && (conditions.has_one || conditions.is_later || conditions.is_earlier) {
            return Err(NX_ALONE.into());
        }
        if conditions.is_later && conditions.is_earlier {
            return Err(GT_OR_LT.into());
        }
        Ok(conditions)
    }

    /// Whether a key with deadline `old` is to get `new`. No deadline counts as the latest of all.
    fn hold(self, old: Deadline, new: Instant) -> bool {
        let old = old.instant().map(|at| i64::try_from(at.0).unwrap_or(i64::MAX));
        !(self.has_none && old.is_some()
            || self.has_one && old.is_none()
            || self.is_later && old.is_none_or(|old| new.0 <= old)
            || self.is_earlier && old.is_some_and(|old| new.0 >= old))
    }
}

fn expire(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    change(exec, args, Form::EX, "expire")
}

fn pexpire(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    change(exec, args, Form::PX, "pexpire")
}

fn expireat(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    change(exec, args, Form::EXAT, "expireat")
}

fn pexpireat(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    change(exec, args, Form::PXAT, "pexpireat")
}

fn change(exec: &mut Exec<'_>, args: Args<'_>, form: Form, command: &str) -> Result<(), Refusal> {
    let conditions = Conditions::parse(args.from(3))?;
    let now = exec.ks.now();
    let instant = Lifetime::new(form, args.at(2)).resolve_any(now, command)?;
    let key = exec.first_key;
    let Some(old) = exec.ks.peek(&key).map(|entry| entry.deadline) else {
        exec.integer(0);
        return Ok(());
    };
    let changes = conditions.hold(old, instant);
    if changes {
        match instant.deadline(now) {
            Some(deadline) => exec.ks.set_deadline(&key, deadline)?,
            None => exec.ks.delete(&key),
        };
    }
    exec.integer(i64::from(changes));
    Ok(())
}

fn persist(exec: &mut Exec<'_>, _: Args<'_>) -> Result<(), Refusal> {
    let key = exec.first_key;
    let has_deadline = exec.ks.peek(&key).is_some_and(|entry| entry.deadline != Deadline::NEVER);
    if has_deadline {
        exec.ks.set_deadline(&key, Deadline::NEVER)?;
    }
    exec.integer(i64::from(has_deadline));
    Ok(())
}

/// Replies what `f` makes of the deadline and of now; -1 if there is none, -2 if there is no key.
fn reply_deadline(exec: &mut Exec<'_>, f: impl Fn(u64, u64) -> u64) {
    let now = exec.ks.now().0;
    let reply = match exec.ks.peek(&exec.first_key).map(|entry| entry.deadline.instant()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => f(at.0, now) as i64,
    };
    exec.integer(reply);
}

/// Milliseconds to the nearest second.
fn seconds(milliseconds: u64) -> u64 {
    (milliseconds + 500) / 1000
}

fn ttl(exec: &mut Exec<'_>, _: Args<'_>) {
    reply_deadline(exec, |at, now| seconds(at.saturating_sub(now)));
}

fn pttl(exec: &mut Exec<'_>, _: Args<'_>) {
    reply_deadline(exec, u64::saturating_sub);
}

fn expiretime(exec: &mut Exec<'_>, _: Args<'_>) {
    reply_deadline(exec, |at, _| seconds(at));
}

fn pexpiretime(exec: &mut Exec<'_>, _: Args<'_>) {
    reply_deadline(exec, |at, _| at);
}
