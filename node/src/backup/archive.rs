//! A backup as a directory or as one tar file: the snapshot files, and the manifest behind them.
//!
//! It is made under a name that does not count, and gets its own when everything is synced.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::check::{self, Checked, Flaw};
use super::manifest::{self, Manifest};
use super::{FileName, failed};
use crate::failure::Failure;

/// What a tar file is made of.
const TAR_BLOCK: u64 = 512;
const BUFFER_BYTES: usize = 1 << 20;
/// A manifest is some hundred bytes a core.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Counts and checks what passes.
struct Measured<T> {
    inner: T,
    bytes: u64,
    crc32c: u32,
    bar: ProgressBar,
}

impl<T> Measured<T> {
    fn new(inner: T, bar: &ProgressBar) -> Self {
        Self { inner, bytes: 0, crc32c: 0, bar: bar.clone() }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
    }
}

impl<T: Read> Read for Measured<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.add(&buffer[..len]);
        self.bar.inc(len as u64);
        Ok(len)
    }
}

impl<T: Write> Write for Measured<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.add(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A backup that is being made.
pub(super) struct Writer {
    /// What it is called in the end, and until then.
    path: PathBuf,
    unfinished: PathBuf,
    /// One file, or else a directory.
    tar: Option<File>,
}

impl Writer {
    /// Begins one: a tar file if the name ends so. What an earlier attempt has left under the name that does not count goes.
    pub(super) fn begin(path: &Path) -> Result<Self, Failure> {
        let is_tar = path.extension().is_some_and(|extension| extension == "tar");
        let is_taken = match fs::metadata(path) {
            Ok(found) if found.is_dir() && !is_tar => {
                fs::read_dir(path).is_ok_and(|mut all| all.next().is_some())
            }
            Ok(_) => true,
            Err(_) => false,
        };
        if is_taken {
            let shown = path.display();
            return Err(Failure::Backup(format!("{shown} is there already: name a path where nothing is")));
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let cleared = match fs::metadata(&unfinished) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&unfinished),
            Ok(_) => fs::remove_file(&unfinished),
            Err(_) => Ok(()),
        };
        cleared.map_err(failed("remove", &unfinished))?;
        let tar = if is_tar {
            Some(File::create(&unfinished).map_err(failed("create", &unfinished))?)
        } else {
            fs::create_dir(&unfinished).map_err(failed("create", &unfinished))?;
            None
        };
        Ok(Self { path: path.to_owned(), unfinished, tar })
    }

    /// Copies a snapshot into it, checking it on the way.
    pub(super) fn add(
        &mut self,
        name: &FileName,
        from: &mut dyn Read,
        zstd_level: Option<i32>,
        bar: &ProgressBar,
    ) -> Result<Checked, Flaw> {
        let name = name.to_string();
        let mut from = Measured::new(from, bar);
        let compress = |to: &mut dyn Write| -> Result<_, Flaw> {
            let mut to = Measured::new(to, &ProgressBar::hidden());
            let snapshot = match zstd_level {
                None => check::copy(&mut from, &mut to)?,
                Some(level) => {
                    let mut encoder = zstd::stream::write::Encoder::new(&mut to, level)?;
                    let snapshot = check::copy(&mut from, &mut encoder)?;
                    encoder.finish()?;
                    snapshot
                }
            };
            Ok((snapshot, to.bytes, to.crc32c))
        };
        let (snapshot, bytes, crc32c) = self.add_file(&name, compress)?;
        let check::Snapshot { items, shards, info } = snapshot;
        Ok(Checked { name, bytes, crc32c, items, shards, info })
    }

    fn add_file<R>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<R, Flaw>,
    ) -> Result<R, Flaw> {
        if let Some(tar) = &mut self.tar {
            return add_to_tar(tar, name, write);
        }
        let path = self.unfinished.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&path)?);
        let written = write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(written)
    }

    /// Adds the manifest, syncs, and gives the backup its name.
    pub(super) fn finish(mut self, manifest: &Manifest) -> Result<(), Failure> {
        let at = self.unfinished.clone();
        let broken = |flaw| match flaw {
            Flaw::Io(error) => failed("write", &at)(error),
            Flaw::Damage(text) => Failure::Backup(text),
        };
        let text = manifest.text();
        if self.tar.is_none() {
            // The manifest lasts only if what it lists does.
            sync_tree(&self.unfinished).map_err(failed("sync", &self.unfinished))?;
        }
        self.add_file(manifest::NAME, |to| Ok(to.write_all(text.as_bytes())?)).map_err(broken)?;
        let synced = match &mut self.tar {
            Some(tar) => tar.write_all(&[0; 2 * TAR_BLOCK as usize]).and_then(|()| tar.sync_all()),
            None => File::open(&self.unfinished).and_then(|directory| directory.sync_all()),
        };
        synced.map_err(failed("sync", &self.unfinished))?;
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::rename(&self.unfinished, &self.path)
            .and_then(|()| File::open(parent)?.sync_all())
            .map_err(failed("rename", &self.unfinished))
    }

    /// Gives it up.
    pub(super) fn abandon(self) {
        // What is left over never counts, and the next attempt removes it.
        let _ = if self.tar.is_some() {
            fs::remove_file(&self.unfinished)
        } else {
            fs::remove_dir_all(&self.unfinished)
        };
    }
}

