# Links of a network outside, before FRR starts: eth1 to the border leaf, a dummy link with what the network holds.
# Arguments: addresses of eth1, then `--`, then those of the network.
ip link add net0 type dummy
ip link set net0 up
link=eth1
for address in "$@"; do
  [ "$address" != -- ] || { link=net0; continue; }
  nodad=
  [[ $address != *:* ]] || nodad=nodad
  ip addr add "$address" dev $link $nodad
done
ip link set eth1 up
