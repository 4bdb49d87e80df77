//! CONFIG: GET tells the truth about what Redis' clients and tools ask for; SET changes what can be
//! changed while the node runs, on every core, and refuses the rest. Everything else is set by
//! flags, environment and the configuration file before the node starts.

mod parameters;

use std::collections::{BTreeMap, BTreeSet};

use pinnace_engine::value::glob;
use pinnace_protocol::Args;
use pinnace_protocol::resp::{self, Version};
use pinnace_types::ByteSize;

use self::parameters::{Kind, PARAMETERS, Parameter};
use super::reply::{
    ADMIN, INFORMATION, SYNTAX_ERROR, all_args, ask_all, container, doc, fail, gathered, help, reply,
    session, shown,
};
use crate::command::CommandSpec;
use crate::core::Core;
use crate::gather::{Continuation, Outcome, SessionRef};

const COST: &str = "O(N) for N parameters";

pub(super) static SPECS: &[CommandSpec] = &[
    container("config", doc("server", "2.0.0", "Commands on the configuration", "")),
    session("config|get", -3, ADMIN, get, doc("server", "2.0.0", "Shows parameters and their values", COST)),
    gathered(
        session(
            "config|set",
            -4,
            ADMIN,
            set,
            doc("server", "2.0.0", "Changes parameters while the node runs", COST),
        ),
        set_part,
    ),
    gathered(
        session(
            "config|resetstat",
            2,
            ADMIN,
            reset_stat,
            doc("server", "2.0.0", "Sets statistics to zero", "O(1)"),
        ),
        reset_stat_part,
    ),
    session(
        "config|rewrite",
        2,
        ADMIN,
        rewrite,
        doc("server", "2.8.0", "Refused: the configuration file belongs to its author", "O(1)"),
    ),
    session(
        "config|help",
        2,
        INFORMATION,
        config_help,
        doc("server", "5.0.0", "Shows the subcommands", "O(1)"),
    ),
];

pub(super) fn latency_percentiles(core: &Core) -> &[f64] {
    &core.server.settings.latency_percentiles
}

pub(super) fn memory_policy_name(core: &Core) -> String {
    parameters::find(b"maxmemory-policy").map_or_else(String::new, |parameter| (parameter.get)(core))
}

fn get(core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    // What is asked for by its whole name is called as it was asked for, in whatever case.
    let mut found: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
    for pattern in args.iter().skip(2) {
        if let Some(parameter) = parameters::find(&pattern.to_ascii_lowercase()) {
            found.entry(parameter.name).or_insert_with(|| pattern.to_vec());
            continue;
        }
        let matches = |parameter: &&Parameter| glob::matches_ignore_case(pattern, parameter.name.as_bytes());
        for parameter in PARAMETERS.iter().filter(matches) {
            found.entry(parameter.name).or_insert_with(|| parameter.name.into());
        }
    }
    resp::map(out, session.resp, found.len());
    for (name, shown) in found {
        let Some(parameter) = parameters::find(name.as_bytes()) else { continue };
        resp::bulk(out, &shown);
        resp::bulk(out, (parameter.get)(core).as_bytes());
    }
    Outcome::Replied
}

/// Checks all parameters before it changes any: either all are set, or none.
fn set(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return fail(core, out, SYNTAX_ERROR);
    }
    let mut seen = BTreeSet::new();
    for index in (2..args.len()).step_by(2) {
        let name = args.at(index).to_ascii_lowercase();
        let Some(parameter) = parameters::find(&name) else {
            let name = shown(args.at(index));
            let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
            return fail(core, out, &text);
        };
        let checked = if seen.insert(parameter.name) {
            check(core, parameter, args.at(index + 1))
        } else {
            Err("duplicate parameter".to_owned())
        };
        if let Err(why) = checked {
            let (name, failed) = (parameter.name, "CONFIG SET failed (possibly related to argument");
            return fail(core, out, &format!("ERR {failed} '{name}') - {why}"));
        }
    }
    let join: Continuation = Box::new(|_, _, _| reply(|out| resp::simple(out, "OK")));
    Outcome::Gather(ask_all(core, "config|set", &all_args(args), join).with_barrier())
}

const IMMUTABLE: &str = "can't set immutable config";

fn check(core: &Core, parameter: &Parameter, value: &[u8]) -> Result<(), String> {
    let Ok(value) = std::str::from_utf8(value) else { return Err("argument must be text".to_owned()) };
    match &parameter.kind {
        Kind::Immutable => Err(IMMUTABLE.to_owned()),
        // Tools set these before they start, mostly to what they are anyway.
        Kind::Fixed if is_same(&(parameter.get)(core), value) => Ok(()),
        Kind::Fixed => Err(IMMUTABLE.to_owned()),
        Kind::Settable { check, .. } => check(value),
    }
}

/// `4gb` is the same as 4294967296.
fn is_same(now: &str, value: &str) -> bool {
    let size = |text: &str| text.parse::<ByteSize>().ok();
    now.eq_ignore_ascii_case(value) || (size(now).is_some() && size(now) == size(value))
}

/// Changes this core's copy. The values have been checked by the core that was asked.
fn set_part(core: &mut Core, args: Args<'_>, _version: Version, _out: &mut Vec<u8>) {
    for index in (2..args.len()).step_by(2) {
        let name = args.at(index).to_ascii_lowercase();
        if let Some(Parameter { kind: Kind::Settable { apply, .. }, .. }) = parameters::find(&name)
            && let Ok(value) = std::str::from_utf8(args.at(index + 1))
        {
            apply(core, value);
        }
    }
}

fn reset_stat(core: &mut Core, _session: SessionRef, args: Args<'_>, _out: &mut Vec<u8>) -> Outcome {
    let join: Continuation = Box::new(|_, _, _| reply(|out| resp::simple(out, "OK")));
    Outcome::Gather(ask_all(core, "config|resetstat", &all_args(args), join).with_barrier())
}

fn reset_stat_part(core: &mut Core, _args: Args<'_>, _version: Version, _out: &mut Vec<u8>) {
    core.stats.reset();
    core.carry_changes();
    core.ks.reset_stats();
    super::info::reset_rates(core);
}

fn rewrite(core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if core.config.node.config_file.is_empty() {
        return fail(core, out, "ERR The server is running without a config file");
    }
    fail(core, out, "ERR Rewriting config file: Operation not supported")
}

fn config_help(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    help(
        out,
        "CONFIG",
        &[
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
            "RESETSTAT",
            "    Reset statistics reported by the INFO command.",
            "REWRITE",
            "    Rewrite the configuration file.",
        ],
    )
}
