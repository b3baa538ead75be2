//! Metrics on a node, against what FRR, the kernel and the agent say otherwise; each seen to move for a cause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lab::{FROM_MANIFESTS, Fabric, Image, MANIFESTS, Node, Spelling};
use crate::shown::{Shown, neighbors, router, routes_of_frr, routes_of_the_kernel, sessions, vnis};

const LIMIT: Duration = Duration::from_secs(180);
/// A line of ours, taken out by hand.
const ROUTE_MAP_GONE: &str =
    "conf t' -c 'router bgp 64510' -c 'address-family ipv4 unicast' -c 'no neighbor dv.red route-map rm_red_import in";
const TEMPLATE: &str = "/etc/frr/frr.conf.tpl";

#[test]
fn on_bookworm_metrics_are_what_frr_and_the_kernel_say_and_move_for_a_cause() {
    metrics(Image::Bookworm);
}

#[test]
fn on_trixie_metrics_are_what_frr_and_the_kernel_say_and_move_for_a_cause() {
    metrics(Image::Trixie);
}

/// What is told, by name and labels.
pub(super) struct Told(BTreeMap<String, f64>);

pub(super) fn told(node: &Node, port: u16) -> Told {
    let (status, body) = node.asked(port, "/metrics");
    assert_eq!(status, "200");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let samples = body.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.strip_prefix("network_operator_").unwrap().to_owned(), value.parse().unwrap())
    });
    Told(samples.collect())
}

impl Told {
    /// A sample, or 0 where there is none yet.
    pub(super) fn of(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or_default()
    }

    /// A sample that must be there.
    fn there(&self, sample: &str) -> f64 {
        *self.0.get(sample).unwrap_or_else(|| panic!("no {sample} in {:#?}", self.0))
    }

    fn of_metric<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a String, f64)> {
        let of = move |name: &str| name.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'));
        self.0.iter().filter(move |(name, _)| of(name)).map(|(name, value)| (name, *value))
    }
}

/// Waits until a sample is as it should be. One that is not there counts as 0, but not where its collector could not tell.
pub(super) fn wait(node: &Node, sample: &str, right: impl Fn(f64) -> bool) {
    let collected = ["frr_", "kernel_", "bpf_"].iter().any(|of| sample.starts_with(of));
    node.wait(sample, LIMIT, |node| {
        let told = if collected { by_all_collectors(node)? } else { told(node, 9342) };
        let now = told.of(sample);
        if right(now) { Ok(()) } else { Err(format!("{now} in {:#?}", told.0)) }
    });
}

/// What is told, where each collector could tell.
fn by_all_collectors(node: &Node) -> Result<Told, String> {
    let told = told(node, 9342);
    let all = told.of_metric("scrape_success").all(|(_, good)| good == 1.0);
    if all { Ok(told) } else { Err(format!("{:#?}", told.0)) }
}

/// Does something, and waits until samples have moved by so much at least.
fn grows(node: &Node, by: &[(&str, f64)], cause: impl FnOnce()) {
    let before = node.wait("all collectors tell", LIMIT, by_all_collectors);
    cause();
    for (sample, by) in by {
        let moved = |now: f64| if *by < 0.0 { now - before.of(sample) <= *by } else { now - before.of(sample) >= *by };
        wait(node, sample, moved);
    }
}

fn metrics(image: Image) {
    let fabric = Fabric::boot(image, Spelling::Plain);
    let node = &fabric.node;
    node.give_manifests();
    node.start_agent(FROM_MANIFESTS);
    node.applied(0, LIMIT);
    fabric.assert_claims(LIMIT);
    let version = node.ok("/labbin/network-operator --version");
    let (_, version) = version.trim().split_once(' ').unwrap();
    assert_eq!(told(node, 9342).there(&format!("build_info{{version=\"{version}\"}}")), 1.0);
    are_what_is_shown(node, &[routes_of_frr, sessions, vnis, routes_of_the_kernel, neighbors, router]);
    causes_in_the_fabric(&fabric);
    causes_on_the_node(node);
    inputs(node);
    node.assert_nothing_done(the_exporter_tells_the_same);
    // There is nothing to reload.
    grows(node, &[("reloads_total{result=\"failed\"}", 1.0)], || drop(node.ok("systemctl stop frr")));
    wait(node, "scrape_success{collector=\"zebra\"}", |good| good == 0.0);
    assert!(told(node, 9342).there("scrape_success{collector=\"kernel\"}") == 1.0);
}

