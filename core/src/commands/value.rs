//! Values on their way from the keyspace to a reply or into a new value.

use std::ops::Range;

use pinnace_engine::{Entry, Key, PinnedValue, ValueKind, ValueRef, WriteError};
use pinnace_protocol::{OutBuf, Slices, resp};
use pinnace_types::Deadline;

use super::argument::check_length;
use super::refusal::{Refusal, WRONG_TYPE};
use crate::exec::Exec;

/// The bytes of an entry that has to be a string.
#[inline]
pub(super) fn string<'e>(entry: &Entry<'e>) -> Result<ValueRef<'e>, Refusal> {
    if entry.kind == ValueKind::String { Ok(entry.value) } else { Err(WRONG_TYPE.into()) }
}

/// The name of a data type, as TYPE replies.
pub(super) fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::String => "string",
    }
}

/// Appends a bulk string: copied if it is small, shared until it is sent if it is large.
#[inline]
pub(super) fn push_value(out: &mut OutBuf<PinnedValue>, value: ValueRef<'_>) {
    match value {
        ValueRef::Bytes(bytes) => resp::bulk(out.bytes(), bytes),
        ValueRef::Large(large) => push_large(out, large.clone()),
    }
}

#[cold]
fn push_large(out: &mut OutBuf<PinnedValue>, large: PinnedValue) {
    resp::bulk_header(out.bytes(), large.len());
    out.push_pinned(large);
    resp::crlf(out.bytes());
}

/// A value that outlives the write which replaces it.
pub(super) enum Taken {
    /// There was none.
    Absent,
    /// It is in the scratch buffer.
    Copied,
    /// It is large and stays where it is.
    Pinned(PinnedValue),
}

impl Taken {
    /// Takes hold of a value.
    pub(super) fn take(value: ValueRef<'_>, scratch: &mut Vec<u8>) -> Self {
        match value {
            ValueRef::Bytes(bytes) => {
                scratch.clear();
                scratch.extend_from_slice(bytes);
                Self::Copied
            }
            ValueRef::Large(large) => Self::Pinned(large.clone()),
        }
    }

    /// Replies with the value; `scratch` must not have changed since it was taken.
    pub(super) fn reply(self, exec: &mut Exec<'_>) {
        match self {
            Self::Absent => resp::null(exec.out.bytes(), exec.resp),
            Self::Copied => resp::bulk(exec.out.bytes(), exec.scratch),
            Self::Pinned(large) => push_large(exec.out, large),
        }
    }
}

/// Appends the bytes of `range`, as far as the value has them.
pub(super) fn copy_range(value: ValueRef<'_>, range: Range<usize>, out: &mut Vec<u8>) {
    let mut base = 0;
    for slice in value.slices() {
        let within = |position: usize| position.clamp(base, base + slice.len()) - base;
        out.extend_from_slice(&slice[within(range.start)..within(range.end)]);
        base += slice.len();
    }
}

/// The slices that a large value lies in.
pub(super) fn slices_of(large: &PinnedValue) -> Vec<&[u8]> {
    (0..large.slice_count()).map(|index| large.slice(index)).collect()
}

/// The scratch buffer is kept from command to command up to this size.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Gives the memory of a large scratch buffer back: it lies outside of the budget.
#[inline]
pub(super) fn shrink_scratch(scratch: &mut Vec<u8>) {
    if scratch.capacity() > SCRATCH_BYTES_MAX {
        *scratch = Vec::new();
    }
}

/// Zeros behind the string in the scratch buffer until it has `len` bytes. Refuses to build in
/// memory what the keyspace could not hold anyway.
pub(super) fn grow(exec: &mut Exec<'_>, len: u64) -> Result<(), Refusal> {
    check_length(len, exec.limits)?;
    if len > exec.scratch.len() as u64 {
        if len > SCRATCH_BYTES_MAX as u64 && len > exec.ks.memory().budget {
            return Err(WriteError::OutOfMemory.into());
        }
        exec.scratch.resize(len as usize, 0);
    }
    Ok(())
}

/// Copies the string at `key` to the scratch buffer, which is left empty if there is none. Gives its
/// deadline, or `None` if it is absent.
pub(super) fn load(exec: &mut Exec<'_>, key: &Key<'_>) -> Result<Option<Deadline>, Refusal> {
    exec.scratch.clear();
    let Some(entry) = exec.ks.peek(key) else { return Ok(None) };
    string(&entry)?.copy_to(exec.scratch);
    Ok(Some(entry.deadline))
}

/// Writes the scratch buffer to `key`.
pub(super) fn store(exec: &mut Exec<'_>, key: &Key<'_>, deadline: Option<Deadline>) -> Result<(), Refusal> {
    Ok(exec.ks.set(key, exec.scratch, deadline.unwrap_or(Deadline::NEVER))?)
}
