# What a site makes on a node before FRR starts, and one workload. $1: number of the node.
n=$1
# Kubernetes nodes forward.
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add dum.underlay mtu 9100 type dummy
ip addr add 192.0.2.$((128 + n))/32 dev dum.underlay
ip link set dum.underlay up
ip addr add 198.51.100.$n/24 dev eth1
ip link set eth1 up
# In a container the network of eth0, which is for management, has made a default route already.
ip route replace default via 198.51.100.254
# A workload: a network namespace behind a veth, with an address that goes into blue, one that goes into red, and the same of IPv6.
ip netns add workload
ip link add workload0 type veth peer name eth0 netns workload
ip link set workload0 up
ip -n workload link set lo up
ip -n workload link set eth0 up
for address in 198.51.100.$((48 + 16 * n + 1)) 198.51.100.$((112 + 16 * n + 1)); do
  ip -n workload addr add $address/32 dev eth0
  ip route add $address/32 dev workload0
done
for address in 2001:db8:c1:$n::1 2001:db8:c2:$n::1; do
  ip -n workload addr add $address/128 dev eth0 nodad
  ip -6 route add $address/128 dev workload0
done
ip addr add 169.254.1.1/32 dev workload0
ip -6 addr add fe80::1/64 dev workload0 nodad
ip -n workload route add 169.254.1.1 dev eth0
ip -n workload route add default via 169.254.1.1
ip -n workload -6 route add default via fe80::1 dev eth0
