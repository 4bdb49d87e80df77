//! CLUSTER: a single node is not a cluster and says so, as Redis does. Only KEYSLOT, which is plain
//! arithmetic, is answered.

use pinnace_protocol::Args;
use pinnace_protocol::resp;
use pinnace_types::key_slot;

use super::reply::{container, doc, fail, session};
use crate::command::{CommandSpec, Flags, SessionRun};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};

pub(super) const NO_CLUSTER: &str = "ERR This instance has cluster support disabled";

const fn refused(name: &'static str, since: &'static str) -> CommandSpec {
    let run: SessionRun = |core, _, _, out| fail(core, out, NO_CLUSTER);
    session(name, 2, Flags::STALE, run, doc("cluster", since, "Refused: this node is no cluster", "O(1)"))
}

pub(super) static SPECS: &[CommandSpec] = &[
    container("cluster", doc("cluster", "3.0.0", "Commands on clusters", "")),
    session(
        "cluster|keyslot",
        3,
        Flags::STALE,
        keyslot,
        doc("cluster", "3.0.0", "Tells the hash slot of a key", "O(N) for a key of N bytes"),
    ),
    refused("cluster|info", "3.0.0"),
    refused("cluster|myid", "3.0.0"),
    refused("cluster|nodes", "3.0.0"),
    refused("cluster|shards", "7.0.0"),
    refused("cluster|slots", "3.0.0"),
    refused("cluster|help", "5.0.0"),
];

fn keyslot(_core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    resp::integer(out, i64::from(key_slot(args.at(2)).0));
    Outcome::Replied
}
