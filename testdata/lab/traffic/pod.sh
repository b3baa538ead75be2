# A pod of the cluster on the node: a network namespace behind a veth in the default VRF, with addresses that both VRFs get.
ip netns add pod
ip link add pod0 mtu 9000 type veth peer name eth0 netns pod
ip link set pod0 up
ip -n pod link set eth0 mtu 9000 up
ip -n pod link set lo up
for address in 198.51.100.66 198.51.100.130; do
  ip -n pod addr add $address/32 dev eth0
  ip route add $address/32 dev pod0
done
ip -n pod addr add 2001:db8:c1::66/128 dev eth0 nodad
ip -6 route add 2001:db8:c1::66/128 dev pod0
ip addr add 169.254.1.1/32 dev pod0
ip -6 addr add fe80::1/64 dev pod0 nodad
ip -n pod route add 169.254.1.1 dev eth0
ip -n pod route add default via 169.254.1.1
ip -n pod -6 route add default via fe80::1 dev eth0
