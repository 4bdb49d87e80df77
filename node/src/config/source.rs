//! Where settings come from: a file, variables, flags. Each is read to the same shape, a table from
//! key to value whose keys are all known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format, Json, Serialized, Toml, Yaml};
use figment::value::{Dict, Value};
use figment::{Profile, Provider};

use super::{Layer, alias};
use crate::failure::Failure;

const PREFIX: &str = "PINNACE_";

/// Variables with the prefix that are not settings: the file's name, and what tests and tools pass on.
const OTHER_VARIABLES: [&str; 1] = ["PINNACE_CONFIG"];
const TOOL_PREFIXES: [&str; 2] = ["PINNACE_TEST_", "PINNACE_BENCH_"];

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File(PathBuf),
    Variable,
    Flag,
}

impl Origin {
    /// The key as its author wrote it, and where.
    pub(super) fn name(&self, key: &str) -> String {
        match self {
            Self::File(path) => format!("{key} in {}", path.display()),
            Self::Variable => format!("{PREFIX}{}", key.to_ascii_uppercase()),
            Self::Flag => format!("--{}", key.replace('_', "-")),
        }
    }
}

/// What one source sets.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: Origin,
    pub(super) values: Dict,
}

impl Source {
    pub(super) fn from_file(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::Config(format!("cannot read the configuration file {shown}: {error}; check --config"))
        })?;
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let data = match extension {
            "toml" => Toml::string(&text).data(),
            "json" => Json::string(&text).data(),
            "yaml" | "yml" => Yaml::string(&text).data(),
            _ => {
                return Err(Failure::Config(format!(
                    "the configuration file {shown} must end in .toml, .json, .yaml or .yml, which tells its format"
                )));
            }
        };
        let mut tables =
            data.map_err(|error| Failure::Config(format!("{shown} is not valid {extension}: {error}")))?;
        let origin = Origin::File(path.to_owned());
        let mut values = Dict::new();
        for (written, value) in tables.remove(&Profile::Default).unwrap_or_default() {
            let (key, value) = alias::resolve(&written.replace('-', "_"), value);
            check_known(&key, &format!("unknown key '{written}' in {shown}"), |near| near.to_owned())?;
            insert(&mut values, key, value, || format!("{written} in {shown}"))?;
        }
        Ok(Self { origin, values })
    }

    pub(super) fn from_variables(variables: &[(String, String)]) -> Result<Self, Failure> {
        let mut values = Dict::new();
        for (name, text) in variables {
            let Some(key) = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
            if OTHER_VARIABLES.contains(&name.as_str())
                || TOOL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || is_service_link(name, text)
            {
                continue;
            }
            let (key, value) = alias::resolve(&key, variable_value(text));
            check_known(&key, &format!("unknown variable {name}"), |near| Origin::Variable.name(near))?;
            insert(&mut values, key, value, || name.clone())?;
        }
        Ok(Self { origin: Origin::Variable, values })
    }

    pub(super) fn from_flags(flags: &Layer) -> Result<Self, Failure> {
        let mut tables = Serialized::defaults(flags)
            .data()
            .map_err(|error| Failure::Config(format!("cannot read the flags: {error}")))?;
        let values = tables.remove(&Profile::Default).unwrap_or_default();
        Ok(Self { origin: Origin::Flag, values })
    }
}

/// A setting may have two names, but within one source it has one value.
fn insert(
    values: &mut Dict,
    key: String,
    value: Value,
    place: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if values.contains_key(&key) {
        return Err(Failure::Config(format!(
            "{}: {key} is set already, under another of its names",
            place()
        )));
    }
    values.insert(key, value);
    Ok(())
}

/// A variable's text as a value: a number where it is one, else the text itself.
fn variable_value(text: &str) -> Value {
    let trimmed = text.trim();
    match (trimmed.parse::<u64>(), trimmed.parse::<bool>()) {
        (Ok(number), _) => Value::from(number),
        (_, Ok(flag)) => Value::from(flag),
        _ => Value::from(trimmed),
    }
}

/// Kubernetes tells every container the services of its namespace in variables; for services named
/// `pinnace` or `pinnace-*` they look like settings (`PINNACE_PORT=tcp://10.0.0.7:7700`).
fn is_service_link(name: &str, text: &str) -> bool {
    let is_protocol = |part: &str| matches!(part, "TCP" | "UDP" | "SCTP");
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
        || (name.contains("_PORT_") && name.split('_').any(is_protocol))
}

fn check_known(key: &str, complaint: &str, written: impl Fn(&str) -> String) -> Result<(), Failure> {
    let keys = Layer::keys();
    if keys.iter().any(|known| known == key) {
        return Ok(());
    }
    let nearest = keys.iter().max_by(|a, b| {
        let likeness = |known: &str| strsim::jaro_winkler(known, key);
        likeness(a).total_cmp(&likeness(b))
    });
    // Below this likeness a suggestion misleads more than it helps.
    let near = nearest.filter(|known| strsim::jaro_winkler(known, key) > 0.75);
    let advice = match near {
        Some(near) => format!("did you mean {}?", written(near)),
        None => "run 'pinnace config print' for all keys".to_owned(),
    };
    Err(Failure::Config(format!("{complaint}: {advice}")))
}

/// A value of the wrong type: which key, where, what was found and what is taken.
pub(super) fn describe(error: &figment::Error, origins: &BTreeMap<String, Origin>) -> Failure {
    let key = error.path.first().map_or("configuration", String::as_str);
    let place = origins.get(key).map_or_else(|| key.to_owned(), |origin| origin.name(key));
    let reason = match &error.kind {
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("found {found}, expected {}", readable_type(wanted))
        }
        kind => kind.to_string(),
    };
    Failure::Config(format!("{place}: {reason}"))
}

/// What a type is called outside of programs.
fn readable_type(name: &str) -> &str {
    match name {
        "u8" => "a number from 0 to 255",
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        other => other,
    }
}

/// The variables of this process.
pub(crate) fn process_variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
