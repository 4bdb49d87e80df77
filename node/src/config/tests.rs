use std::io::Write as _;
use std::path::PathBuf;

use super::{Config, CoreSelection, Durability, Layer, LogFormat, Settings};
use crate::failure::Failure;

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pinnace-config-{}-{name}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load(flags: &Layer, variables: &[(&str, &str)], file: Option<&File>) -> Result<Config, Failure> {
    let variables: Vec<_> =
        variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Config::load(flags, &variables, file.map(|file| file.0.as_path()))
}

fn complaint(variables: &[(&str, &str)], file: Option<&File>) -> String {
    load(&Layer::default(), variables, file).unwrap_err().to_string()
}

#[test]
fn flags_win_over_variables_over_file_over_defaults() {
    let file = File::new("order.toml", "port = 1001\npeer_port = 1002\nhttp-port = 1003\n");
    let flags = Layer { port: Some(3001), ..Layer::default() };
    let config =
        load(&flags, &[("PINNACE_PORT", "2001"), ("PINNACE_PEER_PORT", "2002"), ("HOME", "/")], Some(&file))
            .unwrap();
    let Settings { port, peer_port, http_port, shards, .. } = config.settings;
    assert_eq!((port, peer_port, http_port, shards), (3001, 2002, 1003, 256));
    assert!(config.is_set("port") && !config.is_set("shards"));

    let print = config.print();
    for origin in ["# --port", "# PINNACE_PEER_PORT", "# http_port in ", "# default"] {
        assert!(print.contains(origin), "{origin}: {print}");
    }
}

