# Links of a leaf or a spine, before FRR starts. $1: its loopback; then links without an address; then LINK=ADDRESS.
loopback=$1
shift
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip addr add "$loopback"/32 dev lo
for link in "$@"; do
  [[ $link != *=* ]] || ip addr add "${link#*=}" dev "${link%%=*}"
  ip link set "${link%%=*}" up
done
