//! Reads a snapshot as a stream and believes none of it unchecked.

use std::io::{self, Read, Write};

use pinnace_protocol::native::{self, NativeLimits};
use pinnace_wal::snapshot::{SnapshotEvent, SnapshotInfo, SnapshotReader, Trailer};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A file of a backup that was read to its end.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) name: String,
    /// As stored.
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
    pub(super) items: u64,
    pub(super) shards: Vec<u16>,
    pub(super) info: SnapshotInfo,
}

/// Why a snapshot cannot be taken.
#[derive(Debug)]
pub(super) enum Flaw {
    /// Reading or writing went wrong.
    Io(io::Error),
    /// It is damaged.
    Damage(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A snapshot that was read whole.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) items: u64,
    pub(super) shards: Vec<u16>,
    pub(super) info: SnapshotInfo,
}

/// Reads a snapshot to its end and writes it on.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<Snapshot, Flaw> {
    let mut check = Check::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let len = match from.read(&mut chunk) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if len == 0 {
            break;
        }
        check.take(&chunk[..len]).map_err(Flaw::Damage)?;
        to.write_all(&chunk[..len])?;
    }
    check.finish().map_err(Flaw::Damage)
}

#[derive(Default)]
struct Check {
    reader: SnapshotReader,
    rest: Vec<u8>,
    info: Option<SnapshotInfo>,
    footer_offset: u64,
    items: u64,
    shards: Vec<u16>,
}

impl Check {
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.rest.extend_from_slice(bytes);
        let mut used = 0;
        while !self.reader.is_done() {
            let offset = self.reader.offset();
            let Some((event, len)) =
                self.reader.read(&self.rest[used..]).map_err(|error| error.to_string())?
            else {
                break;
            };
            match event {
                SnapshotEvent::Header(info) => self.info = Some(info),
                SnapshotEvent::Frames(_, frames) => {
                    check_frames(frames).map_err(|error| format!("damaged at offset {offset}: {error}"))?;
                }
                SnapshotEvent::SectionEnd(section) => {
                    self.items += section.items;
                    self.shards.push(section.group);
                }
                SnapshotEvent::End => self.footer_offset = offset,
                SnapshotEvent::SectionBegin(_) => {}
            }
            used += len;
        }
        self.rest.drain(..used);
        Ok(())
    }

    fn finish(self) -> Result<Snapshot, String> {
        let Some(info) = self.info.filter(|_| self.reader.is_done()) else {
            return Err(format!("cut off at offset {}", self.reader.offset() + self.rest.len() as u64));
        };
        let trailer = Trailer::decode(&self.rest).map_err(|error| format!("its end is damaged: {error}"))?;
        if trailer.footer_offset != self.footer_offset || trailer.nonce != info.nonce {
            return Err("its end is that of another file".to_owned());
        }
        Ok(Snapshot { items: self.items, shards: self.shards, info })
    }
}

fn check_frames(mut frames: &[u8]) -> Result<(), String> {
    while !frames.is_empty() {
        match native::decode(frames, &NativeLimits::FORMAT) {
            Ok(Some((_, len))) => frames = &frames[len..],
            Ok(None) => return Err("a frame is cut off".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}
