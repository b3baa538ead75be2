# Links of the border leaf, before FRR starts: its VRFs as a VTEP has them, each with the link to its network outside.
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link set eth1 up
ip link set eth2 up
ip link add dum.underlay mtu 9100 type dummy
ip addr add 192.0.2.1/32 dev dum.underlay
ip link set dum.underlay up
table=10 mac=02:54:c0:00:02:01
for vrf in blue:100:eth3:65 red:101:eth4:69; do
  IFS=: read -r name vni port host <<<"$vrf"
  table=$((table + 1))
  ip link add vr.$name type vrf table $table
  ip link add br.$name master vr.$name address $mac type bridge
  ip link add vx.$name master br.$name address $mac type vxlan id $vni local 192.0.2.1 dev dum.underlay dstport 4789 nolearning
  ip link set br.$name addrgenmode none
  ip link set vx.$name addrgenmode none
  for link in vr br vx; do ip link set $link.$name up; done
  ip link set $port master vr.$name
  ip addr add 192.0.2.$host/30 dev $port
  ip link set $port up
done
ip addr add 2001:db8:ffff:1::1/64 dev eth3 nodad
ip addr add 2001:db8:ffff:2::1/64 dev eth4 nodad
