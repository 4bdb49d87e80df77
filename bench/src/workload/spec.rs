//! A workload as people write it, on the command line or in a TOML file, and as the generator uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinnace_types::Prng;
use serde::{Deserialize, Serialize};

use super::keys::KeyFormat;
use super::overlay::{self, Overlay};
use super::popularity::{KeyPicker, Popularity};
use super::presets;
use super::sizes::SizeDistribution;
use super::trace::Trace;
use super::ttl::TtlDistribution;
use super::{Mix, Op, Values};
use crate::error::BenchError;

/// A workload in words. What is not said is taken from the preset, then from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct WorkloadSpec {
    /// Ready-made workload: `pinnace-bench presets` lists them
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preset: Option<String>,
    /// Number of keys [default: 1000000]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<u64>,
    /// Bytes of a key, as 16 or 16-40 [default: 11]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_size: Option<String>,
    /// What every key begins with [default: key]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_prefix: Option<String>,
    /// Bytes of a value: 100, 10-200, lognormal:MEDIAN,SIGMA[,MAX] or hist:SIZE=WEIGHT,... [default: 32]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_size: Option<String>,
    /// uniform, zipf[:EXPONENT], hot:KEYS%,REQUESTS% or latest[:EXPONENT] [default: uniform]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) popularity: Option<String>,
    /// Shares of get, set, delete, incr, cas, mget, insert, rmw, as get=95,set=5 [default: get]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mix: Option<String>,
    /// Life of written items: none, 60s, 10s-5m or 1m,10m,1h [default: none]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<String>,
    /// Keys of one mget [default: 10]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) multi_get: Option<usize>,
    /// Write what a get has missed; =false turns it off where a preset or trace has it on
    #[arg(long, help_heading = "Workload", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_aside: Option<bool>,
    /// Replay this trace (.bin or .bin.zst; format in docs/bench.md): one get a record, cache-aside
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<PathBuf>,
    /// Synthetic sizes, ttls or sizes,ttls for a trace that has none (the rule is in docs/bench.md)
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_overlay: Option<String>,
    /// How long the day that the trace is taken to last takes here: lives are shortened by it [default: 1d]
    #[arg(long, help_heading = "Workload")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_day: Option<String>,
}

/// A workload ready to run. Shared by all threads.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) keys: u64,
    pub(crate) key_format: KeyFormat,
    pub(crate) counter_format: KeyFormat,
    pub(crate) values: Values,
    pub(crate) picker: KeyPicker,
    pub(crate) mix: Mix,
    /// The only operation of the mix, if there is but one.
    pub(crate) single_op: Option<Op>,
    pub(crate) ttl: TtlDistribution,
    pub(crate) multi_get: usize,
    pub(crate) cache_aside: bool,
    pub(crate) trace: Option<Arc<Trace>>,
    overlay: Overlay,
}

/// Inserted keys may outnumber the preloaded ones by this factor before their digits run out.
const INSERT_ROOM: u64 = 64;
/// A multi-get of more keys is a mistake.
const MULTI_GET_MAX: usize = 1024;

impl WorkloadSpec {
    /// Reads a TOML file.
    pub(crate) fn read(path: &Path) -> Result<Self, BenchError> {
        let text = std::fs::read_to_string(path).map_err(|error| BenchError::file(path, error))?;
        toml::from_str(&text).map_err(|error| BenchError::file(path, error))
    }

    /// What is said here, and where nothing is, what is said there.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            preset: self.preset.or(other.preset),
            keys: self.keys.or(other.keys),
            key_size: self.key_size.or(other.key_size),
            key_prefix: self.key_prefix.or(other.key_prefix),
            value_size: self.value_size.or(other.value_size),
            popularity: self.popularity.or(other.popularity),
            mix: self.mix.or(other.mix),
            ttl: self.ttl.or(other.ttl),
            multi_get: self.multi_get.or(other.multi_get),
            cache_aside: self.cache_aside.or(other.cache_aside),
            trace: self.trace.or(other.trace),
            trace_overlay: self.trace_overlay.or(other.trace_overlay),
            trace_day: self.trace_day.or(other.trace_day),
        }
    }

    /// The same with everything said: preset, then defaults.
    pub(crate) fn complete(self) -> Result<Self, BenchError> {
        let preset = match &self.preset {
            Some(name) => presets::find(name)?.spec(),
            None => Self::default(),
        };
        let this = self.or(preset);
        let traced = this.trace.is_some();
        Ok(this.or(Self {
            keys: Some(1_000_000),
            key_prefix: Some("key".to_owned()),
            value_size: Some("32".to_owned()),
            popularity: Some("uniform".to_owned()),
            mix: Some("get".to_owned()),
            ttl: Some("none".to_owned()),
            multi_get: Some(10),
            cache_aside: Some(traced),
            ..Self::default()
        }))
    }
}

