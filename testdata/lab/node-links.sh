# Links of the node that the site makes, before FRR starts.
ip link add dum.underlay mtu 9100 type dummy
ip addr add 192.0.2.129/32 dev dum.underlay
ip link set dum.underlay up
ip addr add 198.51.100.1/24 dev vec0
ip link set vec0 up
ip link add vr-mine type vrf table 900
ip link set vr-mine up
ip link add br.others type bridge