/// Metrics are what FRR and the kernel say at that moment: all goes on while one asks, so they are asked before and after it.
fn are_what_is_shown(node: &Node, all: &[fn(&Node) -> Shown]) {
    for shown in all {
        node.wait("metrics are what FRR and the kernel say", LIMIT, |node| {
            let (before, told, after) = (shown(node), told(node, 9342), shown(node));
            let faults = differs(&before, &told, &after);
            if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
        });
    }
}

/// What differs between what is told and what was so at that moment. What grows was between the two; all else was one of them.
fn differs(before: &Shown, told: &Told, after: &Shown) -> Vec<String> {
    if before.is_empty() || after.is_empty() {
        return vec!["nothing is shown".to_owned()];
    }
    let shown: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    // Of the kernel's, not all are shown.
    let metrics: BTreeSet<&str> =
        shown.iter().map(|sample| metric_of(sample)).filter(|name| !is_counted(name)).collect();
    let told_of = metrics.iter().flat_map(|metric| told.of_metric(metric).map(|(sample, _)| sample));
    let all: BTreeSet<&String> = shown.iter().copied().chain(told_of).collect();
    let wrong = all.iter().filter_map(|sample| {
        let metric = metric_of(sample);
        let (was, is) = (before.get(*sample).copied(), after.get(*sample).copied());
        let so = told.0.get(*sample).copied().or_else(|| is_counted(metric).then_some(0.0));
        let grows = metric.ends_with("_total") || metric.ends_with("_seconds");
        let right = so == was || so == is || grows && was <= so && so <= is;
        (!right).then(|| format!("{sample} is told as {so:?}, was {was:?} before, and is {is:?} after it"))
    });
    wrong.collect()
}

fn metric_of(sample: &str) -> &str {
    sample.split_once('{').unwrap().0
}

/// What is counted in the kernel, of which a count of 0 need not be told.
fn is_counted(metric: &str) -> bool {
    metric.starts_with("kernel_")
}

fn causes_in_the_fabric(fabric: &Fabric) {
    let Fabric { node, leaf, .. } = fabric;
    let neighbor = "{vrf=\"default\",neighbor=\"198.51.100.2\"}";
    let (state, uptime) = (format!("frr_bgp_state{neighbor}"), format!("frr_bgp_uptime_seconds{neighbor}"));
    assert!(told(node, 9342).there(&uptime) > 0.0);
    let set = |command: &str| leaf.vtysh(&format!("conf t' -c 'router bgp 64497' -c '{command}"));
    set("neighbor 198.51.100.1 shutdown");
    wait(node, &state, |state| state < 6.0);
    assert_eq!(told(node, 9342).there(&uptime), 0.0);
    are_what_is_shown(node, &[sessions, routes_of_frr]);
    set("no neighbor 198.51.100.1 shutdown");
    wait(node, &state, |state| state == 6.0);
    are_what_is_shown(node, &[sessions, routes_of_frr]);
    let packets = |node: &Node| {
        let told = told(node, 9342);
        ["bpf_packets_total", "bpf_bytes_total"]
            .map(|metric| told.of_metric(metric).map(|(_, value)| value).sum::<f64>())
    };
    let before = packets(node);
    fabric.assert_claims(LIMIT);
    node.wait("packets are counted", LIMIT, |node| {
        let now = packets(node);
        if before.iter().zip(now).all(|(before, now)| now > *before) {
            Ok(())
        } else {
            Err(format!("{before:?} {now:?}"))
        }
    });
    let messages = ["sent", "received"].map(|way| format!("frr_bgp_messages_{way}_total{neighbor}"));
    grows(node, &messages.each_ref().map(|sample| (sample.as_str(), 1.0)), || {
        node.vtysh("clear bgp 198.51.100.2 soft");
    });
    let route_of = |vrf: &str, command: &str| leaf.vtysh(&format!("conf t' -c 'vrf {vrf}' -c '{command}"));
    let sent = [("frr_bgp_prefixes_sent{vrf=\"vr.red\",neighbor=\"vd.red\",family=\"ipv4Unicast\"}", 1.0)];
    grows(node, &sent, || drop(route_of("vr.red", "ip route 203.0.113.64/28 blackhole")));
    grows(node, &sent.map(|(sample, by)| (sample, -by)), || {
        route_of("vr.red", "no ip route 203.0.113.64/28 blackhole");
    });
    let route = |command: &str| route_of("vr.blue", command);
    let more = [
        ("frr_routes{vrf=\"vr.blue\",family=\"ipv4\",protocol=\"ebgp\"}", 1.0),
        ("frr_fib_routes{vrf=\"vr.blue\",family=\"ipv4\",protocol=\"ebgp\"}", 1.0),
        ("kernel_routes{vrf=\"vr.blue\",family=\"ipv4\",protocol=\"bgp\"}", 1.0),
        ("frr_bgp_prefixes_received{vrf=\"default\",neighbor=\"198.51.100.2\",family=\"l2VpnEvpn\"}", 1.0),
    ];
    grows(node, &more, || drop(route("ip route 203.0.113.96/28 blackhole")));
    are_what_is_shown(node, &[routes_of_frr, sessions, routes_of_the_kernel, neighbors]);
    grows(node, &more.map(|(sample, by)| (sample, -by)), || drop(route("no ip route 203.0.113.96/28 blackhole")));
}