impl Workload {
    /// Makes a workload of its words.
    pub(crate) fn resolve(spec: &WorkloadSpec, seed: u64) -> Result<Self, BenchError> {
        let spec = spec.clone().complete()?;
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let usage = BenchError::Usage;
        let keys = spec.keys.unwrap_or(1);
        let multi_get = spec.multi_get.unwrap_or(1);
        if keys == 0 || keys > 1 << 40 {
            return Err(usage(format!("{keys} keys: use 1 to 2^40")));
        }
        if multi_get == 0 || multi_get > MULTI_GET_MAX {
            return Err(usage(format!("a multi-get of {multi_get} keys: use 1 to {MULTI_GET_MAX}")));
        }
        let mix = Mix::parse(&said(&spec.mix)).map_err(usage)?;
        let trace = spec.trace.as_deref().map(Trace::read).transpose()?.map(Arc::new);
        let overlay =
            Overlay::new(spec.trace_overlay.as_deref(), spec.trace_day.as_deref()).map_err(usage)?;
        if overlay != Overlay::NONE && trace.is_none() {
            return Err(BenchError::usage("--trace-overlay and --trace-day need a --trace"));
        }
        let inserts = mix.ops().any(|op| op == Op::Insert);
        let number_max = match &trace {
            Some(trace) => trace.key_max,
            None if inserts => keys * INSERT_ROOM,
            None => keys - 1,
        };
        let prefix = said(&spec.key_prefix);
        let needed = KeyFormat::bytes_needed(&prefix, number_max);
        let (min, max) = key_sizes(spec.key_size.as_deref(), needed).map_err(usage)?;
        let sizes = SizeDistribution::parse(&said(&spec.value_size)).map_err(usage)?;
        let traced_max = trace.as_ref().map_or(0, |trace| trace.size_max as usize);
        let overlaid_max = if overlay.sizes { overlay::SIZE_MAX } else { 0 };
        let bytes_max = sizes.bytes_max().max(traced_max).max(overlaid_max);
        Ok(Self {
            keys,
            key_format: KeyFormat::new(&prefix, min, max, number_max).map_err(usage)?,
            counter_format: KeyFormat::new(&format!("n:{prefix}"), min + 2, max + 2, number_max)
                .map_err(usage)?,
            values: Values::new(sizes, bytes_max, seed),
            picker: KeyPicker::new(Popularity::parse(&said(&spec.popularity)).map_err(usage)?, keys),
            single_op: mix.single(),
            mix,
            ttl: TtlDistribution::parse(&said(&spec.ttl)).map_err(usage)?,
            multi_get,
            cache_aside: spec.cache_aside.unwrap_or(false),
            trace,
            overlay,
        })
    }

    /// The operations that results tell apart.
    pub(crate) fn ops(&self) -> Vec<Op> {
        let mut ops: Vec<Op> = if self.trace.is_some() { vec![Op::Get] } else { self.mix.ops().collect() };
        if self.cache_aside {
            ops.push(Op::Fill);
        }
        ops
    }

    /// Bytes of the value of key `number`: a trace knows better than the distribution.
    #[inline]
    pub(crate) fn value_len(&self, number: u64) -> usize {
        let Some(trace) = &self.trace else { return self.values.len(number) };
        match trace.size_of(number) {
            Some(size) => size,
            None if self.overlay.sizes => overlay::size_of(number),
            None => self.values.len(number),
        }
    }

    /// Life of the item of key `number` in ms, 0 for ever: a trace knows better than the distribution.
    #[inline]
    pub(crate) fn life_ms(&self, number: u64, prng: &mut Prng) -> u64 {
        let Some(trace) = &self.trace else { return self.ttl.draw_ms(prng) };
        match trace.life_s(number) {
            Some(life_s) => self.overlay.scaled_ms(life_s),
            None if self.overlay.ttls => self.overlay.scaled_ms(overlay::life_s(number)),
            None => self.ttl.draw_ms(prng),
        }
    }
}

/// A key size in words; the default grows with what prefix and number need.
fn key_sizes(text: Option<&str>, needed: usize) -> Result<(usize, usize), String> {
    let Some(text) = text else { return Ok((needed, needed)) };
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    match (min.trim().parse(), max.trim().parse()) {
        (Ok(min), Ok(max)) => Ok((min, max)),
        _ => Err(format!("`{text}` is no key size: use 16 or 16-40")),
    }
}
