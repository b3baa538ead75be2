# Hosts behind the leaf: `blue` behind one more router, the link to which is narrow (1300), `red` on a wide one (9000).
ip netns add middle
ip netns add blue
ip netns add red
ip link add blue0 mtu 1300 type veth peer name wan netns middle
ip link set blue0 master vr.blue up
ip -n middle link set wan mtu 1300 up
ip -n middle link add lan mtu 1500 type veth peer name eth0 netns blue
ip -n middle link set lan up
ip -n blue link set eth0 mtu 1500 up
ip netns exec middle sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip addr add 203.0.113.1/30 dev blue0
ip -n middle addr add 203.0.113.2/30 dev wan
ip -n middle addr add 203.0.113.5/30 dev lan
ip -n blue addr add 203.0.113.6/30 dev eth0
ip route add 203.0.113.4/30 via 203.0.113.2 vrf vr.blue
ip -n middle route add default via 203.0.113.1
ip -n blue route add default via 203.0.113.5
ip addr add 2001:db8:1:1::1/64 dev blue0 nodad
ip -n middle addr add 2001:db8:1:1::2/64 dev wan nodad
ip -n middle addr add 2001:db8:1:2::1/64 dev lan nodad
ip -n blue addr add 2001:db8:1:2::2/64 dev eth0 nodad
ip -6 route add 2001:db8:1:2::/64 via 2001:db8:1:1::2 vrf vr.blue
ip -n middle -6 route add default via 2001:db8:1:1::1
ip -n blue -6 route add default via 2001:db8:1:2::1
ip link add red0 mtu 9000 type veth peer name eth0 netns red
ip link set red0 master vr.red up
ip -n red link set eth0 mtu 9000 up
ip addr add 203.0.113.33/30 dev red0
ip -n red addr add 203.0.113.34/30 dev eth0
ip -n red route add default via 203.0.113.33
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
