#!/usr/bin/env bash
# nabu-store beside nginx, by one client on one machine, in paired runs; and both beside the limits
# of the machine.
#
#   benches/compare.sh [--rows NAME,…] [--seconds N] [--pairs N] [--memory SIZE] [--dir DIR] [--discard] [--list]
#
# The server runs on CPU 0 and `nabu-store bench` on CPU 1; rows that give the server two cores say
# so. Each row runs A B A B … in one go and its result is the median of each side. Writes
# target/bench/compare.{md,json,svg}. NABU_BINARY names a nabu-store that is built already. Needs
# Linux with two CPUs or more, and python3; a peer or a tool that is not installed (nginx, fio,
# iperf3, openssl) is skipped with a word. Page caches can be dropped by root only: others skip the
# cold rows of nginx. Nothing else should run on the machine meanwhile.
#
# Where the kernel's default congestion control is bbr, which paces the loopback too (2 GB/s instead
# of 7 were seen), root can measure in a network of its own:
#
#   unshare -n bash -c 'ip link set lo up; sysctl -qw net.ipv4.tcp_congestion_control=cubic; benches/compare.sh'
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v python3 >/dev/null || { echo "benches/compare.sh needs python3" >&2; exit 1; }
if [[ " $* " != *" --list "* && " $* " != *" --help "* && -z ${NABU_BINARY:-} ]]; then
    cargo build --release --quiet
    export NABU_BINARY=$PWD/target/release/nabu-store
fi
exec python3 -B benches/compare/main.py "$@"
