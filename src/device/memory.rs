//! How much memory the machine lets this process have.

/// Bytes of memory that the machine has, or that a container may use where that is less (as control groups, version 2, show
/// it from within); `None` where the system does not tell. It is asked as Linux tells it.
pub fn memory() -> Option<u64> {
    let read = |path: &str| fs_err::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_much_there_is() {
        assert_eq!(total("MemTotal:       24617528 kB\nMemFree:        1 kB\n"), Some(24_617_528 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }
}
