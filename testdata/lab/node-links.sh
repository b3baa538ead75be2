# What the site sets and makes on the node, before FRR starts. Kubernetes nodes forward.
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add dum.underlay mtu 9100 type dummy
ip addr add 192.0.2.129/32 dev dum.underlay
ip link set dum.underlay up
# vec0 under User-Mode Linux is eth1 in a container, whose eth0 is for management.
nic=vec0
[ -e /sys/class/net/$nic ] || nic=eth1
ip addr add 198.51.100.1/24 dev $nic
ip link set $nic up
ip link add vr-mine type vrf table 900
ip link set vr-mine up
ip link add br.others type bridge
