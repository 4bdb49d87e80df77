//! Commands that do not care what a value is.
//!
//! EXISTS and TYPE count neither hits nor misses and do not keep a key from eviction; TOUCH does.

use pinnace_engine::Key;
use pinnace_protocol::{Args, resp};

use super::each_key::for_each_key;
use super::refusal::Refusal;
use super::value::kind_name;
use super::{READ_FAST, WRITE, WRITE_FAST, docs, keyed, spec};
use crate::command::{CommandSpec, Flags, KeySpec, Run, Split};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "del",
        -2,
        WRITE.and(Flags::SHORT),
        KeySpec::ALL,
        Run::KeyedSplit(keyed!(delete), Split::Sum),
        docs("generic", "1.0.0", "O(N) with N the number of keys", "Deletes keys."),
    ),
    spec(
        "unlink",
        -2,
        WRITE_FAST,
        KeySpec::ALL,
        Run::KeyedSplit(keyed!(delete), Split::Sum),
        docs(
            "generic",
            "4.0.0",
            "O(N) with N the number of keys",
            "Deletes keys; their memory is reclaimed later.",
        ),
    ),
    spec(
        "exists",
        -2,
        READ_FAST,
        KeySpec::ALL,
        Run::KeyedSplit(keyed!(exists), Split::Sum),
        docs("generic", "1.0.0", "O(N) with N the number of keys", "Counts the given keys that exist."),
    ),
    spec(
        "touch",
        -2,
        READ_FAST,
        KeySpec::ALL,
        Run::KeyedSplit(keyed!(touch), Split::Sum),
        docs(
            "generic",
            "3.2.1",
            "O(N) with N the number of keys",
            "Counts the given keys that exist as used now.",
        ),
    ),
    spec(
        "type",
        2,
        READ_FAST,
        KeySpec::ONE,
        Run::Keyed(kind),
        docs("generic", "1.0.0", "O(1)", "Gives the data type of the value at a key."),
    ),
];

/// Replies how many of the keys `holds` is true of.
#[inline]
fn count(
    exec: &mut Exec<'_>,
    args: Args<'_>,
    mut holds: impl FnMut(&mut Exec<'_>, &Key<'_>) -> bool,
) -> Result<(), Refusal> {
    let mut count = 0;
    for_each_key(exec, args, 1, |exec, key, _| {
        count += i64::from(holds(exec, key));
        Ok(())
    })?;
    exec.integer(count);
    Ok(())
}

fn delete(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    count(exec, args, |exec, key| exec.ks.delete(key))
}

fn exists(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    count(exec, args, |exec, key| exec.ks.peek(key).is_some())
}

fn touch(exec: &mut Exec<'_>, args: Args<'_>) -> Result<(), Refusal> {
    count(exec, args, |exec, key| exec.ks.get(key).is_some())
}

fn kind(exec: &mut Exec<'_>, _: Args<'_>) {
    let name = exec.ks.peek(&exec.first_key).map_or("none", |entry| kind_name(entry.kind));
    resp::simple(exec.out.bytes(), name);
}
