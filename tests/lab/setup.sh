#!/usr/bin/env bash
# Makes what the tests and the demo run on: packages, node images with two FRR versions, an API server, Helm and kustomize.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${NETWORK_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/network-operator}

usage() {
  cat <<USAGE
Usage: $0 [rust] [packages] [kernel] [images] [apiserver] [helm] [kustomize]     (default: all of these, in this order)
       $0 fuzzer | sbom

  packages   Debian packages that building and testing need (apt-get install)
  kernel     Debian's cloud kernel, for tests under QEMU; it is unpacked and not installed
  images     node images with systemd and FRR: Debian 12 (FRR 8.4.4) and Debian 13 (FRR 10.3)
  apiserver  kube-apiserver, kube-controller-manager and kubectl, built from Debian's source package; nothing is
             built where KUBEBUILDER_ASSETS names a folder that holds them and etcd
  helm       Helm's Go SDK as a Python package, in an environment of its own, to render the chart
  kustomize  kustomize of Debian 13; it is unpacked and not installed
  rust       a look at the Rust tool chain, 1.95 or later must be there, and the crates of Cargo.lock
  fuzzer     cargo-fuzz from crates.io, for the fuzz targets of the long tests
  sbom       cargo-cyclonedx from crates.io, for the list of what is linked into the program

Everything is kept in $cache
(NETWORK_OPERATOR_CACHE and XDG_CACHE_HOME change that). What is there already is not made again.
USAGE
}

say() { printf '[set-up %4ds] %s\n' "$SECONDS" "$*"; }
die() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

# made NAME KEY: whether NAME was made from the very inputs that KEY stands for.
made() { [ -e "$cache/$1" ] && [ "$(cat "$cache/$1.key" 2>/dev/null)" = "$2" ]; }
key() { cat "$@" | sha256sum | cut -c1-32; }

host_packages=(build-essential ca-certificates clang cpio curl debian-archive-keyring dpkg-dev e2fsprogs etcd-server git golang-go
  golang-github-modern-go-reflect2-dev iproute2 jq kmod libbpf-dev mmdebstrap nftables pkg-config python3 python3-jinja2 python3-venv qemu-system-x86 rsync systemd user-mode-linux xz-utils)

lists() { apt-get update -q >"$cache/apt.log" 2>&1 || die "apt-get update failed, see $cache/apt.log"; }

packages() {
  local missing=() p
  for p in "${host_packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${#missing[@]} Debian packages: ${missing[*]}"
    lists
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$cache/apt.log" 2>&1 ||
      die "apt-get install failed, see $cache/apt.log"
  fi
  # A program under User-Mode Linux on the host's own root finds the modules of that kernel here.
  local modules version
  for modules in /usr/lib/uml/modules/*; do
    version=${modules##*/}
    [ -e "/lib/modules/$version" ] || { mkdir -p /lib/modules && ln -s "$modules" "/lib/modules/$version"; }
    [ -e "$modules/modules.dep" ] || depmod "$version"
  done
  say "packages: ready"
}

