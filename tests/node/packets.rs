//! The eBPF router, packet by packet (BPF_PROG_TEST_RUN): every verdict and header, on this kernel with its JIT and under
//! User-Mode Linux with the interpreter and VRFs.

use std::os::fd::{AsFd, AsRawFd};

use etherparse::{Ipv4Header, Ipv4HeaderSlice, PacketBuilder};
use network_operator::bpf::counters::Verdict;

use super::world::{Arrives, IN, KNOWN, OUT, PLAIN, Ran, World, context, sh};

const UNSPEC: i32 = -1;
const REDIRECT: i32 = 7;
const FAR: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// What must become of a packet.
enum Becomes {
    /// It leaves by `out`, to the known neighbour.
    Routed,
    /// The neighbour table is asked, for that answer of the FIB.
    Neighbour,
    Passed(&'static str),
    /// Passed for an answer of the FIB.
    Answer(&'static str),
}
use Becomes::{Answer, Neighbour, Passed, Routed};

struct Case {
    name: &'static str,
    packet: Vec<u8>,
    arrives: Arrives,
    becomes: Becomes,
}

fn case(name: &'static str, packet: Vec<u8>, becomes: Becomes) -> Case {
    Case { name, packet, arrives: PLAIN, becomes }
}

fn address<const N: usize>(text: &str) -> [u8; N] {
    let octets = match text.parse().unwrap() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets.try_into().unwrap()
}

pub(crate) fn udp4(from: &str, to: &str, ttl: u8, length: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2(FAR, IN).ipv4(address(from), address(to), ttl).udp(4000, 5000);
    builder.write(&mut packet, &vec![7; length]).unwrap();
    packet
}

fn udp6(from: &str, to: &str, hops: u8, length: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2(FAR, IN).ipv6(address(from), address(to), hops).udp(4000, 5000);
    builder.write(&mut packet, &vec![7; length]).unwrap();
    packet
}

fn tcp4(to: &str, length: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2(FAR, IN).ipv4(address("10.0.1.2"), address(to), 64).tcp(4000, 80, 1, 1000);
    let options = [1_u8; 12];
    builder.options_raw(&options).unwrap().write(&mut packet, &vec![7; length]).unwrap();
    packet
}

fn tcp6(to: &str, length: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2(FAR, IN).ipv6(address("fd00:1::2"), address(to), 64).tcp(4000, 80, 1, 1000);
    builder.write(&mut packet, &vec![7; length]).unwrap();
    packet
}

pub(crate) fn four(to: &str) -> Vec<u8> {
    udp4("10.0.1.2", to, 64, 20)
}

pub(crate) fn six(to: &str) -> Vec<u8> {
    udp6("fd00:1::2", to, 64, 20)
}

/// The packet with some bytes of its IP header and behind it set; the IPv4 checksum is made right.
pub(crate) fn with(mut packet: Vec<u8>, bytes: &[(usize, u8)]) -> Vec<u8> {
    for (offset, byte) in bytes {
        packet[14 + offset] = *byte;
    }
    if packet[14] == 0x45 {
        let sum = Ipv4HeaderSlice::from_slice(&packet[14..]).unwrap().to_header().calc_header_checksum();
        packet[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// An extension header of eight bytes before what an IPv6 packet carries.
fn extended(packet: &[u8], number: u8, mut header: [u8; 8]) -> Vec<u8> {
    header[0] = packet[20];
    let mut extended = [&packet[..54], &header, &packet[54..]].concat();
    extended[20] = number;
    let length = u16::from_be_bytes([packet[18], packet[19]]) + 8;
    extended[18..20].copy_from_slice(&length.to_be_bytes());
    extended
}

pub(crate) fn to_mac(mut packet: Vec<u8>, mac: [u8; 6]) -> Vec<u8> {
    packet[..6].copy_from_slice(&mac);
    packet
}

pub(crate) fn tagged(packet: &[u8], protocol: [u8; 2]) -> Vec<u8> {
    [&packet[..12], &protocol, &[0, 100], &packet[12..]].concat()
}

fn gso(name: &'static str, packet: Vec<u8>, size: u32, becomes: Becomes) -> Case {
    Case { arrives: Arrives { segments: Some((size, 3)), ..PLAIN }, ..case(name, packet, becomes) }
}

fn at(link: &'static str, name: &'static str, packet: Vec<u8>, becomes: Becomes) -> Case {
    Case { arrives: Arrives { link, segments: None }, ..case(name, packet, becomes) }
}

fn routes() -> Vec<Case> {
    vec![
        case("IPv4, neighbour known", four("10.9.0.1"), Routed),
        case("IPv6, neighbour known", six("fd09::1"), Routed),
        case("IPv4, neighbour unknown", four("10.8.0.1"), Neighbour),
        case("IPv6, neighbour unknown", six("fd08::1"), Neighbour),
        case("IPv4, on the link, neighbour unknown", four("10.0.2.77"), Neighbour),
        case("IPv4 by an IPv6 next hop", four("10.7.0.1"), Routed),
        case("IPv4 blackhole", four("10.6.1.1"), Answer("blackhole")),
        case("IPv4 unreachable", four("10.6.2.1"), Answer("unreachable")),
        case("IPv4 prohibit", four("10.6.3.1"), Answer("prohibit")),
        // The kernel has one answer for all routes of IPv6 that refuse (bpf_ipv6_fib_lookup).
        case("IPv6 blackhole", six("fd06:1::1"), Answer("blackhole")),
        case("IPv6 unreachable", six("fd06:2::1"), Answer("unreachable")),
        case("IPv6 prohibit", six("fd06:3::1"), Answer("prohibit")),
        case("IPv4 without a route", four("10.99.0.1"), Answer("not-fwded")),
        case("IPv6 without a route", six("fd99::1"), Answer("not-fwded")),
        case("IPv4 to this host", four("10.0.1.1"), Answer("not-fwded")),
        case("IPv4 to this host's far address", four("10.0.2.1"), Answer("not-fwded")),
        case("IPv6 to this host", six("fd00:1::1"), Answer("not-fwded")),
        case("IPv6 to this host's far address", six("fd00:2::1"), Answer("not-fwded")),
        case("IPv4 to a link's broadcast address", four("10.0.2.255"), Answer("not-fwded")),
        case("IPv6 to the routers' anycast address", six("fd00:2::"), Answer("not-fwded")),
        at("off", "IPv4 where forwarding is off", to_mac(four("10.9.0.1"), [2, 0, 0, 0, 4, 1]), Answer("fwd-disabled")),
        at("off", "IPv6 where forwarding is off", to_mac(six("fd09::1"), [2, 0, 0, 0, 4, 1]), Answer("fwd-disabled")),
        at("port", "IPv4 at a bridge's port", to_mac(four("10.9.0.1"), [2, 0, 0, 0, 5, 1]), Routed),
        at("port", "IPv6 at a bridge's port", to_mac(six("fd09::1"), [2, 0, 0, 0, 5, 1]), Routed),
        at(
            "small",
            "a link that nobody has set up",
            to_mac(four("10.9.0.1"), [2, 0, 0, 0, 3, 1]),
            Passed("its interface is not set up yet"),
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let big = |to| udp4("10.0.1.2", to, 64, 1400);
    vec![
        case("IPv4 of 1,428 bytes to a link with 1,500", big("10.9.0.1"), Routed),
        case("IPv4 of 1,428 bytes to a link with 1,280", big("10.4.0.1"), Answer("frag-needed")),
        case("IPv4 of 1,428 bytes by a route with MTU 1,300", big("10.5.0.1"), Answer("frag-needed")),
        case("IPv4 of 1,300 bytes by a route with MTU 1,300", udp4("10.0.1.2", "10.5.0.1", 64, 1272), Routed),
        case(
            "IPv4 of 1,301 bytes by a route with MTU 1,300",
            udp4("10.0.1.2", "10.5.0.1", 64, 1273),
            Answer("frag-needed"),
        ),
        case("IPv6 of 1,448 bytes to a link with 1,280", udp6("fd00:1::2", "fd04::1", 64, 1400), Answer("frag-needed")),
        case("IPv6 of 1,300 bytes by a route with MTU 1,300", udp6("fd00:1::2", "fd05::1", 64, 1252), Routed),
        case(
            "IPv6 of 1,301 bytes by a route with MTU 1,300",
            udp6("fd00:1::2", "fd05::1", 64, 1253),
            Answer("frag-needed"),
        ),
        gso("TCP segments of 1,452 bytes", tcp4("10.9.0.1", 3000), 1400, Routed),
        gso("TCP segments of 1,300 bytes by a route with MTU 1,300", tcp4("10.5.0.1", 3000), 1248, Routed),
        gso(
            "TCP segments of 1,301 bytes by a route with MTU 1,300",
            tcp4("10.5.0.1", 3000),
            1249,
            Answer("frag-needed"),
        ),
        gso("IPv6 TCP segments of 1,300 bytes, MTU 1,300", tcp6("fd05::1", 3000), 1240, Routed),
        gso("IPv6 TCP segments of 1,301 bytes, MTU 1,300", tcp6("fd05::1", 3000), 1241, Answer("frag-needed")),
        gso("UDP segments of 1,300 bytes, MTU 1,300", udp4("10.0.1.2", "10.5.0.1", 64, 3000), 1272, Routed),
        gso(
            "UDP segments of 1,301 bytes, MTU 1,300",
            udp4("10.0.1.2", "10.5.0.1", 64, 3000),
            1273,
            Answer("frag-needed"),
        ),
        gso(
            "segments of another protocol",
            with(udp4("10.0.1.2", "10.9.0.1", 64, 3000), &[(9, 132)]),
            1000,
            Passed("segmentation other than TCP and UDP"),
        ),
        gso(
            "segments of a fragment",
            with(udp4("10.0.1.2", "10.9.0.1", 64, 3000), &[(6, 0x20)]),
            1000,
            Passed("segmentation other than TCP and UDP"),
        ),
    ]
}

fn headers() -> Vec<Case> {
    let bad = || Passed("broken IP header");
    let options = || Passed("IPv4 or hop-by-hop options");
    let ends = || Passed("its TTL or hop limit ends here");
    let fragment = [0, 0, 0, 1, 0, 0, 0, 9];
    let mut with_options = Vec::new();
    let mut header = Ipv4Header::new(28, 64, etherparse::IpNumber::UDP, [10, 0, 1, 2], [10, 9, 0, 1]).unwrap();
    header.options = [0x94, 4, 0, 0].into();
    let ip = etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
    PacketBuilder::ethernet2(FAR, IN).ip(ip).udp(1, 2).write(&mut with_options, &[0; 20]).unwrap();
    let mut padded = udp4("10.0.1.2", "10.9.0.1", 64, 4);
    padded.resize(60, 0xee);
    vec![
        case("TTL 2", udp4("10.0.1.2", "10.9.0.1", 2, 9), Routed),
        case("TTL 1", udp4("10.0.1.2", "10.9.0.1", 1, 9), ends()),
        case("TTL 0", udp4("10.0.1.2", "10.9.0.1", 0, 9), ends()),
        case("hop limit 2", udp6("fd00:1::2", "fd09::1", 2, 9), Routed),
        case("hop limit 1", udp6("fd00:1::2", "fd09::1", 1, 9), ends()),
        case("a checksum that overflows", with(four("10.9.0.1"), &[(4, 0x5a), (5, 0xd2)]), Routed),
        case("IPv4, first fragment", with(four("10.9.0.1"), &[(6, 0x20)]), Routed),
        case("IPv4, last fragment", with(four("10.9.0.1"), &[(7, 3)]), Routed),
        case("IPv4, DF", with(four("10.9.0.1"), &[(6, 0x40)]), Routed),
        case("IPv4 options", with_options, options()),
        case("IPv4 with padding behind it", padded, Routed),
        case("IPv6 fragment", extended(&six("fd09::1"), 44, fragment), Routed),
        case("IPv6 destination options", extended(&six("fd09::1"), 60, [0, 0, 1, 4, 0, 0, 0, 0]), Routed),
        case("IPv6 routing header", extended(&six("fd09::1"), 43, [0, 0, 4, 0, 0, 0, 0, 0]), Routed),
        case("IPv6 hop-by-hop options", extended(&six("fd09::1"), 0, [0, 0, 5, 2, 0, 0, 1, 0]), options()),
        case("IPv4, another version", with(four("10.9.0.1"), &[(0, 0x55)]), bad()),
        case("IPv4, header too short", with(four("10.9.0.1"), &[(0, 0x44)]), bad()),
        case("IPv4, longer than the packet", with(four("10.9.0.1"), &[(2, 9)]), bad()),
        case("IPv4, shorter than its header", with(four("10.9.0.1"), &[(3, 19)]), bad()),
        case("IPv6, another version", with(six("fd09::1"), &[(0, 0x50)]), bad()),
        case("IPv6, longer than the packet", with(six("fd09::1"), &[(4, 9)]), bad()),
        case("IPv6, no length", with(six("fd09::1"), &[(4, 0), (5, 0)]), bad()),
    ]
}

fn others() -> Vec<Case> {
    let addresses = || Passed("its addresses are not routed");
    let not_us = || Passed("broadcast, multicast or for another host");
    let mut arp = four("10.9.0.1");
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut arp_reply = Vec::new();
    let echo = PacketBuilder::ethernet2(FAR, IN).ipv4([10, 0, 1, 2], [10, 9, 0, 1], 64).icmpv4_echo_request(1, 1);
    echo.write(&mut arp_reply, &[0; 56]).unwrap();
    let mut solicitation = Vec::new();
    let to =
        PacketBuilder::ethernet2(FAR, IN).ipv6(address("fe80::2"), address("fe80::1"), 255).icmpv6_raw(135, 0, [0; 4]);
    to.write(&mut solicitation, &[0; 16]).unwrap();
    vec![
        case("ICMP", arp_reply, Routed),
        case("ARP", arp.clone(), Passed("neither IPv4 nor IPv6")),
        case("ARP to all", to_mac(arp, [0xff; 6]), not_us()),
        case("neighbour solicitation to one", solicitation, addresses()),
        case("broadcast", to_mac(four("10.9.0.1"), [0xff; 6]), not_us()),
        case("multicast", to_mac(four("224.0.0.5"), [1, 0, 0x5e, 0, 0, 5]), not_us()),
        case("IPv6 multicast", to_mac(six("ff02::1"), [0x33, 0x33, 0, 0, 0, 1]), not_us()),
        case("another host's MAC address", to_mac(four("10.9.0.1"), FAR), not_us()),
        case("IPv4 multicast to one", four("239.1.1.1"), addresses()),
        case("limited broadcast to one", four("255.255.255.255"), addresses()),
        case("class E", four("240.0.0.1"), addresses()),
        case("to loopback", four("127.0.0.1"), addresses()),
        case("from loopback", udp4("127.0.0.1", "10.9.0.1", 64, 9), addresses()),
        case("from nowhere", udp4("0.0.0.0", "10.9.0.1", 64, 9), addresses()),
        case("from IPv4 multicast", udp4("224.0.0.5", "10.9.0.1", 64, 9), addresses()),
        case("to IPv4 link-local", four("169.254.0.1"), addresses()),
        case("to IPv6 link-local", six("fe80::1"), addresses()),
        case("from IPv6 link-local", udp6("fe80::2", "fd09::1", 64, 9), addresses()),
        case("from IPv6 multicast", udp6("ff02::1", "fd09::1", 64, 9), addresses()),
        case("to IPv6 loopback", six("::1"), addresses()),
        case("from IPv6 unspecified", udp6("::", "fd09::1", 64, 9), addresses()),
        case("IPv6 of a site (deprecated) is routed", six("fec0::1"), Answer("not-fwded")),
        case("VLAN-tagged", tagged(&four("10.9.0.1"), [0x81, 0]), Passed("VLAN-tagged")),
        case("tagged twice", tagged(&tagged(&four("10.9.0.1"), [0x81, 0]), [0x88, 0xa8]), Passed("VLAN-tagged")),
    ]
}

/// One hop less, and its checksum worked out anew.
pub(crate) fn one_hop_on(packet: &[u8]) -> Vec<u8> {
    if packet[14] >> 4 == 6 {
        let mut on = packet.to_vec();
        on[21] -= 1;
        return on;
    }
    with(packet.to_vec(), &[(8, packet[22] - 1)])
}

fn routed(case: &Case, world: &World) {
    let on = one_hop_on(&case.packet);
    let sent = [&KNOWN[..], &OUT, &on[12..]].concat();
    // Once a second the neighbour is looked after.
    let mut directly = 0;
    for _ in 0..3 {
        let Ran { action, data, counted, fib, verdict } = world.run(&case.packet, case.arrives);
        assert_eq!((action, fib), (REDIRECT, Some("success")), "{}: {counted}", case.name);
        let wanted = if verdict == Verdict::Redirect { &sent } else { &on };
        directly += u32::from(verdict == Verdict::Redirect);
        assert!(data == *wanted, "{}:\n{data:02x?}\n{wanted:02x?}", case.name);
    }
    assert!(directly > 0, "{}", case.name);
}

fn check(case: &Case, world: &World) {
    let passed = |wanted: (&str, Option<&str>)| {
        let Ran { action, data, counted, fib, verdict } = world.run(&case.packet, case.arrives);
        let reason = if wanted.0.is_empty() { "" } else { counted };
        assert_eq!(
            (action, reason, fib, verdict),
            (UNSPEC, wanted.0, wanted.1, Verdict::Pass),
            "{}: {counted}",
            case.name
        );
        assert!(
            data == case.packet,
            "{}: what is passed on stays as it is:\n{data:02x?}\n{:02x?}",
            case.name,
            case.packet
        );
    };
    match case.becomes {
        Routed => routed(case, world),
        Neighbour => {
            let Ran { action, data, counted, fib, verdict } = world.run(&case.packet, case.arrives);
            let wanted = (REDIRECT, Some("no-neigh"), Verdict::RedirectNeighbour);
            assert_eq!((action, fib, verdict), wanted, "{}: {counted}", case.name);
            assert!(data == one_hop_on(&case.packet), "{}", case.name);
        }
        Passed(reason) => passed((reason, None)),
        Answer(fib) => passed(("", Some(fib))),
    }
}

fn all_cases(vrf: bool) -> World {
    let world = World::new(vrf);
    let cases: Vec<Case> = routes().into_iter().chain(sizes()).chain(headers()).chain(others()).collect();
    assert!(cases.len() > 80);
    cases.iter().for_each(|case| check(case, &world));
    world
}

/// The answers of the FIB that are left: `no-src-addr` comes only to those that ask for one (BPF_FIB_LOOKUP_SRC), and `error` only
/// to those that ask wrongly.
#[test]
fn every_packet_becomes_what_it_must_with_the_jit() {
    assert_ne!(std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap().trim(), "0");
    let world = all_cases(false);
    sh("ip route add 10.98.0.0/16 encap seg6 mode encap segs fd09::1 dev out");
    sh("ip route add fd98::/16 encap seg6 mode encap segs fd09::1 dev out");
    check(&case("IPv4, its route encapsulates", four("10.98.0.1"), Answer("unsupp-lwt")), &world);
    check(&case("IPv6, its route encapsulates", six("fd98::1"), Answer("unsupp-lwt")), &world);
}

#[test]
fn every_packet_becomes_what_it_must_with_the_interpreter() {
    if !crate::lab::under_uml("packets::every_packet_becomes_what_it_must_with_the_interpreter") {
        drop(all_cases(false));
    }
}

#[test]
fn every_packet_becomes_what_it_must_in_a_vrf() {
    if !crate::lab::under_uml("packets::every_packet_becomes_what_it_must_in_a_vrf") {
        drop(all_cases(true));
    }
}

#[test]
fn each_neighbour_is_looked_after_once_a_second_and_only_then() {
    let world = World::new(false);
    // On one CPU: each has a clock of its own.
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(0).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).unwrap();
    let begin = std::time::Instant::now();
    let mut refreshed = [0_u64; 2];
    let mut runs = 0;
    while begin.elapsed() < std::time::Duration::from_millis(3500) {
        for (packet, refreshed) in [four("10.9.0.1"), six("fd09::1")].iter().zip(&mut refreshed) {
            *refreshed += u64::from(world.run(packet, PLAIN).verdict == Verdict::RedirectNeighbour);
            runs += 1;
        }
    }
    assert!(runs > 1000 && refreshed == [4, 4], "{refreshed:?} of {runs}");
}

/// `union bpf_attr` of BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    program: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

/// As if a driver had summed the packet (CHECKSUM_COMPLETE, Linux 6.16): the kernel says EBADMSG where its sum is not that of the
/// packet any more. aya's TestRun does not know this flag.
#[allow(unsafe_code, reason = "a system call that no library has")]
fn with_a_drivers_sum(world: &World, packet: &[u8]) -> Result<u32, nix::errno::Errno> {
    const BPF_PROG_TEST_RUN: u32 = 10;
    const BPF_F_TEST_SKB_CHECKSUM_COMPLETE: u32 = 1 << 2;
    let context = context(PLAIN);
    let mut attr = TestRunAttr {
        program: world.program.fd().unwrap().as_fd().as_raw_fd().cast_unsigned(),
        data_size_in: u32::try_from(packet.len()).unwrap(),
        data_in: packet.as_ptr() as u64,
        repeat: 1,
        ctx_size_in: u32::try_from(context.len()).unwrap(),
        ctx_in: context.as_ptr() as u64,
        flags: BPF_F_TEST_SKB_CHECKSUM_COMPLETE,
        ..TestRunAttr::default()
    };
    let size = std::mem::size_of::<TestRunAttr>();
    // SAFETY: the pointers are to what lives until it returns, with their sizes; it writes into `attr` only.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size) };
    nix::errno::Errno::result(result).map(|_| attr.retval)
}

#[test]
fn the_sum_that_a_driver_has_made_of_a_packet_stays_right() {
    let world = World::new(false);
    for packet in
        [four("10.9.0.1"), six("fd09::1"), four("10.8.0.1"), six("fd08::1"), tcp4("10.9.0.1", 33), tcp6("fd09::1", 33)]
    {
        for _ in 0..200 {
            assert_eq!(with_a_drivers_sum(&world, &packet).map(u32::cast_signed), Ok(REDIRECT), "{packet:02x?}");
        }
    }
}
