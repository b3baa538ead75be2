// SPDX-License-Identifier: GPL-2.0-only
//
// The router: routes a packet from the interface that it came in on to the one that its route leaves by, without the host's
// netfilter and conntrack. At tc ingress (clsact), in direct-action mode.
//
// What it does not route it leaves to the kernel, unchanged: TC_ACT_UNSPEC, so that filters behind it are asked, too.
// This file alone is under the GPL, version 2 (LICENSE.GPL-2.0 beside it): the kernel gives its helpers to no other program.
//
// Needs Linux 5.15: bpf_fib_lookup that gives the next hop where no neighbour is known, bpf_redirect_neigh with a next hop (5.10).

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10

// What is looked at: Ethernet, the longer of the two fixed IP headers, a TCP header without options.
#define HEADERS (sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + sizeof(struct tcphdr))

// Once in so many ns, on each CPU, a packet to a neighbour goes through the neighbour table though the answer is known: only that
// makes the kernel probe an entry that has grown stale (neigh_event_send).
#define REFRESH 1000000000ULL
#define NEIGHBOURS 256

#define IP_MORE_FRAGMENTS_OR_OFFSET 0x3fff
#define NEXTHDR_HOP 0
#define NEXTHDR_TCP IPPROTO_TCP
#define NEXTHDR_UDP IPPROTO_UDP

// What became of a packet. The numbers are those of `Outcome` in counters.rs, and stay: counters outlive an upgrade.
enum outcome {
	ROUTED = 0,          // next hop and its MAC address are known
	REFRESHED = 1,       // so they are, but it went through the neighbour table
	RESOLVED = 2,        // the MAC address was not known: the neighbour table finds it
	NO_PORT = 3,         // nobody has said where this interface looks from
	NOT_TO_US = 4,       // broadcast, multicast, or another host's MAC address
	VLAN = 5,            // tagged
	NOT_IP = 6,          // ARP and others
	BAD_HEADER = 7,      // of another version, or longer than the packet
	OPTIONS = 8,         // IPv4 options, IPv6 hop-by-hop options: a router has to read them
	TTL = 9,             // would run out here
	ADDRESS = 10,        // multicast, loopback, link-local and others that are not routed
	SEGMENTS = 11,       // segmentation offload of another kind than TCP and UDP
	FAILED = 12,         // a helper has failed
	ANSWER = 16,         // + the answer of bpf_fib_lookup that is none of the first three
	ANSWER_FAILED = 31,
	OUTCOMES = 32,
};

// How a port looks up its routes.
enum {
	PORT_IN_VRF = 1,
};

// An interface that this program is attached to.
struct port {
	__u32 looks_from; // index of the interface whose VRF counts: a bridge for its ports
	__u32 flags;
};

struct counter {
	__u64 packets;
	__u64 bytes; // with the Ethernet header
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); // interface index
	__type(value, struct port);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32); // enum outcome
	__type(value, struct counter);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

// When a neighbour was looked after last, by a hash of it: two that share a slot share the packets that look after them.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NEIGHBOURS);
	__type(key, __u32);
	__type(value, __u64);
} refreshed SEC(".maps");

// What is known of a packet that may be routed.
struct packet {
	struct bpf_fib_lookup fib;
	__u32 l4;      // offset of the header behind IP's, 0 where it is not one of this very packet
	__u8 protocol; // of that header
};

static __always_inline void count(const struct __sk_buff *skb, __u32 outcome)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, &outcome);

	if (counter) {
		counter->packets += 1;
		counter->bytes += skb->len;
	}
}

static __always_inline int routable4(__be32 address)
{
	__u32 a = bpf_ntohl(address);

	return (a >> 24) != 0 && (a >> 24) != 127 && (a >> 16) != 0xa9fe && (a >> 28) < 0xe;
}

// Neither multicast nor link-local, nor of ::/96 with the loopback address.
static __always_inline int routable6(const struct in6_addr *address)
{
	__u16 head = bpf_ntohs(address->s6_addr16[0]);

	if ((head >> 8) == 0xff || (head & 0xffc0) == 0xfe80)
		return 0;
	return address->s6_addr32[0] || address->s6_addr32[1] || address->s6_addr32[2];
}

