//! `pinnace backup` and `pinnace restore`: the snapshots of all cores of a running node as a directory or one file, and a
//! data directory made of them.

mod archive;
mod check;
mod live;
mod manifest;
mod restore;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use pinnace_types::ByteSize;

use crate::config::Settings;
use crate::failure::Failure;
use crate::host;
use crate::import::endpoint::{self, Endpoint};
use crate::import::progress::{Unit, bar};
use archive::Writer;
use check::{Checked, Flaw};
use manifest::{Manifest, ManifestFile};

/// What to do with a backup.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    action: Option<BackupAction>,

    /// Where to write the backup: a directory that is not there yet, or a file whose name ends in .tar
    #[arg(long, value_name = "DIR|FILE", required = true)]
    to: Option<PathBuf>,

    /// The running node, as host:port or redis://[user:password@]host[:port] [default: --bind and --port of the configuration]
    #[arg(long, value_name = "HOST:PORT|URL")]
    from: Option<Endpoint>,

    /// Compress with zstd, 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    zstd: Option<i32>,
}

#[derive(Subcommand, Debug)]
enum BackupAction {
    /// Reads all of a backup and checks it; ends with code 19 if it cannot be used
    Verify {
        /// The backup
        #[arg(value_name = "DIR|FILE")]
        path: PathBuf,
    },
}

/// What to restore.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "DIR|FILE")]
    from: PathBuf,

    /// Put aside what is in the data directory, into before-restore-TIME within it
    #[arg(long)]
    force: bool,
}

/// The name of a snapshot in a backup: `snapshots/core-0003/0000000000000001.snap`, with `.zst` if it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileName {
    core: u16,
    number: u64,
    is_zstd: bool,
}

impl FileName {
    /// `None` for any other name.
    fn parse(text: &str) -> Option<Self> {
        let (core, file) = text.strip_prefix("snapshots/core-")?.split_once('/')?;
        let (number, is_zstd) = match file.strip_suffix(".zst") {
            Some(file) => (file.strip_suffix(".snap")?, true),
            None => (file.strip_suffix(".snap")?, false),
        };
        let name = Self { core: core.parse().ok()?, number: number.parse().ok()?, is_zstd };
        // One spelling each, so that no two names mean the same file.
        (name.to_string() == text).then_some(name)
    }

    fn file_name(&self) -> String {
        format!("{:016}.snap{}", self.number, if self.is_zstd { ".zst" } else { "" })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshots/core-{:04}/{}", self.core, self.file_name())
    }
}

/// Makes a backup, or checks one; the report goes to stdout. `data_dir` is the one that was given as a flag.
///
/// # Errors
/// [`Failure::Backup`] if it could not be done, [`Failure::Damaged`] if a backup cannot be used.
pub(crate) fn backup(
    arguments: &BackupArgs,
    settings: &Settings,
    data_dir: Option<&Path>,
) -> Result<(), Failure> {
    if let Some(BackupAction::Verify { path }) = &arguments.action {
        let bar = bar("verify", archive::stored_bytes(path), Unit::Bytes);
        let (manifest, checked) = archive::read(path, &bar, &|_| None)?;
        bar.finish_and_clear();
        crate::print(&report("sound", path, &manifest, &checked));
        return Ok(());
    }
    let to = arguments.to.as_deref().ok_or_else(|| Failure::Config("backup needs --to".to_owned()))?;
    let endpoint = endpoint::or_configured(arguments.from.as_ref(), settings);
    let started = Instant::now();
    let mut writer = Writer::begin(to)?;
    match make(&mut writer, arguments, &endpoint, data_dir) {
        Ok((manifest, checked)) => {
            writer.finish(&manifest)?;
            let seconds = started.elapsed().as_secs_f64();
            let done = format!("complete after {seconds:.1} s");
            crate::print(&report(&done, to, &manifest, &checked));
            Ok(())
        }
        Err(failure) => {
            writer.abandon();
            Err(failure)
        }
    }
}

