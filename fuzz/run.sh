#!/usr/bin/env bash
# Runs each fuzz target for a bounded time, from the texts in testdata.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<USAGE
Usage: $0 [SECONDS] [TARGET...]     (default: 300 seconds for each target)

  TARGET   config    FRR configuration text: read, printed, read back, compared
           template  the site's template: hints found, sections put in

A panic, a text that takes above 10 s, or 2 GB of memory, is a failure: the text is kept in fuzz/artifacts/TARGET, and
'$0' ends with 1. What was found on the way is kept in fuzz/corpus/TARGET, and the next run begins with it.

Examples:
  $0                    all targets, as in 'make soak'
  $0 3600 config        one of them for an hour
  cargo fuzz run config --dev --sanitizer none fuzz/artifacts/config/crash-...     that text once more
USAGE
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
seconds=${1:-300}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { usage >&2; printf '%s: not a number of seconds: %s\n' "$0" "$seconds" >&2; exit 2; }
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(config template)
cache=${NETWORK_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/network-operator}
PATH=$cache/cargo-fuzz/bin:$PATH

# The sanitizers need a nightly tool chain, and find faults of unsafe code, of which there is none here. Debug builds
# find overflows.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=line-tables-only
fuzz() { cargo fuzz "$1" --dev --sanitizer none "${@:2}"; }
fuzz build
for target in "${targets[@]}"; do
  log=$(mktemp)
  mkdir -p "fuzz/corpus/$target"
  if ! fuzz run "$target" "fuzz/corpus/$target" testdata -- -max_total_time="$seconds" -timeout=10 -max_len=16384 \
    -dict=fuzz/frr.dict -print_final_stats=1 >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
  printf 'SOAK fuzz %s: %s texts in %s s: no panic, and none took above 10 s\n' "$target" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$seconds"
  rm -f "$log"
done