// Gives 0, or why the packet is passed on.
static __always_inline int parse4(const struct __sk_buff *skb, const struct iphdr *ip, struct packet *packet)
{
	__u32 length = bpf_ntohs(ip->tot_len);
	int fragment = ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS_OR_OFFSET);

	if (ip->version != 4 || ip->ihl < 5 || length < sizeof(*ip) || length + sizeof(struct ethhdr) > skb->len)
		return BAD_HEADER;
	if (ip->ihl > 5)
		return OPTIONS;
	if (ip->ttl <= 1)
		return TTL;
	if (!routable4(ip->daddr) || !routable4(ip->saddr))
		return ADDRESS;
	packet->fib.family = AF_INET;
	packet->fib.tos = ip->tos;
	packet->fib.ipv4_src = ip->saddr;
	packet->fib.ipv4_dst = ip->daddr;
	packet->fib.l4_protocol = ip->protocol;
	packet->fib.tot_len = length;
	packet->protocol = ip->protocol;
	packet->l4 = fragment ? 0 : sizeof(struct ethhdr) + sizeof(*ip);
	return 0;
}

static __always_inline int parse6(const struct __sk_buff *skb, const struct ipv6hdr *ip, struct packet *packet)
{
	__u32 length = bpf_ntohs(ip->payload_len) + sizeof(*ip);

	// Without a length it is a jumbogram (RFC 2675), or one of the kernel's own making (BIG TCP).
	if (ip->version != 6 || ip->payload_len == 0 || length + sizeof(struct ethhdr) > skb->len)
		return BAD_HEADER;
	if (ip->nexthdr == NEXTHDR_HOP)
		return OPTIONS;
	if (ip->hop_limit <= 1)
		return TTL;
	if (!routable6(&ip->daddr) || !routable6(&ip->saddr))
		return ADDRESS;
	packet->fib.family = AF_INET6;
	packet->fib.flowinfo = *(const __be32 *)ip & bpf_htonl(0x0fffffff);
	__builtin_memcpy(packet->fib.ipv6_src, &ip->saddr, sizeof(ip->saddr));
	__builtin_memcpy(packet->fib.ipv6_dst, &ip->daddr, sizeof(ip->daddr));
	packet->fib.l4_protocol = ip->nexthdr;
	packet->fib.tot_len = length > 0xffff ? 0xffff : length;
	packet->protocol = ip->nexthdr;
	packet->l4 = sizeof(struct ethhdr) + sizeof(*ip);
	return 0;
}

// Ports, for routes with several next hops; and of a packet that the next link gets as segments, their length.
static __always_inline int parse_l4(const struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 l3 = packet->l4 - sizeof(struct ethhdr), header;
	const struct tcphdr *tcp;
	const struct udphdr *udp;

	if (packet->l4 == sizeof(struct ethhdr) + sizeof(struct iphdr))
		tcp = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
	else if (packet->l4)
		tcp = data + sizeof(struct ethhdr) + sizeof(struct ipv6hdr);
	else
		return skb->gso_size ? SEGMENTS : 0;
	udp = (const void *)tcp;
	if (packet->protocol == NEXTHDR_TCP && (void *)(tcp + 1) <= end)
		header = tcp->doff * 4;
	else if (packet->protocol == NEXTHDR_UDP && (void *)(udp + 1) <= end)
		header = sizeof(*udp);
	else
		return skb->gso_size ? SEGMENTS : 0;
	packet->fib.sport = udp->source;
	packet->fib.dport = udp->dest;
	if (skb->gso_size)
		packet->fib.tot_len = l3 + header + skb->gso_size;
	return 0;
}

// One hop less. The checksum of an IPv4 header covers it (RFC 1624), and the sum of the whole header stays as it was;
// IPv6 has none, but a driver's sum of the whole packet (CHECKSUM_COMPLETE) covers it.
static __always_inline void decrement4(struct iphdr *ip)
{
	__u32 sum = ip->check + (__u32)bpf_htons(0x0100);

	ip->check = sum + (sum >= 0xffff);
	ip->ttl--;
}

static __always_inline void decrement6(struct __sk_buff *skb, struct ipv6hdr *ip)
{
	ip->hop_limit--;
	bpf_csum_update(skb, bpf_htons(0xfffe));
}

