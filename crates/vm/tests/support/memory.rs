//! What a process has in memory (`/proc/<pid>/status`).

/// A line of it, such as `VmHWM`, the most that was ever resident, in bytes.
pub fn status(pid: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.unwrap().trim().trim_end_matches(" kB").trim();
    kib.parse::<u64>().unwrap() * 1_024
}
