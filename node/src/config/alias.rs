//! Names that other systems have for settings of the log, in files and variables: a configuration that is carried over
//! keeps its meaning.

use figment::value::Value;

/// The key and value that `key` stands for here; itself if it is no alias.
pub(super) fn resolve(key: &str, value: Value) -> (String, Value) {
    let (key, value) = match key {
        "wal_mode" => ("durability", renamed(value, &[("off", "none")])),
        "fsync_mode" => {
            ("durability", renamed(value, &[("always", "sync"), ("periodic", "async"), ("never", "none")]))
        }
        "fsync_interval_ms" => ("wal_sync_interval", with_unit(value, "ms")),
        "wal_max_size_mb" => ("snapshot_log_size", with_unit(value, "mb")),
        key => (key, value),
    };
    (key.to_owned(), value)
}

fn renamed(value: Value, names: &[(&str, &str)]) -> Value {
    let new = value.as_str().and_then(|text| names.iter().find(|(old, _)| *old == text));
    new.map_or(value.clone(), |(_, new)| Value::from(*new))
}

/// A bare number gets its unit; what has one already keeps it.
fn with_unit(value: Value, unit: &str) -> Value {
    value.to_u128().map_or(value.clone(), |number| Value::from(format!("{number}{unit}")))
}
