//! One configuration from four sources: flags over `PINNACE_*` variables over one file over defaults.
//!
//! Every key that is set is known, of the right type and in range when [`Config::load`] returns; the
//! first that is not ends it with a message that names the key, where it was set and what to write
//! instead. Nothing here looks at the host: whether the cores and the memory exist is decided in
//! [`crate::plan`].

mod alias;
mod layer;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use figment::Figment;
use figment::providers::Serialized;

pub(crate) use layer::Layer;
pub(crate) use settings::Settings;
pub(crate) use source::process_variables;
use source::{Origin, Source};
pub(crate) use values::{CoreSelection, Durability, LogFormat, MemorySetting, Policy, cpu_list};

use crate::failure::Failure;

/// The settings of a run and where each came from.
#[derive(Debug)]
pub(crate) struct Config {
    /// What the node runs with.
    pub(crate) settings: Settings,
    origins: BTreeMap<String, Origin>,
}

impl Config {
    /// Reads all sources: the flags as given, `variables` (name and value, any prefix), the file.
    ///
    /// # Errors
    /// [`Failure::Config`] for the first thing that is wrong.
    pub(crate) fn load(
        flags: &Layer,
        variables: &[(String, String)],
        file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let mut sources = Vec::new();
        if let Some(path) = file {
            sources.push(Source::from_file(path)?);
        }
        sources.push(Source::from_variables(variables)?);
        sources.push(Source::from_flags(flags)?);

        let mut origins = BTreeMap::new();
        let mut figment = Figment::new();
        for source in sources {
            for key in source.values.keys() {
                origins.insert(key.clone(), source.origin.clone());
            }
            figment = figment.merge(Serialized::defaults(source.values));
        }
        let layer: Layer = figment.extract().map_err(|error| source::describe(&error, &origins))?;
        let settings = Settings::from_layer(layer);
        settings.validate().map_err(|(key, text)| {
            let place = origins.get(key).map_or_else(|| key.to_owned(), |origin| origin.name(key));
            Failure::Config(format!("{place}: {text}"))
        })?;
        Ok(Self { settings, origins })
    }

    /// Whether a key was set by anyone, as opposed to having its default.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// The whole configuration as a TOML file that gives the same one, with the origin of each value.
    pub(crate) fn print(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.settings.entries() {
            let origin =
                self.origins.get(key).map_or_else(|| "default".to_owned(), |origin| origin.name(key));
            let line = match value {
                Some(value) => format!("{key} = {value}"),
                None => format!("# {key} ="),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line:<40} # {origin}");
        }
        text
    }
}
