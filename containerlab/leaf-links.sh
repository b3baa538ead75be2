# Links of a leaf, before FRR starts. $1: number of the leaf.
leaf=$1
# vec0 under User-Mode Linux is eth1 in a container, whose eth0 is for management.
nic() { if [ -e "/sys/class/net/vec$1" ]; then echo "vec$1"; else echo "eth$(($1 + 1))"; fi; }
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add dum.underlay mtu 9100 type dummy
ip addr add 192.0.2.$leaf/32 dev dum.underlay
ip link set dum.underlay up
ip addr add 198.51.100.$((leaf + 1))/24 dev "$(nic 0)"
ip link set "$(nic 0)" up
table=10
for vrf in blue:100:1 red:101:2; do
  IFS=: read -r name vni port <<<"$vrf"
  table=$((table + 1)) mac=02:54:c0:00:02:0$leaf
  ip link add vr.$name type vrf table $table
  ip link add br.$name master vr.$name address $mac type bridge
  ip link add vx.$name master br.$name address $mac type vxlan id $vni local 192.0.2.$leaf dev dum.underlay dstport 4789 nolearning
  ip link set br.$name addrgenmode none
  ip link set vx.$name addrgenmode none
  for link in vr br vx; do ip link set $link.$name up; done
  ip link set "$(nic $port)" master vr.$name
  ip addr add 192.0.2.$((8 * leaf + 4 * port + 5))/30 dev "$(nic $port)"
  ip link set "$(nic $port)" up
done
ip addr add 2001:db8:ffff:$leaf::1/64 dev "$(nic 1)" nodad
