//! Metrics on a node, against what FRR, the kernel and the agent say otherwise; each seen to move for a cause.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{FROM_MANIFESTS, Fabric, Image, MANIFESTS, Node, Spelling};

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

/// Waits until a sample is as it should be; one that is not there counts as 0.
pub(super) fn wait(node: &Node, sample: &str, right: impl Fn(f64) -> bool) {
    node.wait(sample, LIMIT, |node| {
        let told = told(node, 9342);
        let now = told.of(sample);
        if right(now) { Ok(()) } else { Err(format!("{now} in {:#?}", told.0)) }
    });
}

/// Does something, and waits until samples have moved by so much at least.
fn grows(node: &Node, by: &[(&str, f64)], cause: impl FnOnce()) {
    let before = told(node, 9342);
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
    are_what_is_shown(node, &[routes_of_frr, sessions, vnis, kernel, router]);
    causes_in_the_fabric(&fabric);
    causes_on_the_node(node);
    inputs(node);
    node.assert_nothing_done(the_exporter_tells_the_same);
    // There is nothing to reload.
    grows(node, &[("reloads_total{result=\"failed\"}", 1.0)], || drop(node.ok("systemctl stop frr")));
    wait(node, "scrape_success{collector=\"zebra\"}", |good| good == 0.0);
    assert!(told(node, 9342).there("scrape_success{collector=\"kernel\"}") == 1.0);
}

/// Metrics are what FRR and the kernel say at that moment.
fn are_what_is_shown(node: &Node, compares: &[fn(&Node) -> Vec<String>]) {
    for compare in compares {
        node.wait("metrics are what FRR and the kernel say", LIMIT, |node| {
            let faults = compare(node);
            if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
        });
    }
}

/// What differs between what is told and what is so.
fn differs(told: &Told, metric: &str, so: &BTreeMap<String, f64>) -> Vec<String> {
    let told: BTreeMap<String, f64> = told.of_metric(metric).map(|(name, value)| (name.clone(), value)).collect();
    if told == *so { Vec::new() } else { vec![format!("told {told:#?}, and it is {so:#?}")] }
}

fn routes_of_frr(node: &Node) -> Vec<String> {
    let told = told(node, 9342);
    let (mut rib, mut fib) = (BTreeMap::new(), BTreeMap::new());
    for vrf in ["default", "vr-mine", "vr.blue", "vr.red"] {
        for (family, ip) in [("ipv4", "ip"), ("ipv6", "ipv6")] {
            let summary = node.json(&format!("vtysh -c 'show {ip} route vrf {vrf} summary json'"));
            for protocol in summary["routes"].as_array().unwrap() {
                let labels = format!("{{vrf=\"{vrf}\",family=\"{family}\",protocol={}}}", protocol["type"]);
                rib.insert(format!("frr_routes{labels}"), protocol["rib"].as_f64().unwrap());
                fib.insert(format!("frr_fib_routes{labels}"), protocol["fib"].as_f64().unwrap());
            }
        }
    }
    [differs(&told, "frr_routes", &rib), differs(&told, "frr_fib_routes", &fib)].concat()
}

fn sessions(node: &Node) -> Vec<String> {
    let told = told(node, 9342);
    let all = node.json("vtysh -c 'show bgp vrf all summary json'");
    let mut so: BTreeMap<&str, BTreeMap<String, f64>> = BTreeMap::new();
    for (vrf, families) in all.as_object().unwrap() {
        for (family, of_family) in families.as_object().unwrap() {
            for (name, peer) in of_family["peers"].as_object().into_iter().flatten() {
                let number = |key: &str| peer[key].as_f64().unwrap_or_default();
                let session = format!("{{vrf=\"{vrf}\",neighbor=\"{name}\"}}");
                let prefixes = format!("{{vrf=\"{vrf}\",neighbor=\"{name}\",family=\"{family}\"}}");
                for (metric, labels, value) in [
                    ("frr_bgp_prefixes_received", &prefixes, number("pfxRcd")),
                    ("frr_bgp_prefixes_sent", &prefixes, number("pfxSnt")),
                    ("frr_bgp_messages_received_total", &session, number("msgRcvd")),
                    ("frr_bgp_messages_sent_total", &session, number("msgSent")),
                    ("frr_bgp_state", &session, state(&peer["state"])),
                ] {
                    so.entry(metric).or_default().insert(format!("{metric}{labels}"), value);
                }
            }
        }
    }
    let mut faults: Vec<String> = so.iter().flat_map(|(metric, so)| differs(&told, metric, so)).collect();
    let uptime = all["default"]["ipv4Unicast"]["peers"]["dv.blue"]["peerUptimeMsec"].as_f64().unwrap() / 1000.0;
    let seen = told.of("frr_bgp_uptime_seconds{vrf=\"default\",neighbor=\"dv.blue\"}");
    if !(0.0..10.0).contains(&(uptime - seen)) {
        faults.push(format!("dv.blue is up since {uptime}s and told is {seen}s"));
    }
    faults
}

fn state(words: &Value) -> f64 {
    let states = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];
    let index = states.iter().position(|state| words == state).unwrap_or_else(|| panic!("{words}"));
    f64::from(u8::try_from(index).unwrap() + 1)
}

