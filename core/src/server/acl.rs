//! ACL: there is one user, `default`, who may do everything without a password. Told, not changed.

use pinnace_protocol::Args;
use pinnace_protocol::resp;

use super::command::{CATEGORIES, categories_of};
use super::reply::{ADMIN, CONNECTION, INFORMATION, container, doc, fail, help, session, shown};
use crate::command::{CommandSpec, Flags, SessionRun};
use crate::core::Core;
use crate::gather::{Outcome, SessionRef};

const fn told(
    name: &'static str,
    arity: i16,
    flags: Flags,
    run: SessionRun,
    summary: &'static str,
) -> CommandSpec {
    session(name, arity, flags, run, doc("server", "6.0.0", summary, "O(1)"))
}

pub(super) static SPECS: &[CommandSpec] = &[
    container("acl", doc("server", "6.0.0", "Commands on users", "")),
    told("acl|whoami", 2, CONNECTION, whoami, "Tells the user of the connection"),
    told("acl|cat", -2, CONNECTION, cat, "Lists the categories of commands, or the commands of one"),
    told("acl|users", 2, ADMIN, users, "Lists the users"),
    told("acl|list", 2, ADMIN, list, "Lists the users and what they may do"),
    told("acl|getuser", 3, ADMIN, getuser, "Tells what a user may do"),
    told("acl|help", 2, INFORMATION, acl_help, "Shows the subcommands"),
];

fn whoami(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    resp::bulk(out, b"default");
    Outcome::Replied
}

fn cat(core: &mut Core, _session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(wanted) = args.get(2) else { return write_list(out, &CATEGORIES) };
    let Some(category) = CATEGORIES.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(wanted)) else {
        return fail(core, out, &format!("ERR Unknown category '{}'", shown(wanted)));
    };
    let public = core.table.iter().map(|(_, spec)| spec).filter(|spec| !spec.name.starts_with('_'));
    let names: Vec<&str> =
        public.filter(|spec| categories_of(spec).contains(category)).map(|spec| spec.name).collect();
    write_list(out, &names)
}

fn write_list(out: &mut Vec<u8>, names: &[&str]) -> Outcome {
    resp::array(out, names.len());
    names.iter().for_each(|name| resp::bulk(out, name.as_bytes()));
    Outcome::Replied
}

fn users(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    write_list(out, &["default"])
}

fn list(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    write_list(out, &["user default on nopass sanitize-payload ~* &* +@all"])
}

fn getuser(_core: &mut Core, session: SessionRef, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.at(2) != b"default" {
        resp::null(out, session.resp);
        return Outcome::Replied;
    }
    resp::map(out, session.resp, 6);
    resp::bulk(out, b"flags");
    resp::set(out, session.resp, 3);
    ["on", "nopass", "sanitize-payload"].iter().for_each(|flag| resp::bulk(out, flag.as_bytes()));
    resp::bulk(out, b"passwords");
    resp::array(out, 0);
    for (name, rule) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        resp::bulk(out, name.as_bytes());
        resp::bulk(out, rule.as_bytes());
    }
    resp::bulk(out, b"selectors");
    resp::array(out, 0);
    Outcome::Replied
}

fn acl_help(_core: &mut Core, _session: SessionRef, _args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    help(
        out,
        "ACL",
        &[
            "CAT [<category>]",
            "    List all commands that belong to <category>, or all command categories",
            "    when no category is specified.",
            "GETUSER <username>",
            "    Get the user's details.",
            "LIST",
            "    Show users details in config file format.",
            "USERS",
            "    List all the registered usernames.",
            "WHOAMI",
            "    Return the current connection username.",
        ],
    )
}
