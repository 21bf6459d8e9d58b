//! How the process uses memory, and how much it may use, as its cgroup says.
//!
//! Source: the kernel's `cgroup-v2.rst` (`memory.max`, `max` for no limit) and, for older systems, `cgroup-v1/memory.rst`
//! (`memory.limit_in_bytes`); without a limit, what the machine has (`MemTotal` of `/proc/meminfo`).

use std::fs::read_to_string;

use rustix::thread::disable_transparent_huge_pages;

/// What is assumed where nothing can be read.
const UNKNOWN: usize = 1 << 30;
/// The least budget: a few requests with bodies of the largest size.
const LEAST_BUDGET: usize = 64 << 20;
/// Files with a limit in bytes.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Keeps the kernel from making huge pages of the heap. With them a page of 4 KiB that is touched makes 2 MiB resident, and
/// memory that was used once is hardly ever given back. Called before anything else allocates.
pub fn refuse_huge_pages() {
    // Where the kernel does not know of it there is nothing to refuse.
    let _ = disable_transparent_huge_pages(true);
}

/// Returns the bytes that requests may hold where no option says otherwise: half of what the process may use. The rest is
/// for objects, connections, and what the allocator keeps.
pub fn default_budget() -> usize {
    let limits = LIMITS.iter().filter_map(|file| limit(&read_to_string(file).ok()?));
    let machine = read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    budget(limits.chain(machine).min())
}

fn budget(available: Option<usize>) -> usize {
    (available.unwrap_or(UNKNOWN) / 2).max(LEAST_BUDGET)
}

fn limit(text: &str) -> Option<usize> {
    text.trim().parse().ok()
}

fn total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().map(|kilobytes: usize| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_smallest_limit_is_for_requests() {
        assert_eq!(limit("1073741824\n"), Some(1 << 30));
        assert_eq!(limit("max\n"), None);
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(budget(Some(1 << 30)), 512 << 20);
        assert_eq!(budget(Some(1 << 20)), LEAST_BUDGET);
        assert_eq!(budget(None), UNKNOWN / 2);
    }
}