fn vnis(node: &Node) -> Vec<String> {
    let vnis = node.json("vtysh -c 'show vrf vni json'");
    let so = vnis["vrfs"].as_array().unwrap().iter().map(|vni| {
        let name = format!("frr_vni_up{{vrf={},vni=\"{}\"}}", vni["vrf"], vni["vni"]);
        (name, f64::from(vni["state"] == "Up"))
    });
    differs(&told(node, 9342), "frr_vni_up", &so.collect())
}

fn kernel(node: &Node) -> Vec<String> {
    let told = told(node, 9342);
    let mut faults = Vec::new();
    let mut same = |sample: String, count: String| {
        let count: f64 = count.trim().parse().unwrap();
        if told.of(&sample) != count {
            faults.push(format!("{sample} is {}, and there are {count}", told.of(&sample)));
        }
    };
    for vrf in ["default", "vr.blue", "vr.red"] {
        let table = match vrf {
            "default" => "254".to_owned(),
            _ => node.ok(&format!("ip -d -j link show dev {vrf} | jq -r '.[0].linkinfo.info_data.table'")),
        };
        for (family, flag) in [("ipv4", "-4"), ("ipv6", "-6")] {
            for protocol in ["bgp", "static", "kernel"] {
                let shown =
                    format!("ip {flag} route show table {} proto {protocol} | grep -vc nexthop || true", table.trim());
                let sample = format!("kernel_routes{{vrf=\"{vrf}\",family=\"{family}\",protocol=\"{protocol}\"}}");
                same(sample, node.ok(&shown));
            }
        }
    }
    for (family, flag) in [("ipv4", "-4"), ("ipv6", "-6")] {
        let shown = node.json(&format!("ip {flag} -j neigh show nud all"));
        for state in ["reachable", "stale", "noarp", "permanent"] {
            let upper = state.to_uppercase();
            let count = shown.as_array().unwrap().iter().filter(|entry| entry["state"][0] == upper.as_str()).count();
            same(format!("kernel_neighbors{{family=\"{family}\",state=\"{state}\"}}"), count.to_string());
        }
    }
    faults
}

fn router(node: &Node) -> Vec<String> {
    let counters = || -> BTreeMap<String, f64> {
        let counters = node.json("/labbin/network-operator counters --all --output json");
        let named = counters.as_array().unwrap().iter().map(|counter| {
            let fib = counter["fib"].as_str().unwrap_or_default();
            let labels = format!("verdict={},reason={},fib=\"{fib}\"", counter["verdict"], counter["reason"]);
            (format!("bpf_packets_total{{{labels}}}"), counter["packets"].as_f64().unwrap())
        });
        named.collect()
    };
    // Packets go on meanwhile.
    let (before, told, after) = (counters(), told(node, 9342), counters());
    assert_eq!(before.len(), told.of_metric("bpf_packets_total").count());
    assert!(before.values().sum::<f64>() > 0.0, "{before:#?}");
    let wrong = before.iter().filter(|(name, least)| !(**least..=after[*name]).contains(&told.there(name)));
    wrong.map(|(name, least)| format!("{name} is {} and was {least}", told.there(name))).collect()
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
    are_what_is_shown(node, &[routes_of_frr, sessions, kernel]);
    grows(node, &more.map(|(sample, by)| (sample, -by)), || drop(route("no ip route 203.0.113.96/28 blackhole")));
}

fn causes_on_the_node(node: &Node) {
    let neighbor = [("kernel_neighbors{family=\"ipv4\",state=\"permanent\"}", 1.0)];
    let entry = "192.0.2.99 lladdr 02:00:00:00:00:99 dev br.blue";
    grows(node, &neighbor, || drop(node.ok(&format!("ip neigh add {entry} nud permanent"))));
    are_what_is_shown(node, &[kernel]);
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
    let is_up = |told: &Told| told.of_metric("frr_vni_up").find(|(name, _)| name.contains("vr.red")).unwrap().1;
    wait(node, "check_passed{check=\"vnis\"}", |passed| passed == 1.0);
    node.ok("systemd-run -q --unit=mover bash -c 'while :; do ip link set vx.red down; sleep 0.2; done'");
    node.wait("the VNI is told to be down", LIMIT, |node| {
        let told = told(node, 9342);
        let seen = (is_up(&told), told.there("check_passed{check=\"vnis\"}"));
        if seen == (0.0, 0.0) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    are_what_is_shown(node, &[vnis]);
    node.ok("systemctl stop mover");
    node.wait("the VNI is told to be up", LIMIT, |node| {
        let told = told(node, 9342);
        let seen = (is_up(&told), told.there("check_passed{check=\"vnis\"}"));
        if seen == (1.0, 1.0) { Ok(()) } else { Err(format!("{seen:?}")) }
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
        assert!(still(&by_it).len() > 20);
        let same = still(&by_it) == still(&by_agent) && names(&by_it) == names(&by_agent);
        if same { Ok(()) } else { Err(format!("{:#?}\n{:#?}", by_it.0, by_agent.0)) }
    });
    node.ok("systemctl stop exporter");
}
