//! What docs/, the dashboard and the alerts say of metrics is what the program tells.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

use std::collections::{BTreeMap, BTreeSet};

use network_operator::metrics::{ALL, Kind, Metric, OWN, PREFIX};
use promql_parser::label::{Labels, MatchOp};
use promql_parser::parser::{AggregateExpr, Expr, MatrixSelector, VectorSelector, parse};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

/// Names as Prometheus has them, and their labels.
fn names() -> BTreeMap<String, BTreeSet<&'static str>> {
    let suffixes = |metric: &Metric| match metric.kind {
        Kind::Gauge => vec![""],
        Kind::Counter => vec!["_total"],
        Kind::Histogram => vec!["_bucket", "_sum", "_count"],
    };
    let named = |metric: &'static Metric| {
        let of = move |suffix: &str| {
            let mut labels: BTreeSet<&str> = metric.labels.iter().copied().collect();
            // Prometheus' own.
            labels.extend(["instance", "job"]);
            labels.extend((suffix == "_bucket").then_some("le"));
            (format!("{PREFIX}_{}{suffix}", metric.name), labels)
        };
        suffixes(metric).into_iter().map(of).collect::<Vec<_>>()
    };
    ALL.iter().chain(OWN).flat_map(|metric| named(metric)).collect()
}

#[test]
fn the_table_of_metrics_has_each_with_its_labels_and_its_meaning() {
    let rows = include_str!("../docs/metrics.md").lines().filter(|line| line.starts_with("| `network_operator_"));
    let told: BTreeSet<String> = rows.map(str::to_owned).collect();
    let row = |metric: &Metric| {
        let total = if metric.kind == Kind::Counter { "_total" } else { "" };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        format!("| `{PREFIX}_{}{total}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)
    };
    let meant: BTreeSet<String> = ALL.iter().chain(OWN).map(|metric| row(metric)).collect();
    assert!(told == meant, "docs/metrics.md lacks:\n{}", missing(&meant, &told));
    assert!(meant.is_superset(&told), "docs/metrics.md has what there is not:\n{}", missing(&told, &meant));
}

fn missing(of: &BTreeSet<String>, from: &BTreeSet<String>) -> String {
    of.difference(from).cloned().collect::<Vec<_>>().join("\n")
}

fn help(name: &str) -> &'static str {
    let of = |metric: &Metric| {
        let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_')?.strip_prefix(metric.name));
        rest.is_some_and(|rest| ["", "_total", "_bucket", "_sum", "_count"].contains(&rest))
    };
    ALL.iter().chain(OWN).find(|metric| of(metric)).map_or("", |metric| metric.help)
}

/// What is wrong with one query.
struct Judge<'a> {
    names: &'a BTreeMap<String, BTreeSet<&'static str>>,
    known: BTreeSet<&'static str>,
    /// Labels of the outermost aggregation.
    left: Option<BTreeSet<String>>,
    faults: Vec<String>,
}

impl Judge<'_> {
    fn selector(&mut self, selector: &VectorSelector) {
        let Some(labels) = selector.name.as_ref().and_then(|name| self.names.get(name)) else {
            return self.faults.push(format!("there is no metric {:?}", selector.name));
        };
        self.known.extend(labels);
        let help = selector.name.as_deref().map_or("", help);
        let matchers = selector.matchers.matchers.iter().chain(selector.matchers.or_matchers.iter().flatten());
        for matcher in matchers {
            if !labels.contains(matcher.name.as_str()) {
                self.faults.push(format!("{:?} has no label {}", selector.name, matcher.name));
            }
            // Its help names the values that a query may ask for.
            let mut words = help.split(|letter: char| !letter.is_alphanumeric());
            if matches!(matcher.op, MatchOp::Equal | MatchOp::NotEqual) && !words.any(|word| word == matcher.value) {
                self.faults.push(format!("{:?}: no {} is {:?}", selector.name, matcher.name, matcher.value));
            }
        }
    }

    /// The labels that are summed by are asked for once their selector has been seen.
    fn by(&mut self, labels: &Labels) {
        let wrong = labels.labels.iter().filter(|label| !self.known.contains(label.as_str()));
        self.faults.extend(wrong.map(|label| format!("nothing has a label {label}")));
    }
}

