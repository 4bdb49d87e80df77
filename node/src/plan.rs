//! What a node will use: its settings measured against what the host has.
//!
//! Pure: the same settings and host give the same plan. The plan is complete before the first core
//! starts, so that a node never gives up half started over something that could be known before.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use pinnace_core::logged_value_bytes_max;
use pinnace_types::{ByteSize, Limits, ShardMap};
use pinnace_wal::LogLimits;

use crate::config::{CoreSelection, Durability, MemorySetting, Settings, cpu_list};
use crate::failure::Failure;
use crate::host::Host;

/// Kept back from the host's memory for what is not items: receive buffers and rings (about 10 MiB a
/// core), connections that wait for the rest of a request or of a reply, and the program itself.
/// Measured: 9,000 connections that pipeline take 49 MB with the 20 MB of their items.
pub(crate) const RESERVED_BYTES: u64 = 64 << 20;

/// Less than this per core leaves no room to evict in: the index of 256 shards and a few segments.
const CORE_BYTES_MIN: u64 = 16 << 20;

/// What a node will use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The CPU of each core, by core.
    pub(crate) cpus: Vec<usize>,
    /// The budget of all cores together.
    pub(crate) memory_bytes: u64,
    /// The budget of one core.
    pub(crate) core_memory_bytes: u64,
    /// Which shard lives on which core.
    pub(crate) shards: ShardMap,
    /// The address that all cores share.
    pub(crate) address: SocketAddr,
    /// The address of each core alone, by core; empty if they have none.
    pub(crate) core_addresses: Vec<SocketAddr>,
    /// Bounds on what clients may do.
    pub(crate) limits: Limits,
    /// What the user should know but need not act on.
    pub(crate) notes: Vec<String>,
}

impl Plan {
    /// # Errors
    /// [`Failure::Cores`], [`Failure::Memory`] or [`Failure::Config`] if the host cannot give what is asked.
    pub(crate) fn make(settings: &Settings, host: &Host) -> Result<Self, Failure> {
        let mut notes = Vec::new();
        let cpus = choose_cpus(&settings.cores, host, &mut notes)?;
        let core_count = u16::try_from(cpus.len())
            .map_err(|_| Failure::Cores(format!("{} cores are more than one node can use", cpus.len())))?;
        if settings.shards < core_count {
            return Err(Failure::Config(format!(
                "--shards {} is less than the {core_count} cores, some would have nothing to do: raise --shards or \
                 lower --cores",
                settings.shards
            )));
        }
        let memory_bytes = choose_memory(settings.memory, u64::from(core_count), host)?;
        Ok(Self {
            memory_bytes,
            core_memory_bytes: memory_bytes / u64::from(core_count),
            shards: ShardMap::new(settings.shards, core_count),
            address: SocketAddr::new(settings.bind, settings.port),
            core_addresses: core_addresses(settings, core_count)?,
            limits: Limits {
                value_bytes_max: choose_value_bytes_max(settings, &mut notes)?,
                ..limits(settings, memory_bytes, core_count)
            },
            cpus,
            notes,
        })
    }
}

