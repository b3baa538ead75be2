# Links of the leaf, before FRR starts.
ip link add dum.underlay mtu 9100 type dummy
ip addr add 192.0.2.1/32 dev dum.underlay
ip link set dum.underlay up
ip addr add 198.51.100.2/24 dev vec0
ip link set vec0 up
table=10
for vrf in blue:100 red:101; do
  name=${vrf%:*} vni=${vrf#*:} table=$((table + 1))
  ip link add vr.$name type vrf table $table
  ip link add br.$name master vr.$name address 02:54:c0:00:02:01 type bridge
  ip link add vx.$name master br.$name address 02:54:c0:00:02:01 type vxlan id $vni local 192.0.2.1 dev dum.underlay dstport 4789 nolearning
  ip link set br.$name addrgenmode none
  ip link set vx.$name addrgenmode none
  ip link set vr.$name up
  ip link set br.$name up
  ip link set vx.$name up
done
