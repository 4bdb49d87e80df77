//! House rules that the compiler does not check. See docs/STYLE.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates without clock, threads, I/O and randomness, and what each may depend on beside the others.
const PURE_CRATES: [(&str, &str); 6] = [
    ("types", "pinnace-types"),
    ("engine", "pinnace-engine"),
    ("net/protocol", "pinnace-protocol"),
    ("net/rdb", "pinnace-rdb"),
    ("core", "pinnace-core"),
    ("replication/wal", "pinnace-wal"),
];

/// What a pure crate may name in its `[dependencies]`: data structures, hashes, numbers.
const PURE_DEPENDENCIES: [&str; 14] = [
    "bytes",
    "crc",
    "crc32c",
    "hdrhistogram",
    "itoa",
    "pinnace-engine",
    "pinnace-mem",
    "pinnace-protocol",
    "pinnace-types",
    "pinnace-wal",
    "rapidhash",
    "rkyv",
    "serde",
    "thiserror",
];

/// What may be nowhere below a pure crate. (libc is below `pinnace-mem`, which maps memory.)
const BANNED_BELOW_PURE: [&str; 8] =
    ["getrandom", "glommio", "io-uring", "mio", "rtrb", "signal-hook", "socket2", "tokio"];

/// Where `unsafe` may be written.
const UNSAFE_CRATES: [&str; 2] = ["engine/mem/", "net/driver/"];

/// Longest file, without `tests.rs` and what stands in `tests/`.
const FILE_LINES_MAX: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the node is a folder of the workspace").to_owned()
}

/// Rust sources of the repository, by path from its root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !["target", "node_modules", "corpus"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "the sources are found");
    found
}

fn is_test(path: &str) -> bool {
    let path = format!("/{path}");
    path.ends_with("/tests.rs") || ["/tests/", "/benches/", "/fuzz/"].iter().any(|part| path.contains(part))
}

/// Lines of code: no comments, no texts.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

#[test]
fn pure_crates_forbid_unsafe_and_depend_on_pure_things_only() {
    for (folder, name) in PURE_CRATES {
        let lib = fs::read_to_string(root().join(folder).join("src/lib.rs")).unwrap();
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{folder}/src/lib.rs does not forbid unsafe code");
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let entries = section.lines().skip(1).take_while(|line| !line.starts_with('['));
        for entry in entries.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let dependency = entry.split(['.', ' ', '=']).next().unwrap();
            assert!(PURE_DEPENDENCIES.contains(&dependency), "{name} must not depend on {dependency}");
        }
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", name])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8(tree.stdout).unwrap();
        for line in tree.lines() {
            let below = line.split(' ').next().unwrap();
            assert!(!BANNED_BELOW_PURE.contains(&below), "{name} depends on {below}:\n{tree}");
        }
    }
}

#[test]
fn pure_crates_ask_no_clock() {
    for (path, text) in sources() {
        let is_pure = PURE_CRATES.iter().any(|(folder, _)| path.starts_with(&format!("{folder}/src/")));
        if is_pure && !is_test(&path) {
            for banned in ["Instant::now", "SystemTime::now", "thread::spawn", "std::fs", "std::net::Tcp"] {
                assert!(!code_lines(&text).any(|line| line.contains(banned)), "{path} uses {banned}");
            }
        }
    }
}

#[test]
fn unsafe_code_stays_where_it_may_be() {
    for (path, text) in sources() {
        let may = UNSAFE_CRATES.iter().any(|folder| path.starts_with(folder)) || path == "node/tests/tidy.rs";
        let has = code_lines(&text).any(|line| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| line.contains(word))
        });
        assert!(may || !has || is_test(&path), "{path} has unsafe code");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let words = ["todo!(", "unimplemented!(", "dbg!(", "TO\u{44}O", "FIX\u{4d}E", "XX\u{58}"];
    for (path, text) in sources().into_iter().filter(|(path, _)| path != "node/tests/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            let word = words.iter().find(|word| line.contains(**word));
            assert!(word.is_none(), "{path}:{}: {line}", number + 1);
        }
        assert!(!text.contains("#[ignore"), "{path} ignores a test");
    }
}

#[test]
fn files_have_one_responsibility() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{path} has {lines} lines without its tests: split it");
    }
}

#[test]
fn every_file_is_part_of_its_crate() {
    let all = sources();
    for (path, _) in &all {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = name.trim_end_matches(".rs");
        let is_root = ["lib", "main", "build", "mod"].contains(&stem);
        let is_own_target = folder.ends_with("/tests")
            || folder.ends_with("/benches")
            || folder.ends_with("/bin")
            || folder.ends_with("/examples");
        if is_root || is_own_target || path.starts_with("fuzz/") {
            continue;
        }
        let declaration = format!("mod {stem};");
        let declared = all.iter().any(|(other, text)| {
            let same_crate = other.split('/').next() == path.split('/').next();
            same_crate && text.lines().any(|line| line.trim().ends_with(&declaration))
        });
        assert!(declared, "{path} is in no module");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let folders = ["", "docs", "docs/adr", "docs/internals", "tests"].map(|folder| root().join(folder));
    let documents = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .map(|entry| entry.unwrap().path());
    for document in documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_path = !target.is_empty() && !target.contains("://") && !target.contains(' ');
            let exists = document.parent().unwrap().join(target).exists();
            assert!(!is_path || exists, "{} links to {target}, which is not there", document.display());
        }
    }
}
