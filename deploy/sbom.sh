#!/usr/bin/env bash
# Writes what is linked into the program as CycloneDX, and fails where a package is missing in it.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${NETWORK_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/network-operator}
PATH=$PATH:$HOME/.cargo/bin
folder=${CARGO_TARGET_DIR:-target}/sbom
name=network-operator.cdx
work=$(mktemp -d)
# The tool writes beside each Cargo.toml of the workspace.
trap 'rm -rf "$work" "$name.json" "fuzz/$name.json"' EXIT
target=$(rustc -vV | sed -n 's/^host: //p')

# The same sources give the same file, but for its serial number.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
PATH=$cache/cargo-cyclonedx/bin:$PATH cargo cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps --target "$target" --override-filename "$name"
mkdir -p "$folder"
mv "$name.json" "$folder/$name.json"

cargo tree --locked --package network-operator --edges normal,no-proc-macro --target "$target" --prefix none --format '{p}' |
  awk '{ sub(/^v/, "", $2); print $1 " " $2 }' | sort -u >"$work/linked"
jq -r '(.metadata.component, .components[]) | "\(.name) \(.version)"' "$folder/$name.json" | sort -u >"$work/listed"
missing=$(comm -23 "$work/linked" "$work/listed")
if [ -n "$missing" ]; then
  printf 'sbom: linked, and not listed in %s:\n%s\n' "$folder/$name.json" "$missing" >&2
  exit 1
fi
printf 'sbom: %s has the %d packages that are linked into network-operator for %s\n' "$folder/$name.json" "$(wc -l <"$work/linked")" "$target"
