//! Ready-made workloads with the sources their numbers are from.

use super::WorkloadSpec;
use crate::error::BenchError;

/// One ready-made workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) source: &'static str,
    mix: &'static str,
    popularity: &'static str,
    key_size: Option<&'static str>,
    value_size: &'static str,
    ttl: &'static str,
    cache_aside: bool,
}

const YCSB: &str = "Cooper et al., Benchmarking Cloud Serving Systems with YCSB, SoCC 2010, table 2 and section 4; \
                    records of 1000 bytes (10 fields of 100) are written whole";
const TWITTER: &str =
    "Yang, Yue, Rashmi: A Large Scale Analysis of Hundreds of In-Memory Cache Clusters at Twitter, OSDI 2020";
const META: &str = "Atikoglu et al.: Workload Analysis of a Large-Scale Key-Value Store, SIGMETRICS 2012 (Facebook, memcached)";

/// A YCSB workload: keys of 23 bytes as in `user` and a 19-digit hash.
const fn ycsb(name: &'static str, what: &'static str, mix: &'static str, popularity: &'static str) -> Preset {
    Preset {
        name,
        what,
        source: YCSB,
        mix,
        popularity,
        key_size: Some("23"),
        value_size: "1000",
        ttl: "none",
        cache_aside: false,
    }
}

pub(crate) const PRESETS: [Preset; 9] = [
    ycsb("ycsb-a", "update heavy: half reads, half updates", "get=50,set=50", "zipf:0.99"),
    ycsb("ycsb-b", "read mostly: 95 % reads, 5 % updates", "get=95,set=5", "zipf:0.99"),
    ycsb("ycsb-c", "read only", "get", "zipf:0.99"),
    ycsb("ycsb-d", "read latest: 95 % reads of new records, 5 % inserts", "get=95,insert=5", "latest:0.99"),
    ycsb("ycsb-f", "half reads, half read-modify-writes", "get=50,rmw=50", "zipf:0.99"),
    Preset {
        name: "twitter-read",
        what: "the usual Twitter cluster: reads with few writes, small values, short lives",
        source: TWITTER,
        mix: "get=90,set=10",
        // Median Zipf exponent between 1 and 1.5 in most read-heavy clusters (section 4.4).
        popularity: "zipf:1.2",
        key_size: Some("38"),
        // Median value size 230 bytes over clusters (section 4.5), log-normal tail by our choice.
        value_size: "lognormal:230,1.0,102400",
        ttl: "10m,1h,1d",
        cache_aside: true,
    },
    Preset {
        name: "twitter-write",
        what: "a write-heavy Twitter cluster (more than 30 % writes, as in 35 % of the clusters)",
        source: TWITTER,
        mix: "get=50,set=50",
        popularity: "zipf:0.8",
        key_size: Some("38"),
        value_size: "lognormal:230,1.0,102400",
        ttl: "5m,30m,1h",
        cache_aside: false,
    },
    Preset {
        name: "meta-etc",
        what: "Facebook's general pool ETC: 30 reads to 1 write, many tiny values, a long tail",
        source: META,
        mix: "get=30,set=1",
        popularity: "zipf:0.99",
        // Keys mostly of 20 to 45 bytes (figure 2).
        key_size: Some("20-45"),
        // 40 % of the requests have values of 2, 3 or 11 bytes; 90 % of the values are under 500 bytes.
        value_size: "hist:2=14,3=13,11=13,64=15,200=20,400=15,800=6,4k=3,64k=1",
        ttl: "none",
        cache_aside: true,
    },
    Preset {
        name: "meta-usr",
        what: "Facebook's user pool USR: practically read only, keys of 16 or 21 bytes, values of 2 bytes",
        source: META,
        mix: "get=998,set=2",
        popularity: "zipf:0.99",
        key_size: Some("16-21"),
        value_size: "2",
        ttl: "none",
        cache_aside: false,
    },
];

impl Preset {
    pub(crate) fn spec(&self) -> WorkloadSpec {
        WorkloadSpec {
            mix: Some(self.mix.to_owned()),
            popularity: Some(self.popularity.to_owned()),
            key_size: self.key_size.map(str::to_owned),
            value_size: Some(self.value_size.to_owned()),
            ttl: Some(self.ttl.to_owned()),
            cache_aside: Some(self.cache_aside),
            ..WorkloadSpec::default()
        }
    }
}

/// The preset of that name.
pub(crate) fn find(name: &str) -> Result<&'static Preset, BenchError> {
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        BenchError::usage(format!("`{name}` is no preset: there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::{PRESETS, WorkloadSpec};
    use crate::workload::Workload;

    #[test]
    fn every_preset_can_be_run() {
        for preset in PRESETS {
            let spec = WorkloadSpec { preset: Some(preset.name.to_owned()), ..WorkloadSpec::default() };
            assert!(Workload::resolve(&spec, 1).is_ok(), "{}", preset.name);
        }
    }
}