fn make(
    writer: &mut Writer,
    arguments: &BackupArgs,
    endpoint: &Endpoint,
    data_dir: Option<&Path>,
) -> Result<(Manifest, Vec<Checked>), Failure> {
    let waiting = bar("snapshot", 0, Unit::Bytes);
    let taken = live::take(endpoint, data_dir, &waiting)?;
    waiting.finish_and_clear();
    let bar = bar("copy", taken.files.iter().map(|(.., len)| len).sum(), Unit::Bytes);
    let mut checked = Vec::new();
    for (name, mut file, _) in taken.files {
        let name = FileName { is_zstd: arguments.zstd.is_some(), ..name };
        checked.push(copy(writer, &name, &mut file, arguments.zstd, &bar)?);
    }
    bar.finish_and_clear();
    let identity = taken.identity;
    let run = checked.iter().map(|file| file.info.run_number).max().unwrap_or(0);
    let manifest = Manifest {
        format: manifest::FORMAT,
        pinnace: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: identity.node_id,
        run: run.max(identity.run),
        created_unix_ms: host::unix_millis(),
        cores: identity.cores,
        shards: identity.shards,
        files: checked.iter().map(listed).collect(),
        crc32c: String::new(),
    };
    // Nothing is called a backup that could not be restored.
    manifest
        .compare(&checked)
        .map_err(|text| Failure::Backup(format!("the snapshots do not fit together: {text}")))?;
    Ok((manifest, checked))
}

fn copy(
    writer: &mut Writer,
    name: &FileName,
    file: &mut File,
    zstd_level: Option<i32>,
    bar: &indicatif::ProgressBar,
) -> Result<Checked, Failure> {
    writer.add(name, file, zstd_level, bar).map_err(|flaw| match flaw {
        Flaw::Io(error) => Failure::Backup(format!("cannot copy {name}: {error}")),
        Flaw::Damage(text) => Failure::Damaged(format!(
            "the node's {name} is damaged: {text}; check the disk, and make another backup"
        )),
    })
}

fn listed(file: &Checked) -> ManifestFile {
    let Checked { name, bytes, crc32c, items, .. } = file;
    let crc32c = manifest::hexadecimal(*crc32c);
    ManifestFile { name: name.clone(), bytes: *bytes, crc32c, items: *items }
}

fn report(done: &str, path: &Path, manifest: &Manifest, checked: &[Checked]) -> String {
    let items: u64 = checked.iter().map(|file| file.items).sum();
    let bytes: u64 = checked.iter().map(|file| file.bytes).sum();
    let mut text = String::new();
    let _ = writeln!(text, "backup    {} is {done}", path.display());
    let _ = writeln!(
        text,
        "of        node {}, {} cores, {} shards, unix time {} ms",
        manifest.node_id, manifest.cores, manifest.shards, manifest.created_unix_ms
    );
    let _ = writeln!(text, "items     {items}\nbytes     {bytes} ({})", ByteSize(bytes));
    text
}

/// Restores a backup; the report goes to stdout.
///
/// # Errors
/// [`Failure::DataDir`] if something is in the way, [`Failure::Damaged`] if the backup cannot be used, [`Failure::Backup`] if it
/// could not be read or written.
pub(crate) fn restore(arguments: &RestoreArgs, settings: &Settings) -> Result<(), Failure> {
    let bar = bar("restore", archive::stored_bytes(&arguments.from), Unit::Bytes);
    let data_dir = &settings.data_dir;
    let restored = restore::restore(&arguments.from, data_dir, &settings.log_dir(), arguments.force, &bar)?;
    bar.finish_and_clear();
    let mut text = String::new();
    let _ = writeln!(text, "restored  {} from {}", data_dir.display(), arguments.from.display());
    let _ = writeln!(text, "items     {}\nbytes     {}", restored.items, restored.bytes);
    if let Some(kept) = &restored.kept {
        let _ = writeln!(text, "kept      what was there is in {}", kept.display());
    }
    let _ = writeln!(
        text,
        "start     with --shards {} and any number of cores (the backup has {})",
        restored.shards, restored.cores
    );
    crate::print(&text);
    Ok(())
}

fn failed<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Failure + use<'p> {
    move |error| Failure::Backup(format!("cannot {what} {}: {error}", path.display()))
}