kernel() {
  local want package
  want=$(declare -f kernel | sha256sum | cut -c1-32)
  if made kernel "$want"; then say "kernel for QEMU: ready"; return; fi
  lists
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
  local work; work=$(mktemp -d "$cache/kernel.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" RETURN
  (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$package") >>"$cache/apt.log" 2>&1 ||
    die "the download of Debian's cloud kernel failed, see $cache/apt.log"
  dpkg-deb -x "$work"/*.deb "$work/root"
  rm -rf "$cache/kernel" && mv "$work/root" "$cache/kernel" && echo "$want" >"$cache/kernel.key"
  say "kernel for QEMU: ready"
}

image_packages=(systemd systemd-sysv dbus udev iproute2 frr frr-pythontools kmod procps jq iptables iputils-ping nftables python3-minimal traceroute)
masked=(systemd-timesyncd.service systemd-networkd.service systemd-resolved.service apt-daily.timer apt-daily-upgrade.timer
  dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-update-utmp.service
  systemd-journal-flush.service console-getty.service getty@tty1.service serial-getty@.service systemd-firstboot.service
  systemd-pcrphase.service systemd-logind.service systemd-tpm2-setup-early.service systemd-tpm2-setup.service
  systemd-hwdb-update.service ldconfig.service systemd-rfkill.service systemd-rfkill.socket)

image() {
  local suite=$1 name=images/$1.ext4 want
  want=$({ declare -f image image_root; echo "$suite" "${image_packages[*]}" "${masked[*]}"; cat "$here"/image/*;
           dpkg-query -W user-mode-linux; } | sha256sum | cut -c1-32)
  if made "$name" "$want"; then say "image $suite: ready"; return; fi
  say "image $suite: making it (about two minutes)"
  local work; work=$(mktemp -d "$cache/image.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" RETURN
  image_root "$suite" "$work/root" >"$cache/image-$suite.log" 2>&1 || die "image $suite failed, see $cache/image-$suite.log"
  mke2fs -q -t ext4 -d "$work/root" -L root "$work/img" 2G
  mkdir -p "$cache/images"
  mv "$work/img" "$cache/$name" && echo "$want" >"$cache/$name.key"
  say "image $suite: ready"
}

image_root() {
  local suite=$1 root=$2 mirror unit
  mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1)
  mmdebstrap --variant=minbase --mode=root --include="$(IFS=,; echo "${image_packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root" ${mirror:+"$mirror"}
  mkdir -p "$root/lib/modules"
  cp -a /usr/lib/uml/modules/* "$root/usr/lib/modules/"
  for modules in "$root"/usr/lib/modules/*; do depmod -b "$root" "${modules##*/}"; done
  for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
  rm -f "$root/etc/machine-id" && touch "$root/etc/machine-id"
  # A node on a busy machine takes longer to start FRR than watchfrr waits. After 20 s it kills what starts the daemons and loads frr.conf,
  # which leaves FRR with half of it. After 5 s (--interval) it starts each daemon that does not answer yet a second time beside that; a second
  # mgmtd takes the first one's sockets before it finds that there is one and ends, and staticd asks in vain for its routes from then on.
  sed -i -e 's/^bgpd=no/bgpd=yes/' -e 's/^#*watchfrr_options=.*/watchfrr_options="--interval 60 --restart-timeout 300"/' "$root/etc/frr/daemons"
  printf '%s\n' vrf vxlan bridge veth dummy >"$root/etc/modules-load.d/lab.conf"
  install -m 755 "$here/image/lab-exec" "$root/usr/local/sbin/lab-exec"
  install -m 644 "$here/image/lab-exec.service" "$root/etc/systemd/system/lab-exec.service"
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants" "$root/lab" "$root/labbin"
  ln -sf ../lab-exec.service "$root/etc/systemd/system/multi-user.target.wants/lab-exec.service"
  printf '/dev/ubda / ext4 defaults 0 1\n' >"$root/etc/fstab"
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
}

images() { image bookworm; image trixie; }

apiserver() {
  local dir=$cache/k8s want
  if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/kube-controller-manager" ]; then
    say "API server: the one in KUBEBUILDER_ASSETS"; return
  fi
  want=$({ declare -f apiserver build_kubernetes; } | sha256sum | cut -c1-32)
  if made k8s "$want"; then say "API server: ready"; return; fi
  say "API server: building it, its controllers and kubectl from Debian's source (about ten minutes)"
  local work; work=$(mktemp -d "$cache/k8s.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" RETURN
  build_kubernetes "$work" >"$cache/k8s.log" 2>&1 || die "building the API server failed, see $cache/k8s.log"
  rm -rf "$dir" && mv "$work/out" "$dir" && echo "$want" >"$dir.key"
  say "API server: ready"
}

# Debian 12's kubernetes 1.20 carries its vendored modules. Sources are read through lists of our own, so that the
# machine's /etc/apt stays as it is.
build_kubernetes() {
  local work=$1 mirror src
  mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1)
  mkdir -p "$work/lists/partial" "$work/out" "$work/src" && cd "$work/src"
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} bookworm main" >"$work/sources.list"
  local options=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/lists"
    -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" source --download-only kubernetes
  dpkg-source -x kubernetes_*.dsc tree
  mkdir -p "$work/go/src/k8s.io"
  mv tree "$work/go/src/k8s.io/kubernetes" && cd "$work/go/src/k8s.io/kubernetes"
  # The vendored reflect2 1.0.1 walks maps as Go did before 1.18: an API server built with 1.19 dies on the first custom
  # object. Debian has 1.0.2.
  rm -rf vendor/github.com/modern-go/reflect2
  cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
  # The tree must not look like a checkout of whatever holds the cache folder.
  env -u GOFLAGS GOPATH="$work/go" GO111MODULE=off GOCACHE="$work/gocache" KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_TREE_STATE=clean KUBE_GIT_COMMIT=debian \
    make WHAT="cmd/kube-apiserver cmd/kube-controller-manager cmd/kubectl"
  cp -L _output/local/go/bin/kube-apiserver _output/local/go/bin/kube-controller-manager _output/local/go/bin/kubectl "$work/out/"
  chmod -R u+w "$work"
}

