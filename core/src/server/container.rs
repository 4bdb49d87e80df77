//! Commands that are made of subcommands (CLIENT, CONFIG ...). Each subcommand stands in the table
//! under its full name, `client|list`, with its own arity, flags and statistics.

use pinnace_protocol::Args;

use super::reply::shown;
use crate::command::{CommandId, CommandTable};

const NAME_BYTES_MAX: usize = 32;

/// The command that a call of a container means, or the error text Redis gives.
///
/// # Errors
/// For a subcommand that does not exist, or has another number of arguments.
pub(crate) fn resolve(
    table: &CommandTable,
    container: CommandId,
    args: Args<'_>,
) -> Result<CommandId, String> {
    let name = table.spec(container).name;
    let Some(sub) = args.get(1) else {
        let accepted = table.spec(container).accepts(1);
        return if accepted { Ok(container) } else { Err(wrong_arity(name)) };
    };
    let Some(id) = find(table, name, sub) else {
        let (shown, upper) = (shown(sub), name.to_ascii_uppercase());
        return Err(format!("ERR unknown subcommand '{shown}'. Try {upper} HELP."));
    };
    if !table.spec(id).accepts(args.len()) {
        return Err(wrong_arity(table.spec(id).name));
    }
    Ok(id)
}

fn wrong_arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

fn find(table: &CommandTable, container: &str, sub: &[u8]) -> Option<CommandId> {
    let mut name = [0u8; NAME_BYTES_MAX];
    let at = container.len() + 1;
    name[..at - 1].copy_from_slice(container.as_bytes());
    name[at - 1] = b'|';
    name.get_mut(at..at + sub.len())?.copy_from_slice(sub);
    table.id(&name[..at + sub.len()])
}