fn causes_on_the_node(node: &Node) {
    let neighbor = [("kernel_neighbors{family=\"ipv4\",state=\"permanent\"}", 1.0)];
    let entry = "192.0.2.99 lladdr 02:00:00:00:00:99 dev br.blue";
    grows(node, &neighbor, || drop(node.ok(&format!("ip neigh add {entry} nud permanent"))));
    are_what_is_shown(node, &[routes_of_the_kernel, neighbors]);
    grows(node, &neighbor.map(|(sample, by)| (sample, -by)), || drop(node.ok(&format!("ip neigh del {entry}"))));
    let (took, good) = ("scrape_duration_seconds{collector=\"zebra\"}", "scrape_success{collector=\"zebra\"}");
    assert!(told(node, 9342).there(took) < 3.0);
    node.ok("pkill -x -STOP zebra");
    wait(node, good, |good| good == 0.0);
    assert!(told(node, 9342).there(took) > 3.0);
    node.ok("pkill -x -CONT zebra");
    wait(node, good, |good| good == 1.0);
    let repaired = [
        ("repairs_total{what=\"links\"}", 1.0),
        ("runs_total{result=\"repaired\"}", 1.0),
        ("netlink_operations_total{operation=\"set-up\"}", 1.0),
    ];
    let reloads = told(node, 9342).there("reloads_total{result=\"ok\"}");
    assert!(reloads >= 1.0);
    grows(node, &repaired, || drop(node.ok("ip link set vx.red down")));
    assert_eq!(told(node, 9342).there("reloads_total{result=\"ok\"}"), reloads, "links are put back without one");
    let lines = [
        ("repairs_total{what=\"frr\"}", 1.0),
        ("step_duration_seconds_count{step=\"render\"}", 1.0),
        ("step_duration_seconds_count{step=\"give\"}", 1.0),
        ("step_duration_seconds_count{step=\"verify\"}", 1.0),
        ("step_duration_seconds_count{step=\"router\"}", 1.0),
        ("step_duration_seconds_count{step=\"look\"}", 1.0),
    ];
    grows(node, &lines, || drop(node.vtysh(ROUTE_MAP_GONE)));
    let by_hand = "echo '! by hand' >>/etc/frr/frr.conf";
    grows(node, &[("repairs_total{what=\"file\"}", 1.0)], || drop(node.ok(by_hand)));
    let filter = [("repairs_total{what=\"router\"}", 1.0), ("netlink_operations_total{operation=\"attach\"}", 1.0)];
    grows(node, &filter, || drop(node.ok("tc filter del dev br.blue ingress pref 20000")));
    a_vni_that_somebody_takes_down_again_and_again(node);
}

