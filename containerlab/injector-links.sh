# Links of the injector, before FRR starts: blue and red of leaf 1, blue and red of leaf 2.
# vec0 under User-Mode Linux is eth1 in a container, whose eth0 is for management.
nic() { if [ -e "/sys/class/net/vec$1" ]; then echo "vec$1"; else echo "eth$(($1 + 1))"; fi; }
for port in 0 1 2 3; do
  ip addr add 192.0.2.$((4 * port + 18))/30 dev "$(nic $port)"
  ip link set "$(nic $port)" up
done
ip addr add 2001:db8:ffff:1::2/64 dev "$(nic 0)" nodad
ip addr add 2001:db8:ffff:2::2/64 dev "$(nic 2)" nodad
