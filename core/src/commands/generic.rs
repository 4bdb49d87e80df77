//! Commands that do not care what a value is.
//!
//! EXISTS and TYPE count neither hits nor misses and do not keep a key from eviction; TOUCH does.

use pinnace_protocol::{Args, resp};

use super::value::kind_name;
use super::{READ_FAST, WRITE, WRITE_FAST, docs, spec};
use crate::command::{CommandSpec, Flags, KeySpec, Run, Split};
use crate::exec::Exec;

pub(super) static SPECS: &[CommandSpec] = &[
    spec(
        "del",
        -2,
        WRITE.and(Flags::SHORT),
        KeySpec::ALL,
        Run::KeyedSplit(delete, Split::Sum),
        docs("generic", "1.0.0", "O(N) with N the number of keys", "Deletes keys."),
    ),
    spec(
        "unlink",
        -2,
        WRITE_FAST,
        KeySpec::ALL,
        Run::KeyedSplit(delete, Split::Sum),
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
        Run::KeyedSplit(exists, Split::Sum),
        docs("generic", "1.0.0", "O(N) with N the number of keys", "Counts the given keys that exist."),
    ),
    spec(
        "touch",
        -2,
        READ_FAST,
        KeySpec::ALL,
        Run::KeyedSplit(touch, Split::Sum),
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

fn count(exec: &mut Exec<'_>, args: Args<'_>, mut holds: impl FnMut(&mut Exec<'_>, &[u8]) -> bool) {
    let count = args.from(1).iter().filter(|key| holds(exec, key)).count();
    exec.integer(count as i64);
}

fn delete(exec: &mut Exec<'_>, args: Args<'_>) {
    count(exec, args, |exec, bytes| {
        let key = exec.ks.key(bytes);
        exec.ks.delete(&key)
    });
}

fn exists(exec: &mut Exec<'_>, args: Args<'_>) {
    count(exec, args, |exec, bytes| {
        let key = exec.ks.key(bytes);
        exec.ks.peek(&key).is_some()
    });
}

fn touch(exec: &mut Exec<'_>, args: Args<'_>) {
    count(exec, args, |exec, bytes| {
        let key = exec.ks.key(bytes);
        exec.ks.get(&key).is_some()
    });
}

fn kind(exec: &mut Exec<'_>, _: Args<'_>) {
    let name = exec.ks.peek(&exec.first_key).map_or("none", |entry| kind_name(entry.kind));
    resp::simple(exec.out.bytes(), name);
}
