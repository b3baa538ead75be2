//! What is asked of FRR, the kernel and the eBPF router when somebody wants metrics.

use std::time::Duration;

use rtnetlink::packet_route::neighbour::{NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::time::Instant;

use super::catalogue::{BPF_BYTES, BPF_PACKETS, SCRAPE_SECONDS, SCRAPE_SUCCESS, VNI_UP};
use super::kernel::Counted;
use super::{Samples, frr};
use crate::bpf::counters::Counter;
use crate::bpf::pins::Pins;
use crate::bpf::program::Router;
use crate::frr::running;
use crate::frr::vty::{Vty, VtyError};
use crate::link::netlink::{Netlink, visit};
use crate::trigger::with_causes;

/// How long a collector may take: Prometheus waits for ten seconds, if nobody says otherwise.
const LIMIT: Duration = Duration::from_secs(4);

/// Where the metrics of a node come from. Nothing is changed there, and nothing kept between two answers.
#[derive(Debug)]
pub struct Sources {
    vty: Vty,
    /// Whether FRR must be there.
    frr: bool,
    /// Its own: what is asked for here stands in nobody's way.
    links: Netlink,
    pins: Pins,
}

impl Sources {
    /// Those of this node; FRR's are left out where it is not there and need not be.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn new(frr: bool) -> anyhow::Result<Self> {
        Ok(Self { vty: Vty::default(), frr, links: Netlink::connect()?, pins: Pins::default() })
    }

    /// Asks all of them at once. What cannot tell says so, and keeps no other from it.
    pub(super) async fn samples(&self) -> Samples {
        let told = tokio::join!(
            timed("zebra", self.daemon(self.zebra())),
            timed("bgpd", self.daemon(self.bgpd())),
            timed("kernel", self.kernel()),
            timed("bpf", async { self.bpf() })
        );
        let mut samples = told.0;
        [told.1, told.2, told.3].into_iter().for_each(|others| samples.extend(others));
        samples
    }

    async fn daemon(&self, work: impl Future<Output = anyhow::Result<Samples>>) -> anyhow::Result<Samples> {
        match work.await {
            Err(error) if !self.frr && error.downcast_ref().is_some_and(VtyError::nobody_listens) => {
                Ok(Samples::default())
            }
            told => told,
        }
    }

    async fn zebra(&self) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        let mut zebra = self.vty.viewer("zebra").await?;
        for (family, command) in
            [("ipv4", "show ip route vrf all summary"), ("ipv6", "show ipv6 route vrf all summary")]
        {
            frr::routes(family, &zebra.ask(command).await?, &mut samples);
        }
        for (vrf, vni) in running::vrf_vnis(&self.vty).await? {
            samples.add(&VNI_UP, &[&vrf, &vni.vni.to_string()], f64::from(vni.state == "Up"));
        }
        Ok(samples)
    }

    async fn bgpd(&self) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        frr::sessions(&self.vty.ask("bgpd", running::SHOW_ALL_BGP_SUMMARIES).await?, &mut samples)?;
        Ok(samples)
    }

    async fn kernel(&self) -> anyhow::Result<Samples> {
        let vrfs = self.links.vrfs().await?;
        let mut counted = Counted::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = RouteMessage::default();
            ask.header.address_family = family;
            self.visit(RouteNetlinkMessage::GetRoute(ask), &mut counted).await?;
        }
        let ask = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.visit(ask, &mut counted).await?;
        Ok(counted.samples(&vrfs))
    }

    /// One dump. What changes while it is listed may be counted twice or not at all: these are numbers, not what is acted on.
    async fn visit(&self, ask: RouteNetlinkMessage, counted: &mut Counted) -> anyhow::Result<()> {
        let count = |message| match message {
            RouteNetlinkMessage::NewRoute(message) => route(&message, counted),
            RouteNetlinkMessage::NewNeighbour(message) => {
                counted.neighbor(family(message.header.family), state(message.header.state));
            }
            _ => {}
        };
        visit(self.links.handle().clone(), ask, count).await.map(drop).map_err(anyhow::Error::msg)
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
    fn bpf(&self) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        let counters = match Router::find(&self.pins)? {
            Some(router) => router.counters()?,
            None => Vec::new(),
        };
        for Counter { verdict, reason, fib, packets, bytes } in counters {
            let verdict = verdict.to_string();
            let labels = [verdict.as_str(), reason, fib.unwrap_or_default()];
            samples.add(&BPF_PACKETS, &labels, packets as f64);
            samples.add(&BPF_BYTES, &labels, bytes as f64);
        }
        Ok(samples)
    }
}

/// A collector's samples, how long it took for them, and whether it could tell.
async fn timed(collector: &'static str, work: impl Future<Output = anyhow::Result<Samples>>) -> Samples {
    let begin = Instant::now();
    let told = match tokio::time::timeout(LIMIT, work).await {
        Ok(told) => told,
        Err(_) => Err(anyhow::anyhow!("no answer within {}s", LIMIT.as_secs())),
    };
    let good = told.is_ok();
    let mut samples = told.unwrap_or_else(|error| {
        tracing::debug!(collector, error = %with_causes(error.as_ref()), "no metrics");
        Samples::default()
    });
    samples.add(&SCRAPE_SECONDS, &[collector], begin.elapsed().as_secs_f64());
    samples.add(&SCRAPE_SUCCESS, &[collector], f64::from(good));
    samples
}

fn route(message: &RouteMessage, counted: &mut Counted) {
    // What the kernel has learned of one destination (path MTU, redirects) is no route.
    if message.header.flags.contains(RouteFlags::Cloned) {
        return;
    }
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let header = &message.header;
    let table = table.unwrap_or_else(|| header.table.into());
    counted.route(table, family(header.address_family), protocol(header.protocol));
}

fn family(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::Inet => "ipv4",
        AddressFamily::Inet6 => "ipv6",
        _ => "other",
    }
}

/// As `ip route` prints it.
fn protocol(protocol: RouteProtocol) -> &'static str {
    match protocol {
        RouteProtocol::Kernel => "kernel",
        RouteProtocol::Boot => "boot",
        RouteProtocol::Static => "static",
        RouteProtocol::Ra => "ra",
        RouteProtocol::Zebra => "zebra",
        RouteProtocol::Bird => "bird",
        RouteProtocol::Dhcp => "dhcp",
        RouteProtocol::KeepAlived => "keepalived",
        RouteProtocol::Bgp => "bgp",
        RouteProtocol::Isis => "isis",
        RouteProtocol::Ospf => "ospf",
        _ => "other",
    }
}

/// As `ip neigh` prints it.
fn state(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::Incomplete => "incomplete",
        NeighbourState::Reachable => "reachable",
        NeighbourState::Stale => "stale",
        NeighbourState::Delay => "delay",
        NeighbourState::Probe => "probe",
        NeighbourState::Failed => "failed",
        NeighbourState::Noarp => "noarp",
        NeighbourState::Permanent => "permanent",
        _ => "other",
    }
}