#[test]
fn the_three_file_formats_say_the_same() {
    let files = [
        File::new("same.toml", "memory = \"64mb\"\ncores = [0, 2]\nlog-format = \"json\"\n"),
        File::new("same.json", r#"{"memory": "64mb", "cores": [0, 2], "log_format": "json"}"#),
        File::new("same.yaml", "memory: 64mb\ncores: [0, 2]\nlog_format: json\n"),
    ];
    for file in &files {
        let settings = load(&Layer::default(), &[], Some(file)).unwrap().settings;
        assert_eq!(settings.cores, CoreSelection::List(vec![0, 2]));
        assert_eq!(settings.memory, "64mb".parse().unwrap());
        assert_eq!(settings.log_format, LogFormat::Json);
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same_settings() {
    let flags = Layer {
        cores: Some("1,".parse().unwrap()),
        memory: Some("64mb".parse().unwrap()),
        busy_poll: Some("70us".parse().unwrap()),
        segment_size: Some("512k".parse().unwrap()),
        ..Layer::default()
    };
    let config = load(&flags, &[], None).unwrap();
    let file = File::new("print.toml", &config.print());
    assert_eq!(load(&Layer::default(), &[], Some(&file)).unwrap().settings, config.settings);
}

#[test]
fn every_setting_is_printed_by_its_name() {
    let entries = Settings::from_layer(Layer::default()).entries();
    let names: Vec<_> = entries.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, Layer::keys());
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
    let file = File::new("typo.toml", "memroy = \"1gb\"\n");
    let text = complaint(&[], Some(&file));
    assert!(text.contains("unknown key 'memroy'") && text.contains("typo.toml"), "{text}");
    assert!(text.contains("did you mean memory?"), "{text}");

    let text = complaint(&[("PINNACE_MEMROY", "1gb")], None);
    assert_eq!(text, "unknown variable PINNACE_MEMROY: did you mean PINNACE_MEMORY?");

    let text = complaint(&[("PINNACE_XYZZY", "1")], None);
    assert!(text.contains("config print"), "{text}");
}

#[test]
fn a_bad_value_is_named_with_its_place_and_what_is_taken() {
    let file = File::new("bad.toml", "port = \"abc\"\n");
    let text = complaint(&[], Some(&file));
    assert!(text.starts_with("port in ") && text.contains("abc") && text.contains("65535"), "{text}");
    for (variable, text, expected) in [
        ("PINNACE_PORT", "99999", "65535"),
        ("PINNACE_MEMORY", "lots", "512mb"),
        ("PINNACE_CORES", "two", "0,2-3"),
        ("PINNACE_BUSY_POLL", "5", "50us"),
        ("PINNACE_DURABILITY", "never", "async"),
        ("PINNACE_BIND", "here", "IP"),
    ] {
        let complaint = complaint(&[(variable, text)], None);
        assert!(complaint.starts_with(variable) && complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for (variable, text, expected) in [
        ("PINNACE_SHARDS", "0", "1 to 16384"),
        ("PINNACE_SHARDS", "20000", "1 to 16384"),
        ("PINNACE_MAX_KEY_SIZE", "100000", "65535"),
        ("PINNACE_MAX_VALUE_SIZE", "1gb", "536870912"),
        ("PINNACE_PROMOTE_THRESHOLD", "9", "1 to 3"),
        ("PINNACE_SEGMENT_SIZE", "300k", "power of two"),
        ("PINNACE_BUSY_POLL", "1s", "10ms"),
        ("PINNACE_PORT", "0", "65535"),
        ("PINNACE_HTTP_PORT", "7700", "its own port"),
        ("PINNACE_WAL_SEGMENT_SIZE", "100k", "1048576"),
        ("PINNACE_WAL_SEGMENT_SIZE", "1048577", "multiple"),
        ("PINNACE_WAL_SYNC_INTERVAL", "0", "1ms"),
        ("PINNACE_MAX_CONNECTIONS", "0", "out of range"),
    ] {
        let complaint = complaint(&[(variable, text)], None);
        assert!(complaint.starts_with(variable) && complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn names_of_other_systems_mean_the_same() {
    for (names, durability, interval) in [
        (&[("PINNACE_WAL_MODE", "sync")][..], Durability::Sync, "100ms"),
        (&[("PINNACE_WAL_MODE", "async")], Durability::Async, "100ms"),
        (&[("PINNACE_WAL_MODE", "off")], Durability::None, "100ms"),
        (&[("PINNACE_FSYNC_MODE", "always")], Durability::Sync, "100ms"),
        (
            &[("PINNACE_FSYNC_MODE", "periodic"), ("PINNACE_FSYNC_INTERVAL_MS", "1000")],
            Durability::Async,
            "1s",
        ),
        (&[("PINNACE_FSYNC_MODE", "never")], Durability::None, "100ms"),
    ] {
        let settings = load(&Layer::default(), names, None).unwrap().settings;
        assert_eq!(
            (settings.durability, settings.wal_sync_interval.to_string().as_str()),
            (durability, interval)
        );
    }
    let file =
        File::new("alias.json", r#"{"wal_mode": "async", "wal_dir": "/tmp/wal", "fsync_interval_ms": 5}"#);
    let settings = load(&Layer::default(), &[], Some(&file)).unwrap().settings;
    assert_eq!(settings.durability, Durability::Async);
    assert_eq!(settings.log_dir(), std::path::Path::new("/tmp/wal"));
    assert_eq!(settings.wal_sync_interval.to_string(), "5ms");
    assert_eq!(settings.snapshot_log_size.0, 1 << 30);
    let settings = load(&Layer::default(), &[("PINNACE_WAL_MAX_SIZE_MB", "256")], None).unwrap().settings;
    assert_eq!(settings.snapshot_log_size.0, 256 << 20);

    let text = complaint(&[("PINNACE_WAL_MODE", "sync"), ("PINNACE_DURABILITY", "none")], None);
    assert!(text.contains("another of its names"), "{text}");
    let text = complaint(&[("PINNACE_WAL_MODE", "sometimes")], None);
    assert!(text.contains("PINNACE_DURABILITY") && text.contains("async"), "{text}");
}

#[test]
fn snapshots_without_a_pause_are_refused() {
    let text = complaint(&[("PINNACE_SNAPSHOT_INTERVAL", "10ms")], None);
    assert!(text.contains("PINNACE_SNAPSHOT_INTERVAL") && text.contains("1s"), "{text}");
    let text = complaint(&[("PINNACE_SNAPSHOT_LOG_SIZE", "1kb")], None);
    assert!(text.contains("PINNACE_SNAPSHOT_LOG_SIZE"), "{text}");
    let off = [("PINNACE_SNAPSHOT_INTERVAL", "0"), ("PINNACE_SNAPSHOT_LOG_SIZE", "0")];
    assert!(load(&Layer::default(), &off, None).is_ok());
}

#[test]
fn unreadable_files_are_named() {
    let missing = PathBuf::from("/nonexistent/pinnace.toml");
    let text = Config::load(&Layer::default(), &[], Some(&missing)).unwrap_err().to_string();
    assert!(text.contains("/nonexistent/pinnace.toml") && text.contains("--config"), "{text}");
    let text = complaint(&[], Some(&File::new("x.ini", "")));
    assert!(text.contains(".toml, .json"), "{text}");
    let text = complaint(&[], Some(&File::new("broken.toml", "port = = 1")));
    assert!(text.contains("broken.toml is not valid toml"), "{text}");
}

#[test]
fn variables_that_kubernetes_sets_for_services_are_not_settings() {
    let variables = [
        ("PINNACE_PORT", "tcp://10.0.0.7:7700"),
        ("PINNACE_PORT_7700_TCP", "tcp://10.0.0.7:7700"),
        ("PINNACE_PORT_7700_TCP_PORT", "7700"),
        ("PINNACE_PORT_7700_TCP_ADDR", "10.0.0.7"),
        ("PINNACE_SERVICE_HOST", "10.0.0.7"),
        ("PINNACE_SERVICE_PORT", "7700"),
        ("PINNACE_CLIENT_SERVICE_PORT_RESP", "7700"),
        ("PINNACE_CONFIG", "x.toml"),
        ("PINNACE_TEST_BINARY", "x"),
    ];
    let config = load(&Layer::default(), &variables, None).unwrap();
    assert_eq!(config.settings, Settings::from_layer(Layer::default()));
}