impl ExprVisitor for Judge<'_> {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(MatrixSelector { vs, .. }) => self.selector(vs),
            _ => {}
        }
        Ok(true)
    }

    fn post_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        if let Expr::Aggregate(AggregateExpr { modifier: Some(modifier), .. }) = expr {
            self.by(modifier.labels());
            self.left = Some(modifier.labels().labels.iter().cloned().collect());
        }
        Ok(true)
    }
}

fn faults(query: &str) -> Vec<String> {
    judged(query).0
}

/// What is wrong with a query, and the labels that its result has.
fn judged(query: &str) -> (Vec<String>, BTreeSet<String>) {
    let names = names();
    match parse(query) {
        Err(error) => (vec![error], BTreeSet::new()),
        Ok(expr) => {
            let mut judge = Judge { names: &names, known: BTreeSet::new(), left: None, faults: Vec::new() };
            walk_expr(&mut judge, &expr).unwrap();
            let left = judge.left.unwrap_or_else(|| judge.known.iter().map(ToString::to_string).collect());
            (judge.faults, left)
        }
    }
}

#[test]
fn the_judge_finds_wrong_names_labels_and_queries() {
    let good = "sum by (vrf) (rate(network_operator_frr_bgp_messages_sent_total{vrf=~\"vr.*\"}[5m]))";
    assert_eq!(judged(good), (Vec::new(), BTreeSet::from(["vrf".to_owned()])));
    assert_eq!(faults("network_operator_runs_total{result=\"failed\"}"), [""; 0]);
    for bad in [
        good.replace("_total", ""),
        good.replace("{vrf", "{vfr"),
        good.replace("by (vrf)", "by (vfr)"),
        good.replace("[5m]", ""),
        "network_operator_runs_total{result=\"fialed\"}".to_owned(),
        good.replace("))", ")"),
    ] {
        assert_ne!(faults(&bad), [""; 0], "{bad}");
    }
}

#[test]
fn each_query_of_the_dashboard_hits_metrics_that_are_there() {
    let dashboard: Value = serde_json::from_str(include_str!("../deploy/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut shown = String::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            // Grafana puts durations there.
            let asked = query.replace("$__rate_interval", "5m").replace("$__range", "6h");
            assert_eq!(faults(&asked), [""; 0], "{}: {query}", panel["title"]);
            shown.push_str(query);
        }
    }
    for metric in ALL.iter().chain(OWN) {
        assert!(shown.contains(&format!("{PREFIX}_{}", metric.name)), "no panel shows {}", metric.name);
    }
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let instances = dashboard["templating"]["list"][1]["query"].as_str().unwrap();
    let metric = instances.strip_prefix("label_values(").unwrap().split(',').next().unwrap();
    assert!(names().contains_key(metric), "{metric}");
}

#[test]
fn each_alert_asks_for_metrics_that_are_there_and_says_what_to_do() {
    let rules: Value =
        serde_saphyr::from_str(include_str!("../deploy/components/monitoring/prometheus-rules.yaml")).unwrap();
    let [group] = rules["spec"]["groups"].as_array().unwrap().as_slice() else { panic!("one group") };
    let rules = group["rules"].as_array().unwrap();
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let text = |key: &str| rule[key].as_str().unwrap_or_else(|| panic!("{key} of {rule}"));
        assert!(alerts.insert(text("alert")), "{rule}");
        let keys: BTreeSet<&str> = rule.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(keys.is_subset(&["alert", "annotations", "expr", "for", "labels"].into()), "{keys:?}");
        if keys.contains("for") {
            let (number, unit) = text("for").split_at(text("for").len() - 1);
            assert!(number.parse::<u16>().is_ok() && "smhd".contains(unit), "{rule}");
        }
        let (faults, left) = judged(text("expr"));
        assert_eq!(faults, [""; 0], "{rule}");
        assert!(["info", "warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
        for annotation in ["summary", "description"] {
            let words = rule["annotations"][annotation].as_str().unwrap();
            let opened = words.matches("{{ $").count();
            assert!(words.len() > 20 && opened == words.matches(" }}").count(), "{rule}");
            let labels = words.split("$labels.").skip(1).map(|rest| rest.split(' ').next().unwrap());
            labels.for_each(|label| assert!(left.contains(label), "{label} in {rule}"));
        }
    }
    assert!(alerts.len() > 5);
}