/// The length stands in front, and is known only behind: the header is written again.
fn add_to_tar<R>(
    tar: &mut File,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<R, Flaw>,
) -> Result<R, Flaw> {
    let start = tar.stream_position()?;
    tar.write_all(&[0; TAR_BLOCK as usize])?;
    let mut content = BufWriter::with_capacity(BUFFER_BYTES, &*tar);
    let written = write(&mut content)?;
    content.into_inner().map_err(io::IntoInnerError::into_error)?;
    let end = tar.stream_position()?;
    let len = end - start - TAR_BLOCK;
    tar.write_all(&[0; TAR_BLOCK as usize][..(len.next_multiple_of(TAR_BLOCK) - len) as usize])?;
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(len);
    header.set_mode(0o600);
    header.set_cksum();
    tar.seek(SeekFrom::Start(start))?;
    tar.write_all(header.as_bytes())?;
    tar.seek(SeekFrom::End(0))?;
    Ok(written)
}

/// Makes the names of all files below a directory last.
pub(super) fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        }
    }
    File::open(directory)?.sync_all()
}

/// Reads all of a backup and checks it; `place` says where to write the snapshots of it, if anywhere.
///
/// # Errors
/// [`Failure::Damaged`] if it is not whole, [`Failure::Backup`] if it cannot be read or written.
pub(super) fn read(
    path: &Path,
    bar: &ProgressBar,
    place: &dyn Fn(&FileName) -> Option<PathBuf>,
) -> Result<(Manifest, Vec<Checked>), Failure> {
    let found = fs::metadata(path).map_err(failed("read", path))?;
    let (manifest, checked) =
        if found.is_dir() { read_directory(path, bar, place)? } else { read_tar(path, bar, place)? };
    let Some(manifest) = manifest else {
        return Err(damaged(path, "it has no manifest.json: it was cut off, or is no backup"));
    };
    manifest.compare(&checked).map_err(|text| damaged(path, &text))?;
    Ok((manifest, checked))
}

/// Bytes that [`read`] will read, about.
pub(super) fn stored_bytes(path: &Path) -> u64 {
    let Ok(found) = fs::metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| stored_bytes(&entry.path())).sum()
}

type Found = (Option<Manifest>, Vec<Checked>);
type Place<'p> = &'p dyn Fn(&FileName) -> Option<PathBuf>;

