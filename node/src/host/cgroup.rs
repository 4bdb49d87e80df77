//! CPU quota and memory limit of the cgroups that this process is in, version 1 and 2.
//!
//! Limits hold for a whole subtree, so that the tightest one between the process' own group and the
//! root of the mount counts. In a container the mount shows only a part of the tree, or the group's
//! path names directories that are not visible; what cannot be seen is taken as no limit, since the
//! group at the mount's root is then the container's own.

use std::fs;
use std::path::{Path, PathBuf};

/// The directories that may hold limits, from the process' group to the root of the mount.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds the groups of this process; `root` is `/` outside tests.
    pub(super) fn of_process(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let directories = |controller: &str| {
            let group = group_path(&groups, controller)?;
            let mount = Mount::find(&mounts, controller)?;
            Some(mount.directories(root, group))
        };
        Self {
            unified: directories("").unwrap_or_default(),
            cpu: directories("cpu").unwrap_or_default(),
            memory: directories("memory").unwrap_or_default(),
        }
    }

    /// CPUs' worth of time that the tightest quota allows.
    pub(super) fn cpu_quota(&self) -> Option<f64> {
        let unified = self.unified.iter().filter_map(|directory| {
            let text = fs::read_to_string(directory.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            ratio(quota, period)
        });
        let legacy = self.cpu.iter().filter_map(|directory| {
            let quota = fs::read_to_string(directory.join("cpu.cfs_quota_us")).ok()?;
            let period = fs::read_to_string(directory.join("cpu.cfs_period_us")).ok()?;
            ratio(&quota, &period)
        });
        unified.chain(legacy).min_by(f64::total_cmp)
    }

    /// The tightest memory limit. "No limit" reads as a number larger than any memory in version 1.
    pub(super) fn memory_limit_bytes(&self) -> Option<u64> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let unified = self.unified.iter().filter_map(|directory| number(directory.join("memory.max")));
        let legacy =
            self.memory.iter().filter_map(|directory| number(directory.join("memory.limit_in_bytes")));
        unified.chain(legacy).min()
    }
}

/// Quota over period; `max` and -1 mean that there is none.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok().filter(|period| *period > 0)?;
    Some(quota as f64 / period as f64)
}

/// The process' group under a controller; the unified hierarchy has the empty name.
fn group_path<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

/// Where a hierarchy is mounted and which part of it.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    part: &'a str,
    place: &'a str,
}

impl<'a> Mount<'a> {
    /// A line reads `id parent major:minor ROOT PLACE options [tags] - TYPE source OPTIONS`.
    fn find(mounts: &'a str, controller: &str) -> Option<Self> {
        mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let (part, place) = (left.next()?, left.next()?);
            let mut right = right.split(' ');
            let (kind, options) = (right.next()?, right.nth(1)?);
            let matches = match controller {
                "" => kind == "cgroup2",
                name => kind == "cgroup" && options.split(',').any(|option| option == name),
            };
            matches.then_some(Self { part, place })
        })
    }

    /// The directories from `group` up to the mount's root that exist.
    fn directories(&self, root: &Path, group: &str) -> Vec<PathBuf> {
        let top = root.join(self.place.trim_start_matches('/'));
        let part = self.part.trim_end_matches('/');
        let inside = group.strip_prefix(part).unwrap_or("").trim_start_matches('/');
        let group = top.join(inside);
        let up = group.ancestors().take_while(|directory| directory.starts_with(&top));
        up.filter(|directory| directory.is_dir()).map(Path::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Cgroups;
    use std::fs;
    use std::path::{Path, PathBuf};

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, groups: &str, mounts: &str) -> Self {
            let root = std::env::temp_dir().join(format!("pinnace-cgroup-{}-{name}", std::process::id()));
            let tree = Self(root);
            tree.put("proc/self/cgroup", groups);
            tree.put("proc/self/mountinfo", mounts);
            tree
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self) -> (Option<f64>, Option<u64>) {
            let cgroups = Cgroups::of_process(&self.0);
            (cgroups.cpu_quota(), cgroups.memory_limit_bytes())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 30 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                      32 30 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

    #[test]
    fn the_tightest_limit_on_the_way_to_the_root_counts() {
        let tree = Tree::new("v2", "0::/kube/pod/box\n", V2);
        tree.put("sys/fs/cgroup/kube/pod/box/cpu.max", "max 100000\n");
        tree.put("sys/fs/cgroup/kube/pod/box/memory.max", "1073741824\n");
        tree.put("sys/fs/cgroup/kube/pod/cpu.max", "150000 100000\n");
        tree.put("sys/fs/cgroup/kube/pod/memory.max", "max\n");
        tree.put("sys/fs/cgroup/kube/cpu.max", "400000 100000\n");
        tree.put("sys/fs/cgroup/kube/memory.max", "536870912\n");
        assert_eq!(tree.read(), (Some(1.5), Some(512 << 20)));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_root_of_a_version_1_mount() {
        let tree = Tree::new("v1", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n", V1);
        tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
        tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        tree.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
        assert_eq!(tree.read(), (Some(2.5), Some(256 << 20)));
    }

    #[test]
    fn no_quota_is_no_limit() {
        let tree = Tree::new("none", "5:cpu,cpuacct:/docker/abc\n", V1);
        tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        assert_eq!(tree.read(), (None, None));
        assert_eq!(Cgroups::of_process(Path::new("/nonexistent")), Cgroups::default());
    }
}
