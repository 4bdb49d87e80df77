//! What must not be shown to others: passwords in AUTH and HELLO.

use pinnace_protocol::Args;

pub(super) const REDACTED: &[u8] = b"(redacted)";

/// Whether argument `index` must not be shown by MONITOR or SLOWLOG.
pub(super) fn is_secret(args: Args<'_>, index: usize) -> bool {
    let name = args.at(0);
    if name.eq_ignore_ascii_case(b"auth") {
        return index > 0;
    }
    if !name.eq_ignore_ascii_case(b"hello") {
        return false;
    }
    let login = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"auth"));
    login.is_some_and(|at| index == at + 1 || index == at + 2)
}