fn read_directory(path: &Path, bar: &ProgressBar, place: Place<'_>) -> Result<Found, Failure> {
    let at = path.join(manifest::NAME);
    let text = match fs::read(&at) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
        Err(error) => return Err(failed("read", &at)(error)),
    };
    let manifest = Manifest::parse(&text).map_err(|text| damaged(&at, &text))?;
    let mut checked = Vec::new();
    for listed in &manifest.files {
        let file_path = path.join(&listed.name);
        let file = match File::open(&file_path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(path, &format!("{} is missing", listed.name)));
            }
            Err(error) => return Err(failed("read", &file_path)(error)),
        };
        let name = FileName::parse(&listed.name).expect("the manifest was checked");
        checked.push(read_file(&name, file, bar, place).map_err(|flaw| refuse(&file_path, flaw))?);
    }
    Ok((Some(manifest), checked))
}

fn read_tar(path: &Path, bar: &ProgressBar, place: Place<'_>) -> Result<Found, Failure> {
    let file = File::open(path).map_err(failed("read", path))?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER_BYTES, file));
    let broken = |error: io::Error| damaged(path, &format!("it is cut off or no tar file: {error}"));
    let (mut manifest, mut checked) = (None, Vec::new());
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if manifest.is_some() {
            return Err(damaged(path, &format!("{name} stands behind the manifest")));
        }
        let at = path.join(&name);
        if name == manifest::NAME {
            let mut text = Vec::new();
            entry.by_ref().take(MANIFEST_BYTES_MAX).read_to_end(&mut text).map_err(broken)?;
            manifest = Some(Manifest::parse(&text).map_err(|text| damaged(&at, &text))?);
            continue;
        }
        let Some(name) = FileName::parse(&name) else {
            return Err(damaged(path, &format!("{name:?} is not the name of a snapshot")));
        };
        checked.push(read_file(&name, entry, bar, place).map_err(|flaw| refuse(&at, flaw))?);
    }
    Ok((manifest, checked))
}

fn read_file(name: &FileName, from: impl Read, bar: &ProgressBar, place: Place<'_>) -> Result<Checked, Flaw> {
    let mut from = Measured::new(from, bar);
    let snapshot = match place(name) {
        None => decode(name, &mut from, &mut io::sink())?,
        Some(path) => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&path)?);
            let snapshot = decode(name, &mut from, &mut file)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            snapshot
        }
    };
    // Whatever stands behind the compressed bytes belongs to the checksum.
    io::copy(&mut from, &mut io::sink())?;
    let check::Snapshot { items, shards, info } = snapshot;
    if info.core != name.core || info.number != name.number {
        return Err(Flaw::Damage(format!("it is snapshot {} of core {}", info.number, info.core)));
    }
    Ok(Checked { name: name.to_string(), bytes: from.bytes, crc32c: from.crc32c, items, shards, info })
}

fn decode(name: &FileName, from: &mut dyn Read, to: &mut dyn Write) -> Result<check::Snapshot, Flaw> {
    if !name.is_zstd {
        return check::copy(from, to);
    }
    let mut decoder = zstd::stream::read::Decoder::new(from)?.single_frame();
    match check::copy(&mut decoder, to) {
        // What zstd cannot make sense of is damage, not a disk that fails.
        Err(Flaw::Io(error)) if error.raw_os_error().is_none() => Err(Flaw::Damage(error.to_string())),
        other => other,
    }
}

fn refuse(path: &Path, flaw: Flaw) -> Failure {
    match flaw {
        Flaw::Damage(text) => damaged(path, &text),
        Flaw::Io(error) if error.raw_os_error().is_none() => {
            damaged(path, &format!("it is cut off: {error}"))
        }
        Flaw::Io(error) => Failure::Backup(format!("cannot copy {}: {error}", path.display())),
    }
}

fn damaged(path: &Path, text: &str) -> Failure {
    Failure::Damaged(format!("the backup cannot be used: {}: {text}; take another one", path.display()))
}