fn choose_cpus(
    selection: &CoreSelection,
    host: &Host,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, Failure> {
    let allowed = &host.cpus;
    let allowed_text = || format!("this process may use {} ({})", allowed.len(), cpu_list(allowed));
    if allowed.is_empty() {
        return Err(Failure::Cores("the CPUs of this process cannot be read: is /proc mounted?".to_owned()));
    }
    let cpus = match selection {
        CoreSelection::Auto => {
            // Rounded down: a core thread that is throttled for half of each period stalls all its
            // shards for that long, which costs more than half a core gives.
            let quota = host.cpu_quota.map_or(allowed.len(), |quota| (quota.floor() as usize).max(1));
            if quota < allowed.len() {
                notes.push(format!(
                    "the cgroup allows {:.2} CPUs of {}: using {quota} (--cores overrides)",
                    host.cpu_quota.unwrap_or_default(),
                    allowed.len()
                ));
            }
            allowed[..quota.min(allowed.len())].to_vec()
        }
        CoreSelection::Count(count) => {
            let count = usize::from(*count);
            if count > allowed.len() {
                return Err(Failure::Cores(format!(
                    "--cores {count} is more than there are: {}; lower it, or widen the affinity (taskset, cpuset)",
                    allowed_text()
                )));
            }
            allowed[..count].to_vec()
        }
        CoreSelection::List(list) => {
            let missing: Vec<usize> = list.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
            if !missing.is_empty() {
                return Err(Failure::Cores(format!(
                    "--cores names CPU {} which this process may not use: {}; name others, or widen the affinity \
                     (taskset, cpuset)",
                    cpu_list(&missing).trim_end_matches(','),
                    allowed_text()
                )));
            }
            list.clone()
        }
    };
    let over_quota = host.cpu_quota.filter(|quota| *quota < cpus.len() as f64);
    if let Some(quota) = over_quota
        && *selection != CoreSelection::Auto
    {
        notes.push(format!(
            "{} cores on a cgroup quota of {quota:.2} CPUs: expect stalls when all are busy",
            cpus.len()
        ));
    }
    Ok(cpus)
}

fn choose_memory(setting: MemorySetting, core_count: u64, host: &Host) -> Result<u64, Failure> {
    let there_is = ByteSize(host.memory_bytes);
    let source = if host.memory_is_cgroup_limit { "the cgroup's limit" } else { "this machine's memory" };
    let usable = host.memory_bytes.saturating_sub(RESERVED_BYTES);
    let least = ByteSize(CORE_BYTES_MIN * core_count);
    let (bytes, name) = match setting {
        MemorySetting::Auto => ((host.memory_bytes / 4 * 3).saturating_sub(RESERVED_BYTES), "the default"),
        MemorySetting::Bytes(size) => (size.0, "--memory"),
    };
    if bytes > usable {
        return Err(Failure::Memory(format!(
            "{name} {} is more than there is: {source} is {there_is}, less {} for connections leaves {}; lower \
             --memory or raise the limit",
            ByteSize(bytes),
            ByteSize(RESERVED_BYTES),
            ByteSize(usable)
        )));
    }
    if bytes < least.0 {
        return Err(Failure::Memory(format!(
            "{name} {} is too little for {core_count} cores, which need {least} ({} each): raise --memory or lower \
             --cores ({source} is {there_is})",
            ByteSize(bytes),
            ByteSize(CORE_BYTES_MIN)
        )));
    }
    Ok(bytes)
}

/// A value is never divided over two files of the log.
fn choose_value_bytes_max(settings: &Settings, notes: &mut Vec<String>) -> Result<u64, Failure> {
    let wanted = settings.max_value_size.map_or(Limits::DEFAULT.value_bytes_max, |size| size.0);
    if settings.durability == Durability::None {
        return Ok(wanted);
    }
    let file_bytes = settings.wal_segment_size;
    let limits = LogLimits { segment_bytes: file_bytes.0, ..LogLimits::DEFAULT };
    let key_bytes_max = u32::try_from(settings.max_key_size.0).expect("validated to fit 16 bits");
    let taken = logged_value_bytes_max(&limits, settings.shards, key_bytes_max);
    if wanted <= taken {
        return Ok(wanted);
    }
    if settings.max_value_size.is_some() {
        return Err(Failure::Config(format!(
            "--max-value-size {} is more than a log file holds: with --wal-segment-size {file_bytes} a value can have {taken} bytes; \
             lower it, or raise --wal-segment-size",
            ByteSize(wanted),
        )));
    }
    notes.push(format!(
        "values can have {taken} bytes, what a log file of {file_bytes} holds (--wal-segment-size)"
    ));
    Ok(taken)
}

fn core_addresses(settings: &Settings, core_count: u16) -> Result<Vec<SocketAddr>, Failure> {
    let Some(base) = settings.core_ports else { return Ok(Vec::new()) };
    let Some(last) = base.checked_add(core_count - 1) else {
        return Err(Failure::Config(format!(
            "--core-ports {base} and {core_count} cores go beyond port 65535: choose a lower base"
        )));
    };
    if let Some((name, port)) = settings.named_ports().iter().find(|(_, port)| (base..=last).contains(port)) {
        return Err(Failure::Config(format!(
            "--core-ports {base} takes {base} to {last}, but {port} is --{name}: choose another base"
        )));
    }
    Ok((base..=last).map(|port| SocketAddr::new(settings.bind, port)).collect())
}

/// Bounds of what connections may hold beside the items: requests that are not complete yet, and
/// replies that are not sent yet. Each is a quarter of the budget, within these.
const INPUT_BYTES: RangeInclusive<u64> = 160 << 20..=1 << 30;
const OUTPUT_BYTES: RangeInclusive<u64> = 128 << 20..=1 << 30;

/// The bound on unsent replies is shared out to the cores; less than this each would close a client
/// that asks for one value of 64 MiB from another core.
const CORE_OUTPUT_BYTES_MIN: u64 = 72 << 20;

fn limits(settings: &Settings, memory_bytes: u64, core_count: u16) -> Limits {
    let default = Limits::DEFAULT;
    let quarter = |range: RangeInclusive<u64>| (memory_bytes / 4).clamp(*range.start(), *range.end());
    Limits {
        connections_max: settings.max_connections.unwrap_or(default.connections_max),
        key_bytes_max: u32::try_from(settings.max_key_size.0).expect("validated to fit 16 bits"),
        idle_timeout_ms: u64::try_from(settings.idle_timeout.0.as_millis()).unwrap_or(u64::MAX),
        input_bytes_max: quarter(INPUT_BYTES),
        output_bytes_max: quarter(OUTPUT_BYTES).max(CORE_OUTPUT_BYTES_MIN * u64::from(core_count)),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::{CORE_BYTES_MIN, Plan, RESERVED_BYTES};
    use crate::config::{Config, Durability, Layer};
    use crate::failure::Failure;
    use crate::host::Host;

    const GIB: u64 = 1 << 30;

    fn host(cpus: &[usize], cpu_quota: Option<f64>, memory_bytes: u64) -> Host {
        Host { cpus: cpus.to_vec(), cpu_quota, memory_bytes, memory_is_cgroup_limit: false }
    }

    fn plan(change: impl FnOnce(&mut Layer), host: &Host) -> Result<Plan, Failure> {
        let mut flags = Layer::default();
        change(&mut flags);
        Plan::make(&Config::load(&flags, &[], None).unwrap().settings, host)
    }

    #[test]
    fn all_allowed_cores_and_three_quarters_of_the_memory_by_default() {
        let plan = plan(|_| {}, &host(&[0, 1, 5], None, 16 * GIB)).unwrap();
        assert_eq!(plan.cpus, [0, 1, 5]);
        assert_eq!(plan.memory_bytes, 12 * GIB - RESERVED_BYTES);
        assert_eq!(plan.core_memory_bytes, plan.memory_bytes / 3);
        assert_eq!((plan.shards.shard_count(), plan.shards.core_count()), (256, 3));
        assert_eq!(plan.address.to_string(), "127.0.0.1:7700");
        assert!(plan.notes.is_empty() && plan.core_addresses.is_empty());
    }

    #[test]
    fn a_quota_is_rounded_down_to_whole_cores_but_never_to_none() {
        for (quota, cores) in [(0.3, 1), (1.0, 1), (1.5, 1), (2.0, 2), (3.9, 3), (64.0, 4)] {
            let plan = plan(|_| {}, &host(&[0, 1, 2, 3], Some(quota), GIB)).unwrap();
            assert_eq!(plan.cpus.len(), cores, "{quota}");
            assert_eq!(plan.notes.is_empty(), cores == 4, "{:?}", plan.notes);
        }
        let plan =
            plan(|flags| flags.cores = Some("4".parse().unwrap()), &host(&[0, 1, 2, 3], Some(1.5), GIB));
        assert!(plan.unwrap().notes[0].contains("quota of 1.50"));
    }

    #[test]
    fn chosen_cores_must_be_allowed() {
        let host = host(&[2, 3, 6], None, GIB);
        let cores = |text: &str| plan(|flags| flags.cores = Some(text.parse().unwrap()), &host);
        assert_eq!(cores("2").unwrap().cpus, [2, 3]);
        assert_eq!(cores("3,6").unwrap().cpus, [3, 6]);
        for (text, named) in [("4", "may use 3 (2-3,6)"), ("0-3", "CPU 0-1"), ("1,", "CPU 1 ")] {
            let failure = cores(text).unwrap_err();
            assert!(matches!(failure, Failure::Cores(_)) && failure.to_string().contains(named), "{failure}");
        }
    }

    #[test]
    fn memory_must_be_there_and_enough() {
        let memory = |text: &str, there_is| {
            plan(|flags| flags.memory = Some(text.parse().unwrap()), &host(&[0, 1], None, there_is))
        };
        assert_eq!(memory("256mb", GIB).unwrap().memory_bytes, 256 << 20);
        assert_eq!(memory("960mb", GIB).unwrap().memory_bytes, GIB - RESERVED_BYTES);
        for (text, there_is, named) in [
            ("2gb", GIB, "1 GiB"),
            ("961mb", GIB, "960 MiB"),
            ("1mb", GIB, "32 MiB"),
            ("auto", 96 << 20, "32 MiB"),
        ] {
            let failure = memory(text, there_is).unwrap_err();
            assert!(
                matches!(failure, Failure::Memory(_)) && failure.to_string().contains(named),
                "{failure}"
            );
        }
        assert_eq!(memory("32mb", GIB).unwrap().core_memory_bytes, CORE_BYTES_MIN);
    }

    #[test]
    fn core_ports_follow_the_base_and_stay_clear_of_the_others() {
        let host = host(&[0, 1], None, GIB);
        let ports = |base| plan(|flags| flags.core_ports = Some(base), &host);
        let addresses: Vec<u16> =
            ports(7710).unwrap().core_addresses.iter().map(|address| address.port()).collect();
        assert_eq!(addresses, [7710, 7711]);
        for base in [7699, 7701, 65535] {
            assert!(matches!(ports(base), Err(Failure::Config(_))), "{base}");
        }
    }

    #[test]
    fn a_core_s_share_of_unsent_replies_holds_one_large_value() {
        for cores in [1usize, 2, 8] {
            let cpus: Vec<usize> = (0..cores).collect();
            let plan =
                plan(|flags| flags.memory = Some("512mb".parse().unwrap()), &host(&cpus, None, 4 * GIB))
                    .unwrap();
            assert!(plan.limits.output_bytes_max / cores as u64 > 65 << 20);
        }
    }

    #[test]
    fn a_value_must_fit_into_a_log_file() {
        let host = host(&[0], None, GIB);
        let limit = |size: Option<&str>, file: &str, durability| {
            plan(
                |flags| {
                    flags.max_value_size = size.map(|size| size.parse().unwrap());
                    flags.wal_segment_size = Some(file.parse().unwrap());
                    flags.durability = Some(durability);
                },
                &host,
            )
            .map(|plan| (plan.limits.value_bytes_max, plan.notes.len()))
        };
        assert_eq!(limit(None, "64mb", Durability::None).ok(), Some((512 << 20, 0)));
        assert_eq!(limit(None, "1gb", Durability::Sync).ok(), Some((512 << 20, 0)));
        let (taken, notes) = limit(None, "64mb", Durability::Sync).unwrap();
        assert!(taken > 63 << 20 && taken < 64 << 20 && notes == 1, "{taken}");
        assert_eq!(limit(Some(&taken.to_string()), "64mb", Durability::Async).ok(), Some((taken, 0)));
        let failure = limit(Some("64mb"), "64mb", Durability::Async).unwrap_err();
        assert!(failure.to_string().contains("--wal-segment-size"), "{failure}");
        assert!(limit(None, "1mb", Durability::Sync).unwrap().0 > 900_000);
    }

    #[test]
    fn there_are_at_least_as_many_shards_as_cores() {
        let failure = plan(|flags| flags.shards = Some(1), &host(&[0, 1], None, GIB)).unwrap_err();
        assert!(failure.to_string().contains("--shards 1 is less than the 2 cores"), "{failure}");
    }
}
