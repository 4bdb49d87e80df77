//! CLIENT: what a connection may ask about itself and others, on whichever core they are.

mod filter;
mod list;
mod own;
mod pause;

use super::reply::{ADMIN, CONNECTION, INFORMATION, container, doc, gathered, session};
use crate::command::{CommandSpec, SessionRun};

const fn connection(
    name: &'static str,
    arity: i16,
    run: SessionRun,
    since: &'static str,
    summary: &'static str,
) -> CommandSpec {
    session(name, arity, CONNECTION, run, doc("connection", since, summary, "O(1)"))
}

const fn admin(
    name: &'static str,
    arity: i16,
    run: SessionRun,
    since: &'static str,
    summary: &'static str,
) -> CommandSpec {
    session(name, arity, ADMIN, run, doc("connection", since, summary, "O(N) for N connections"))
}

pub(super) static SPECS: &[CommandSpec] = &[
    container("client", doc("connection", "2.4.0", "Commands on connections", "")),
    connection("client|id", 2, own::id, "5.0.0", "Shows the number of the connection"),
    connection("client|getname", 2, own::getname, "2.6.9", "Shows the connection's name"),
    connection("client|setname", 3, own::setname, "2.6.9", "Names the connection"),
    connection("client|setinfo", 4, own::setinfo, "7.2.0", "Tells the client library's name or version"),
    connection("client|info", 2, list::info, "6.2.0", "Shows what CLIENT LIST shows, of this connection"),
    connection("client|reply", 3, own::reply_mode, "3.2.0", "Chooses whether replies are sent"),
    admin(
        "client|no-evict",
        3,
        own::no_evict,
        "7.0.0",
        "Marks the connection as one not to be closed for memory",
    ),
    connection(
        "client|no-touch",
        3,
        own::no_touch,
        "7.2.0",
        "Marks the connection as one whose reads do not count",
    ),
    connection("client|trackinginfo", 2, own::trackinginfo, "6.2.0", "Shows that tracking is off"),
    connection("client|getredir", 2, own::getredir, "6.0.0", "Shows that tracking is off"),
    connection(
        "client|tracking",
        -3,
        own::tracking,
        "6.0.0",
        "Refused unless it says OFF: keys are not tracked",
    ),
    connection("client|caching", 3, own::caching, "6.0.0", "Refused: keys are not tracked"),
    admin("client|unblock", -3, own::unblock, "5.0.0", "Answers 0: no command blocks"),
    gathered(
        admin("client|list", -2, list::list, "2.4.0", "Shows the connections of all cores"),
        list::list_part,
    ),
    gathered(
        admin("client|kill", -3, filter::kill, "2.4.0", "Closes connections of any core"),
        filter::kill_part,
    ),
    gathered(
        admin("client|pause", -3, pause::pause, "3.0.0", "Makes all commands, or those that write, wait"),
        pause::pause_part,
    ),
    gathered(
        admin("client|unpause", 2, pause::unpause, "6.2.0", "Lets waiting commands go on"),
        pause::unpause_part,
    ),
    session(
        "client|help",
        2,
        INFORMATION,
        own::client_help,
        doc("connection", "5.0.0", "Shows the subcommands", "O(1)"),
    ),
];
