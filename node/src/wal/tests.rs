use std::fs;
use std::path::PathBuf;

use clap::Parser as _;
use pinnace_protocol::native;
use pinnace_types::{CoreId, LogPosition, SegmentNumber, ShardId};
use pinnace_wal::{LogLimits, LogStart, LogWriter, Run};

use super::store::Store;
use super::{Place, WalArgs, verify, wal};
use crate::failure::Failure;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    arguments: WalArgs,
}

/// A data directory that is removed at the end.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Directory {
    /// With a log of `commits` commits of core 0, one SET each, all synced before the next.
    fn with_log(name: &str, commits: u64) -> Self {
        let path = std::env::temp_dir().join(format!("pinnace-wal-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let this = Self(path);
        fs::create_dir_all(this.segment(1).parent().unwrap()).unwrap();
        let start = LogStart {
            core: CoreId(0),
            node_id: 1,
            run: Run { number: 1, nonce: 9 },
            segment: SegmentNumber(1),
            position: LogPosition(0),
            group_count: 4,
            groups: Vec::new(),
        };
        let mut writer = LogWriter::new(start, LogLimits::TEST_MIN);
        for number in 0..commits {
            let key = format!("key:{number}");
            writer.append(ShardId(1), |out| {
                native::encode_set(out, 0, native::Options::NONE, key.as_bytes(), b"value", 0);
            });
            let mut bytes = Vec::new();
            let sealed = writer.seal(&mut bytes).unwrap();
            let path = this.segment(sealed.segment.0);
            let mut file = fs::read(&path).unwrap_or_default();
            file.resize(LogLimits::TEST_MIN.segment_bytes as usize, 0);
            file[sealed.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            fs::write(&path, file).unwrap();
            writer.on_synced(sealed.number);
        }
        this
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.0.join("wal/core-0000").join(format!("{number:016}.wal"))
    }

    fn flip(&self, number: u64, offset: usize) {
        let mut file = fs::read(self.segment(number)).unwrap();
        file[offset] ^= 1;
        fs::write(self.segment(number), file).unwrap();
    }

    fn store(&self) -> Store {
        Store::open(&Place { data_dir: self.0.clone(), log_dir: None, core: None }).unwrap()
    }

    fn run(&self, action: &str, rest: &[&str]) -> Result<(), Failure> {
        let directory = self.0.to_str().unwrap();
        let command = ["wal", action, directory];
        let arguments = command.iter().chain(rest);
        wal(&Cli::parse_from(arguments).arguments)
    }
}

#[test]
fn a_sound_log_is_listed_and_verified() {
    let directory = Directory::with_log("sound", 10);
    let listed = verify::inspect(&directory.store()).unwrap();
    assert!(listed.contains("0000000000000001.wal: run 1, begins at 0, 7 commits, 7 entries"), "{listed}");
    assert!(listed.contains("0000000000000002.wal: run 1, begins at 32768, 3 commits"), "{listed}");
    assert!(listed.contains("the log ends at 49152"), "{listed}");
    let verified = verify::verify(&directory.store()).unwrap();
    assert!(verified.contains("10 commits, 10 entries") && verified.contains("sound"), "{verified}");
    directory.run("dump", &["--from", "8192", "--to", "16384"]).unwrap();
}

#[test]
fn a_torn_tail_is_no_damage() {
    let directory = Directory::with_log("torn", 3);
    directory.flip(1, 3 * 4096 + 100);
    let verified = verify::verify(&directory.store()).unwrap();
    assert!(verified.contains("the log ends at 12288"), "{verified}");
    assert!(verified.contains("was not written to its end (segment 0000000000000001, offset 12288)"));
}

#[test]
fn damage_ends_with_its_own_code_and_says_what_can_be_done() {
    let directory = Directory::with_log("damaged", 10);
    directory.flip(1, 8192 + 80);
    let failure = directory.run("verify", &[]).unwrap_err();
    assert_eq!(failure.code(), 19);
    let text = failure.to_string();
    for part in ["segment 0000000000000001, offset 8192", "pinnace wal repair", "--core 0 --to 8192"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(directory.run("dump", &[]).unwrap_err().code(), 19);
    let listed = verify::inspect(&directory.store()).unwrap();
    assert!(listed.contains("1 commits, 1 entries") && listed.contains("is damaged"), "{listed}");
}

#[test]
fn repair_changes_nothing_without_the_word_and_keeps_a_copy_with_it() {
    let directory = Directory::with_log("repair", 10);
    directory.flip(1, 8192 + 80);
    let before = [1, 2].map(|number| fs::read(directory.segment(number)).unwrap());
    let cut = ["--core", "0", "--to", "8192"];
    let failure = directory.run("repair", &cut).unwrap_err();
    assert!(failure.code() == 2 && failure.to_string().contains("--yes-lose-data"), "{failure}");
    assert_eq!(before, [1, 2].map(|number| fs::read(directory.segment(number)).unwrap()));

    directory.run("repair", &[&cut[..], &["--yes-lose-data"]].concat()).unwrap();
    let verified = verify::verify(&directory.store()).unwrap();
    assert!(verified.contains("1 commits, 1 entries") && verified.contains("ends at 8192"), "{verified}");
    let kept = directory.segment(1).parent().unwrap().join("cut-at-8192");
    let copies =
        [1, 2].map(|number| fs::read(kept.join(directory.segment(number).file_name().unwrap())).unwrap());
    assert_eq!(before, copies);
    assert!(!directory.segment(2).exists());
}

#[test]
fn repair_cuts_only_where_a_commit_ends() {
    let directory = Directory::with_log("where", 4);
    for to in ["8193", "999999", "0"] {
        let failure = directory.run("repair", &["--core", "0", "--to", to, "--yes-lose-data"]).unwrap_err();
        assert!(failure.code() == 2 && failure.to_string().contains("no commit of core 0 ends"), "{failure}");
    }
    let failure = directory.run("repair", &["--to", "8192"]).unwrap_err();
    assert!(failure.to_string().contains("--core"), "{failure}");
}

#[test]
fn a_directory_in_use_is_not_repaired() {
    let directory = Directory::with_log("locked", 4);
    let _lock = directory.store().lock().unwrap();
    let failure = directory.run("repair", &["--core", "0", "--to", "8192", "--yes-lose-data"]).unwrap_err();
    assert!(failure.code() == 15 && failure.to_string().contains("stop it first"), "{failure}");
}

#[test]
fn a_directory_without_a_log_is_named() {
    let directory = Directory::with_log("empty", 0);
    fs::remove_dir_all(directory.0.join("wal")).unwrap();
    let failure = directory.run("verify", &[]).unwrap_err();
    assert!(failure.code() == 15 && failure.to_string().contains("no log is in"), "{failure}");
}
