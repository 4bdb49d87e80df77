//! DEBUG: off unless the node was started with it on. Only SLEEP.
//!
//! DEBUG SLEEP holds back the caller's reply and its next commands for that time. Unlike Redis',
//! it stops nobody else: a core that slept would stall all its connections and every core that
//! waits for it, which is nothing to offer to a client.

use pinnace_protocol::Args;
use pinnace_protocol::resp;

use super::reply::{ADMIN, doc, fail, help, session, shown};
use crate::command::CommandSpec;
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};

pub(super) static SPECS: &[CommandSpec] = &[session(
    "debug",
    -2,
    ADMIN,
    debug,
    doc("server", "1.0.0", "Commands for tests", "Depends on the subcommand"),
)];

const REFUSED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you \
     can run it from a local connection, otherwise you need to set this option in the configuration file, and \
     then restart the server.";
/// Longest sleep: a day, so that no sum of times can overflow.
const SLEEP_SECONDS_MAX: f64 = 86_400.0;

fn debug(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if !core.config.node.debug_commands {
        return fail(core, out, REFUSED);
    }
    let sub = args.at(1);
    if sub.eq_ignore_ascii_case(b"sleep") && args.len() == 3 {
        return sleep(core, args.at(2), out);
    }
    if sub.eq_ignore_ascii_case(b"help") && args.len() == 2 {
        return help(
            out,
            "DEBUG",
            &["SLEEP <seconds>", "    Hold back the caller's reply for <seconds>. Decimals allowed."],
        );
    }
    let text =
        format!("ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.", shown(sub));
    fail(core, out, &text)
}

/// What is no number is 0, as in Redis.
fn sleep(core: &Core, seconds: &[u8], out: &mut Vec<u8>) -> Outcome {
    let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse::<f64>().ok());
    let seconds = seconds.filter(|seconds| seconds.is_finite()).unwrap_or(0.0).clamp(0.0, SLEEP_SECONDS_MAX);
    resp::simple(out, "OK");
    Outcome::ReplyAt { monotonic_ns: core.time.monotonic_ns + (seconds * 1e9) as u64 }
}
