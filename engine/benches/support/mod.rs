//! What a bench says about where it ran, and how it measures.

use std::fs;

use nabu_engine::ring::sys;

/// Prints what the numbers depend on: processor, CPUs, kernel, and how busy the machine is with
/// other things.
pub fn print_machine() {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{}, {} CPUs, Linux {}, load average {}",
        model.trim_start_matches([' ', '\t', ':']),
        sys::allowed_cpus().expect("a CPU set").len(),
        sys::kernel_release().expect("uname"),
        load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    );
}
