hostname {{.Hostname}}
!
vrf Vrf_mgmt
 vni 20
exit-vrf
#++{{.VRFs}}
!
router bgp 64510
 bgp router-id 198.51.100.1
#++{{.Neighbors}}
 !
 address-family ipv4 unicast
  network {{.UnderlayRouterID}}/32
#++{{.NeighborsV4}}
 exit-address-family
 !
 address-family ipv6 unicast
#++{{.NeighborsV6}}
 exit-address-family
exit
!
#++{{.BGP}}
!
#++{{.PrefixLists}}
#++{{.RouteMaps}}
!
line vty
