//! `dump`: the records of a log, one a line, and the frames of entries below them.

use std::fmt::Write as _;

use pinnace_protocol::native::{self, NativeLimits, Opcode};
use pinnace_types::LogPosition;
use pinnace_wal::{HardState, Record, RecordKind};

use super::store::{CoreFiles, Store};
use crate::failure::Failure;

/// Longest piece of a key that is shown.
const KEY_BYTES_SHOWN_MAX: usize = 120;

/// Prints what stands from `from` to `to`; up to the first damage, which is the failure then.
pub(super) fn dump(store: &Store, from: LogPosition, to: LogPosition) -> Result<(), Failure> {
    for files in &store.cores {
        crate::print(&format!("core {}\n", files.core.0));
        dump_core(files, from, to)?;
    }
    Ok(())
}

fn dump_core(files: &CoreFiles, from: LogPosition, to: LogPosition) -> Result<(), Failure> {
    let mut reader = files.reader()?;
    let damaged = |error| files.damaged(&error);
    for index in 0..reader.segments().len() {
        let number = reader.segments()[index].number;
        let bytes = files.read(number)?;
        reader.begin_segment(index).map_err(damaged)?;
        while let Some(commit) = reader.next_commit(&bytes).map_err(damaged)? {
            let position = commit.header.position;
            if position < from {
                continue;
            }
            if position >= to {
                return Ok(());
            }
            let mut out = format!(
                "{position} segment {number:016} offset {} commit {} bytes {} synced through {}\n",
                commit.offset, commit.header.number, commit.header.len, commit.header.synced_through
            );
            commit.records().for_each(|record| print_record(&mut out, &record));
            crate::print(&out);
        }
    }
    Ok(())
}

fn print_record(out: &mut String, record: &Record<'_>) {
    let group = record.group.0;
    let _ = match record.kind {
        RecordKind::Entry => {
            let _ = writeln!(out, "  shard {group} term {} index {}", record.term, record.index);
            print_frames(out, record.payload);
            Ok(())
        }
        RecordKind::HardState => match HardState::decode(record.payload) {
            Ok(state) => writeln!(out, "  shard {group} hard state {state:?}"),
            Err(error) => writeln!(out, "  shard {group} hard state: {error}"),
        },
        RecordKind::Truncation => writeln!(out, "  shard {group} cut behind index {}", record.index),
    };
}

fn print_frames(out: &mut String, mut payload: &[u8]) {
    while !payload.is_empty() {
        let Ok(Some((frame, len))) = native::decode(payload, &NativeLimits::FORMAT) else {
            let _ = writeln!(out, "    {} bytes that are no frame", payload.len());
            return;
        };
        payload = &payload[len..];
        let name = match frame.opcode {
            Opcode::SET => "SET",
            Opcode::DELETE => "DELETE",
            Opcode::TOUCH => "TOUCH",
            _ => "frame",
        };
        let shown = &frame.key[..frame.key.len().min(KEY_BYTES_SHOWN_MAX)];
        let _ = writeln!(
            out,
            "    {name} {:#04x} \"{}\" value {} bytes deadline {}",
            frame.opcode.0,
            shown.escape_ascii(),
            frame.value.len(),
            frame.deadline
        );
    }
}
