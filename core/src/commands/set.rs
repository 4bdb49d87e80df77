//! SET with all its options, and the older commands for some of them.

use pinnace_engine::Key;
use pinnace_protocol::Args;
use pinnace_types::Deadline;

use super::expiry::{Form, Instant, Lifetime};
use super::refusal::{Refusal, SYNTAX};
use super::value::{Taken, string};
use super::{GROW, GROW_FAST, docs, keyed, spec};
use crate::command::{CommandSpec, Flags, KeySpec, Run};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "set",
        -3,
        GROW.and(Flags::SHORT),
        KeySpec::ONE,
        Run::Keyed(keyed!(set)),
        docs(
            "string",
            "1.0.0",
            "O(1)",
            "Sets a key to a string value, on conditions and for a time if wanted.",
        ),
    ),
    spec(
        "setnx",
        3,
        GROW_FAST,
        KeySpec::ONE,
        Run::Keyed(keyed!(setnx)),
        docs("string", "1.0.0", "O(1)", "Sets a key to a string value if it does not exist."),
    ),
    spec(
        "setex",
        4,
        GROW.and(Flags::SHORT),
        KeySpec::ONE,
        Run::Keyed(keyed!(setex)),
        docs("string", "2.0.0", "O(1)", "Sets a key to a string value for a number of seconds."),
    ),
    spec(
        "psetex",
        4,
        GROW.and(Flags::SHORT),
        KeySpec::ONE,
        Run::Keyed(keyed!(psetex)),
        docs("string", "2.6.0", "O(1)", "Sets a key to a string value for a number of milliseconds."),
    ),
];

/// When SET writes at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    Absent,
    Present,
}

/// The options of SET.
struct Options<'a> {
    condition: Condition,
    lifetime: Option<Lifetime<'a>>,
    keeps_deadline: bool,
    gives_old: bool,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>) -> Result<Self, Refusal> {
        let mut options =
            Self { condition: Condition::Always, lifetime: None, keeps_deadline: false, gives_old: false };
        let mut index = 3;
        while let Some(option) = args.get(index) {
            index += options.take(option, args.get(index + 1))?;
        }
        Ok(options)
    }

    /// Takes one option in and tells how many arguments it is. An option may be repeated.
    fn take(&mut self, option: &[u8], next: Option<&'a [u8]>) -> Result<usize, Refusal> {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"nx") && self.condition != Condition::Present {
            self.condition = Condition::Absent;
        } else if is(b"xx") && self.condition != Condition::Absent {
            self.condition = Condition::Present;
        } else if is(b"get") {
            self.gives_old = true;
        } else if is(b"keepttl") && self.lifetime.is_none() {
            self.keeps_deadline = true;
        } else {
            let lifetime = Lifetime::parse(option, next).ok_or(Refusal::Text(SYNTAX))?;
            if self.keeps_deadline || self.lifetime.is_some_and(|old| !old.is_same_option(&lifetime)) {
                return Err(SYNTAX.into());
            }
            self.lifetime = Some(lifetime);
            return Ok(2);
        }
        Ok(1)
    }
}

#[inline]
fn set(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    if args.len() > 3 {
        return set_with_options(exec, args);
    }
    exec.ks.set(&exec.first_key, args.at(2), Deadline::NEVER)?;
    exec.ok();
    Ok(())
}

fn set_with_options(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let options = Options::parse(args)?;
    let now = exec.ks.now();
    let instant = options.lifetime.map(|lifetime| lifetime.resolve(now, "set")).transpose()?;
    let key = exec.first_key;
    if options.gives_old {
        return set_giving_old(exec, args, &options, instant);
    }
    let mut deadline = None;
    if options.condition != Condition::Always || options.keeps_deadline {
        let entry = exec.ks.peek(&key);
        if options.condition == if entry.is_some() { Condition::Absent } else { Condition::Present } {
            exec.null();
            return Ok(());
        }
        deadline = entry.filter(|_| options.keeps_deadline).map(|entry| entry.deadline);
    }
    write(exec, &key, args.at(2), instant, deadline)?;
    exec.ok();
    Ok(())
}

/// SET with GET: the old value is the reply, whether or not the new one is written.
fn set_giving_old(
    exec: &mut Exec<'_>,
    args: Args<'_>,
    options: &Options<'_>,
    instant: Option<Instant>,
) -> Result<(), Refusal> {
    let key = exec.first_key;
    let (taken, deadline) = match exec.ks.get(&key) {
        None => (Taken::Absent, None),
        Some(entry) => (Taken::take(string(&entry)?, exec.scratch), Some(entry.deadline)),
    };
    let refused = if deadline.is_some() { Condition::Absent } else { Condition::Present };
    if options.condition != refused {
        write(exec, &key, args.at(2), instant, deadline.filter(|_| options.keeps_deadline))?;
    }
    taken.reply(exec);
    Ok(())
}

/// Writes a value that lives until `instant`, or else until `kept`, or else for ever. An instant in
/// the past leaves nothing behind.
fn write(
    exec: &mut Exec<'_>,
    key: &Key<'_>,
    value: &[u8],
    instant: Option<Instant>,
    kept: Option<Deadline>,
) -> Result<(), Refusal> {
    let deadline = match instant {
        None => kept.unwrap_or(Deadline::NEVER),
        Some(instant) => match instant.deadline(exec.ks.now()) {
            Some(deadline) => deadline,
            None => {
                exec.ks.delete(key);
                return Ok(());
            }
        },
    };
    Ok(exec.ks.set(key, value, deadline)?)
}

fn setnx(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    let key = exec.first_key;
    let is_absent = exec.ks.peek(&key).is_none();
    if is_absent {
        exec.ks.set(&key, args.at(2), Deadline::NEVER)?;
    }
    exec.integer(i64::from(is_absent));
    Ok(())
}

fn setex(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    set_for(exec, args, Form::EX, "setex")
}

fn psetex(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    set_for(exec, args, Form::PX, "psetex")
}

fn set_for(exec: &mut Exec<'_>, args: Args<'_>, form: Form, command: &str) -> Result<(), Refusal> {
    let instant = Lifetime::new(form, args.at(2)).resolve(exec.ks.now(), command)?;
    let key = exec.first_key;
    write(exec, &key, args.at(3), Some(instant), None)?;
    exec.ok();
    Ok(())
}
