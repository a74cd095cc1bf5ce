//! Memory that this process may use.

use sysinfo::System;

/// Total memory in bytes: that of the machine, or the limit of the container (cgroup) if it is
/// lower; `None` when the operating system does not report it.
pub fn total_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    [Some(system.total_memory()), limit].into_iter().flatten().filter(|bytes| *bytes > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn total_memory_is_at_most_that_of_the_machine() {
        let meminfo = fs_err::read_to_string("/proc/meminfo").unwrap();
        let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
        let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        assert!(total_memory().is_some_and(|bytes| bytes > 0 && bytes <= kib * 1024));
    }
}
