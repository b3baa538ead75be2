# The node as the Go operator leaves it, beside go-operator.conf: links without a mark, its filter on them, its iptables rules.
mac=02:54:c0:00:02:81 # 02:54 and the underlay's address
table=50
for vrf in blue:100:9000 red:101:1500; do
  IFS=: read -r name vni mtu <<<"$vrf"
  ip link add "vr.$name" type vrf table "$table"
  ip link add "br.$name" master "vr.$name" address "$mac" mtu 9000 type bridge
  ip link add "vx.$name" master "br.$name" address "$mac" mtu 9000 type vxlan id "$vni" local 192.0.2.129 dev dum.underlay dstport 4789 nolearning
  bridge link set dev "vx.$name" learning off hairpin on neigh_suppress off
  ip link add "vd.$name" master "vr.$name" address "02:00:5e:10:00:$table" mtu "$mtu" type veth \
    peer name "dv.$name" address "02:00:5e:10:01:$table" mtu "$mtu"
  ip link set "br.$name" addrgenmode none
  ip link set "vx.$name" addrgenmode none
  for role in vr br vx vd dv; do
    ip link set "$role.$name" up
  done
  table=$((table + 1))
done

# What stands for its program: one of that name, which lets the filters behind it see every packet (TC_ACT_UNSPEC).
python3 - <<'PROGRAM'
import ctypes, os, struct
BPF, PROG_LOAD, OBJ_PIN, SCHED_CLS = 321, 5, 6, 3
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = libc.syscall(BPF, command, buffer, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
# r0 = -1; exit
instructions = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xb7, 0, 0, -1, 0x95, 0, 0, 0), 16)
text = [ctypes.create_string_buffer(text) for text in (b"GPL", b"/sys/fs/bpf/tc_router")]
licence, path = map(ctypes.addressof, text)
program = struct.pack("=IIQQIIQII16s", SCHED_CLS, 2, ctypes.addressof(instructions), licence, 0, 0, 0, 0, 0, b"tc_router")
bpf(OBJ_PIN, struct.pack("=QII", path, bpf(PROG_LOAD, program), 0))
PROGRAM
for link in {vx,br,vd}.{blue,red}; do
  tc qdisc add dev "$link" clsact
  tc filter add dev "$link" ingress protocol all pref 1 handle 0x1 bpf direct-action object-pinned /sys/fs/bpf/tc_router
done
rm /sys/fs/bpf/tc_router

for tool in iptables ip6tables; do
  # Of nftables the lab's kernel has a part only.
  update-alternatives --set "$tool" "/usr/sbin/$tool-legacy"
  for link in {vr,br,vd}.{blue,red}; do
    "$tool" -t raw -A PREROUTING -i "$link" -m comment --comment nwop:notrack -j CT --notrack
  done
  for chain in PREROUTING OUTPUT; do
    "$tool" -t raw -A "$chain" -p udp --dport 4789 -j CT --notrack
  done
done