/// The agent waits in vain for it to come up, and leaves it alone for a while: the check says so, and so does zebra.
fn a_vni_that_somebody_takes_down_again_and_again(node: &Node) {
    node.write("/opt/network-operator/net-healthcheck-config.yaml", "interval: 1\n");
    let is_up =
        |told: &Told| told.of_metric("frr_vni_up").find(|(name, _)| name.contains("vr.red")).map(|(_, is_up)| is_up);
    wait(node, "check_passed{check=\"vnis\"}", |passed| passed == 1.0);
    node.ok("systemd-run -q --unit=mover bash -c 'while :; do ip link set vx.red down; sleep 0.2; done'");
    node.wait("the VNI is told to be down", LIMIT, |node| {
        let told = told(node, 9342);
        let seen = (is_up(&told), told.there("check_passed{check=\"vnis\"}"));
        if seen == (Some(0.0), 0.0) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    are_what_is_shown(node, &[vnis]);
    node.ok("systemctl stop mover");
    node.wait("the VNI is told to be up", LIMIT, |node| {
        let told = told(node, 9342);
        let seen = (is_up(&told), told.there("check_passed{check=\"vnis\"}"));
        if seen == (Some(1.0), 1.0) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    wait(node, "check_passed{check=\"verified\"}", |passed| passed == 1.0);
}

fn inputs(node: &Node) {
    let bad = "apiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {name: bad}\n\
        spec: {vrf: nowhere, seq: 1, import: [], export: []}\n";
    let left_out = [("rejected_objects{reason=\"UnknownVrf\"}", 1.0), ("debounce_wait_seconds_count", 1.0)];
    grows(node, &left_out, || node.write(&format!("{MANIFESTS}/bad.yaml"), bad));
    let before = told(node, 9342).of("inputs_accepted_timestamp_seconds");
    node.ok(&format!("rm {MANIFESTS}/bad.yaml"));
    node.wait("nothing is left out", LIMIT, |node| {
        let told = told(node, 9342);
        let left_out = told.of_metric("rejected_objects").count();
        if left_out == 0 { Ok(()) } else { Err(format!("{:#?}", told.0)) }
    });
    wait(node, "inputs_accepted_timestamp_seconds", |time| time > before);
    let template = node.read(TEMPLATE);
    let connect = " neighbor 198.51.100.3 timers connect 1";
    let broken = template.replacen(connect, &format!("{connect}\n neighbor 198.51.100.9 peer-group NOPE"), 1);
    grows(node, &[("rollbacks_total{result=\"restored\"}", 1.0)], || node.write(TEMPLATE, broken));
    wait(node, "inputs_behind", |behind| behind == 1.0);
    wait(node, "check_passed{check=\"verified\"}", |passed| passed == 0.0);
    wait(node, "runs_total{result=\"failed\"}", |runs| runs >= 1.0);
    node.write(TEMPLATE, template);
    wait(node, "inputs_behind", |behind| behind == 0.0);
}

fn the_exporter_tells_the_same(node: &Node) {
    node.ok("systemd-run -q --unit=exporter -p Type=exec /labbin/network-operator exporter --listen 127.0.0.1:9400");
    // What does not move by itself.
    let still = |told: &Told| -> BTreeMap<String, f64> {
        let metrics = [
            "frr_routes",
            "frr_fib_routes",
            "frr_vni_up",
            "frr_bgp_state",
            "frr_bgp_prefixes_received",
            "frr_bgp_prefixes_sent",
            "kernel_routes",
            "scrape_success",
        ];
        let all = metrics.iter().flat_map(|metric| told.of_metric(metric));
        // Nobody is there: it tries again and again.
        let all = all.filter(|(name, _)| !name.contains("198.51.100.3"));
        all.map(|(name, value)| (name.clone(), value)).collect()
    };
    let names = |told: &Told| {
        let names =
            told.0.keys().filter(|name| ["frr_", "kernel_", "bpf_", "scrape_"].iter().any(|of| name.starts_with(of)));
        names.cloned().collect::<Vec<_>>()
    };
    node.wait("the exporter tells the same", LIMIT, |node| {
        let by_it = node.run("bash -c 'exec 3<>/dev/tcp/127.0.0.1/9400'").status == 0;
        if !by_it {
            return Err("no answer".to_owned());
        }
        let (by_it, by_agent) = (told(node, 9400), told(node, 9342));
        assert!(!by_it.0.keys().any(|name| name.starts_with("runs")));
        let same = still(&by_it).len() > 20 && still(&by_it) == still(&by_agent) && names(&by_it) == names(&by_agent);
        if same { Ok(()) } else { Err(format!("{:#?}\n{:#?}", by_it.0, by_agent.0)) }
    });
    node.ok("systemctl stop exporter");
}