static __always_inline int to_neighbour(struct packet *packet)
{
	struct bpf_redir_neigh neighbour = {};

	// An IPv4 route may have an IPv6 next hop (RFC 8950); the look-up says so.
	neighbour.nh_family = packet->fib.family;
	if (packet->fib.family == AF_INET)
		neighbour.ipv4_nh = packet->fib.ipv4_dst;
	else
		__builtin_memcpy(neighbour.ipv6_nh, packet->fib.ipv6_dst, sizeof(neighbour.ipv6_nh));
	return bpf_redirect_neigh(packet->fib.ifindex, &neighbour, sizeof(neighbour), 0);
}

// Before Linux 6.3 the look-up also gives the address of an entry that has none yet.
static __always_inline int has_mac(const struct packet *packet)
{
	const __u16 *mac = (const __u16 *)packet->fib.dmac;

	return mac[0] || mac[1] || mac[2];
}

// Reads the headers. Gives 0, or why the packet is passed on.
static __always_inline int parse(struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 need = skb->len < HEADERS ? skb->len : HEADERS;
	const struct ethhdr *eth = data;
	void *ip;
	int why;

	if (data + need > end) {
		if (bpf_skb_pull_data(skb, need))
			return FAILED;
		eth = data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	ip = data + sizeof(*eth);
	if (ip > end)
		return BAD_HEADER;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		why = ip + sizeof(struct iphdr) > end ? BAD_HEADER : parse4(skb, ip, packet);
		break;
	case bpf_htons(ETH_P_IPV6):
		why = ip + sizeof(struct ipv6hdr) > end ? BAD_HEADER : parse6(skb, ip, packet);
		break;
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return VLAN;
	default:
		return NOT_IP;
	}
	return why ? why : parse_l4(skb, packet);
}

static __always_inline int needs_refresh(const struct packet *packet)
{
	const __u32 *next = packet->fib.ipv6_dst;
	__u32 slot = next[0] ^ packet->fib.ifindex * 31;
	__u64 now = bpf_ktime_get_coarse_ns(), *last;

	if (packet->fib.family == AF_INET6)
		slot ^= next[1] ^ next[2] ^ next[3];
	slot ^= slot >> 16;
	slot = (slot ^ slot >> 8) % NEIGHBOURS;
	last = bpf_map_lookup_elem(&refreshed, &slot);
	if (!last || now - *last < REFRESH)
		return 0;
	*last = now;
	return 1;
}

// Sends a packet off whose route is known; gives what became of it.
static __always_inline __u32 forward(struct __sk_buff *skb, struct packet *packet, long answer, int *verdict)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	void *ip = data + sizeof(*eth);

	if (ip + sizeof(struct iphdr) > end)
		return FAILED;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		decrement4(ip);
	} else {
		if (ip + sizeof(struct ipv6hdr) > end)
			return FAILED;
		decrement6(skb, ip);
	}
	if (answer == BPF_FIB_LKUP_RET_NO_NEIGH) {
		*verdict = to_neighbour(packet);
		return RESOLVED;
	}
	if (!has_mac(packet) || needs_refresh(packet)) {
		*verdict = to_neighbour(packet);
		return REFRESHED;
	}
	__builtin_memcpy(eth->h_dest, packet->fib.dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, packet->fib.smac, ETH_ALEN);
	*verdict = bpf_redirect(packet->fib.ifindex, 0);
	return ROUTED;
}

static __always_inline __u32 route(struct __sk_buff *skb, const struct port *port, int *verdict)
{
	struct packet packet = {};
	int why = parse(skb, &packet);
	long answer;

	if (why)
		return why;
	packet.fib.ifindex = port->looks_from;
	// In the default VRF the addresses of this host stand in a table of their own, which only the rules lead to.
	answer = bpf_fib_lookup(skb, &packet.fib, sizeof(packet.fib), port->flags & PORT_IN_VRF ? BPF_FIB_LOOKUP_DIRECT : 0);
	if (answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH)
		return forward(skb, &packet, answer, verdict);
	return answer > 0 && answer < ANSWER_FAILED - ANSWER ? ANSWER + answer : ANSWER_FAILED;
}

SEC("classifier")
int router(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex, outcome = FAILED;
	int verdict = TC_ACT_UNSPEC;
	const struct port *port;

	if (skb->pkt_type != PACKET_HOST)
		outcome = NOT_TO_US;
	else if (skb->vlan_present)
		outcome = VLAN;
	else if ((port = bpf_map_lookup_elem(&ports, &index)))
		outcome = route(skb, port, &verdict);
	else
		outcome = NO_PORT;
	count(skb, outcome);
	return verdict;
}

char _license[] SEC("license") = "GPL";