rust() {
  local cargo version
  cargo=$(command -v cargo || true)
  [ -n "$cargo" ] || { [ -x "$HOME/.cargo/bin/cargo" ] && cargo=$HOME/.cargo/bin/cargo; } || true
  [ -n "$cargo" ] || die "cargo is missing: install Rust 1.95 or later, see https://rustup.rs (Debian 12's own is too old)"
  version=$("$cargo" --version | awk '{print $2}')
  [ "$(printf '1.95.0\n%s\n' "$version" | sort -V | head -n 1)" = 1.95.0 ] ||
    die "cargo $version is too old: 1.95 or later is needed ('rustup update stable')"
  # Those of all platforms, which `cargo metadata` reads, also without a network.
  (cd "$here/../.." && "$cargo" fetch --quiet --locked) || die "the crates of Cargo.lock cannot be had from crates.io"
  say "Rust $version: ready"
}

helm() {
  local want
  want=$({ declare -f helm; cat "$here/helm.txt"; } | sha256sum | cut -c1-32)
  if made helm "$want"; then say "Helm: ready"; return; fi
  # An environment holds its own path: it is made where it stays.
  rm -rf "$cache/helm" "$cache/helm.key"
  { python3 -m venv "$cache/helm" &&
    "$cache/helm/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r "$here/helm.txt"; } \
    >"$cache/helm.log" 2>&1 || die "installing Helm's SDK failed, see $cache/helm.log"
  echo "$want" >"$cache/helm.key"
  say "Helm: ready"
}

kustomize() {
  local want mirror
  want=$(declare -f kustomize | sha256sum | cut -c1-32)
  if made kustomize "$want"; then say "kustomize: ready"; return; fi
  mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1) || true
  [ -n "$mirror" ] || die "/etc/apt names no mirror of Debian, from which kustomize would be had"
  local work; work=$(mktemp -d "$cache/kustomize.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" RETURN
  mkdir -p "$work/lists/partial"
  # Debian 12 has none. Lists of our own: the machine's /etc/apt stays as it is.
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
  local options=(-q -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/lists"
    -o APT::Sandbox::User=root)
  (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download kustomize) >"$cache/kustomize.log" 2>&1 ||
    die "the download of kustomize failed, see $cache/kustomize.log"
  dpkg-deb -x "$work"/*.deb "$work/root"
  rm -rf "$cache/kustomize" && mv "$work/root" "$cache/kustomize" && echo "$want" >"$cache/kustomize.key"
  say "kustomize: ready"
}

fuzzer() { from_crates cargo-fuzz 0.13.2; }
sbom() { from_crates cargo-cyclonedx 0.5.9; }

# from_crates NAME VERSION: a program of crates.io, built with the dependencies that its author tested.
from_crates() {
  local name=$1 version=$2
  if made "$name" "$version"; then say "$name $version: ready"; return; fi
  say "$name $version: building it (some minutes)"
  "$(command -v cargo || echo "$HOME/.cargo/bin/cargo")" install --quiet --locked --version "$version" --root "$cache/$name" \
    --target-dir "$cache/$name.build" "$name" >"$cache/$name.log" 2>&1 || die "building $name failed, see $cache/$name.log"
  rm -rf "$cache/$name.build"
  echo "$version" >"$cache/$name.key"
  say "$name $version: ready"
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
[ "$(id -u)" = 0 ] || die "must be run as root: it installs packages and makes images"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another set-up is running; waiting for it"; flock 9; }
[ $# -gt 0 ] || set -- rust packages kernel images apiserver helm kustomize
for step in "$@"; do
  case "$step" in
    # In a shell of its own: a step may end in a folder that it has removed, where nothing can be started.
    packages | kernel | images | apiserver | helm | kustomize | rust | fuzzer | sbom) ("$step") ;;
    *) usage >&2; die "there is no step $step" ;;
  esac
done
