//! INFO: the whole node in one text. Every core sends its counters, the asked core adds them up.
//!
//! Fields have the names that dashboards read and are only there if the number behind them is real.

mod rates;
mod sample;
mod sections;

pub(super) use rates::{Rates, reset_rates, sample_rates};
pub(super) use sample::{Sample, memory_in_use};

use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};

use self::sections::SECTIONS;
use super::reply::{INFORMATION, all_args, ask_all, doc, gathered, reply, session};
use crate::command::CommandSpec;
use crate::core::Core;
use crate::gather::{Continuation, Outcome, SessionRef};

pub(super) static SPECS: &[CommandSpec] = &[gathered(
    session(
        "info",
        -1,
        INFORMATION,
        info,
        doc("server", "1.0.0", "Tells about the node", "O(N) for N commands"),
    ),
    info_part,
)];

fn info(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let names: Vec<String> =
        args.iter().skip(1).map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    let join: Continuation = Box::new(move |core, session, parts| {
        let sample = Sample::join(&parts);
        let text = render(core, &sample, &names);
        reply(|out| resp::verbatim(out, session.resp, "txt", text.as_bytes()))
    });
    Outcome::Gather(ask_all(core, "info", &all_args(args), join))
}

fn info_part(core: &mut Core, args: Args<'_>, _version: Version, out: &mut Vec<u8>) {
    const NEED_LATENCIES: [&[u8]; 3] = [b"latencystats", b"all", b"everything"];
    let latencies = args.iter().any(|arg| NEED_LATENCIES.iter().any(|name| name.eq_ignore_ascii_case(arg)));
    Sample::of(core).encode(latencies, out);
}

fn render(core: &Core, sample: &Sample, names: &[String]) -> String {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let all = has("all") || has("everything");
    let default = names.is_empty() || has("default");
    let mut text = String::new();
    for section in SECTIONS {
        if all || (default && section.by_default) || has(&section.title.to_ascii_lowercase()) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str("# ");
            text.push_str(section.title);
            text.push_str("\r\n");
            (section.write)(core, sample, &mut text);
        }
    }
    text
}
