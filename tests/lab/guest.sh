#!/usr/bin/env bash
# guest.sh KERNEL EXECUTABLE TEST: runs one test of a test executable under QEMU, with Debian's cloud kernel (its package, unpacked)
# and an initramfs of what the test needs from this machine. Unlike Debian's User-Mode Linux that kernel has nftables of family inet, VRFs and the JIT at once.
# Processors are emulated: a machine without hardware virtualisation will do.
set -euo pipefail

kernel=$1 executable=$2 test=$3
version=$(basename "$kernel"/lib/modules/*)
commands=(bash ip kmod mount nft nsenter sh sleep unshare)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,proc,run,sys,tmp,lib/modules}

libraries() { ldd "$1" | grep -o '/[^ )]*' | while read -r library; do install -D "$library" "$root$library"; done; }
for command in "${commands[@]}"; do
  path=$(readlink -f "$(type -P "$command")")
  install -D "$path" "$root/bin/$command"
  libraries "$path"
done
install -D "$executable" "$root/test"
libraries "$executable"
mkdir -p "$root/sbin" && ln -s /bin/kmod "$root/bin/modprobe" && ln -s /bin/kmod "$root/sbin/modprobe"
for modules in net drivers/net lib; do
  (cd "$kernel" && find "lib/modules/$version/kernel/$modules" -name '*.ko' -exec cp --parents -t "$root" {} +)
done
cp "$kernel/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$version/"
depmod -b "$root" "$version"

cat >"$root/init" <<INIT
#!/bin/sh
export PATH=/bin HOME=/run TMPDIR=/run RUST_BACKTRACE=0 NETWORK_OPERATOR_IN_GUEST=1
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /run
ip link set lo up
for module in vrf vxlan bridge veth dummy; do modprobe \$module; done
/test --exact '$test' --nocapture --test-threads 1
echo "GUEST-STATUS \$?"
echo o >/proc/sysrq-trigger; sleep 99
INIT
chmod 755 "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1 >"$work/initramfs")

timeout 300 qemu-system-x86_64 -accel tcg -cpu max -m 1024 -nographic -nodefaults -no-reboot -serial stdio \
  -kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1" </dev/null | tee "$work/said"
grep -q '^GUEST-STATUS 0' "$work/said"
