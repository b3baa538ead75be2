//! Metrics: what is told of FRR, the kernel and the eBPF router when somebody asks, and what the agent counts of its own work.
//! Pure; what asks FRR and the kernel is in `collect`.

mod agent;
mod catalogue;
pub mod collect;
mod frr;
mod kernel;
mod measured;
mod scrape;

use std::collections::BTreeMap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

pub use agent::AgentMetrics;
pub use catalogue::{ALL, OWN};
pub use measured::{Measured, measured};
pub use scrape::Scraper;

/// What all names begin with.
pub const PREFIX: &str = "network_operator";

/// Whether a value goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It does.
    Gauge,
    /// It only grows, until what counts it is restarted; `_total` is added to its name.
    Counter,
    /// How often values were at most so large: `_bucket`, `_sum` and `_count` are added to its name.
    Histogram,
}

/// A metric: what it is called, and what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Without [`PREFIX`].
    pub name: &'static str,
    /// Its meaning and unit.
    pub help: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
}

/// Values of one moment, by name.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<&'static str, (&'static Metric, Vec<Sample>)>);

/// The labels of a metric, in its order, and its value with them.
type Sample = (Vec<String>, f64);

impl Samples {
    /// Adds a value; `labels` are those of the metric, in its order.
    pub fn add(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        let labels = labels.iter().map(ToString::to_string).collect();
        self.0.entry(metric.name).or_insert_with(|| (metric, Vec::new())).1.push((labels, value));
    }

    /// Adds those of another collector.
    pub fn extend(&mut self, other: Self) {
        for (name, (metric, values)) in other.0 {
            self.0.entry(name).or_insert_with(|| (metric, Vec::new())).1.extend(values);
        }
    }

    #[cfg(test)]
    fn value(&self, metric: &Metric, labels: &[&str]) -> Option<f64> {
        let (_, values) = self.0.get(metric.name)?;
        values.iter().find(|(found, _)| found == labels).map(|(_, value)| *value)
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for (metric, values) in self.0.values() {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge | Kind::Histogram => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (labels, value) in values {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
                let mut sample = family.encode_family(&labels)?;
                match metric.kind {
                    Kind::Counter => sample.encode_counter::<NoLabelSet, f64, f64>(value, None)?,
                    Kind::Gauge | Kind::Histogram => sample.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn samples_are_told_as_openmetrics_and_quotes_in_labels_do_no_harm() {
        let mut samples = Samples::default();
        samples.add(&catalogue::VNI_UP, &["vr.a\"b", "100"], 1.0);
        samples.add(&catalogue::BGP_MESSAGES_SENT, &["default", "swp1"], 7.0);
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(samples));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("network_operator_frr_vni_up{vrf=\"vr.a\\\"b\",vni=\"100\"} 1.0\n"), "{text}");
        let counter = "network_operator_frr_bgp_messages_sent_total{vrf=\"default\",neighbor=\"swp1\"} 7.0\n";
        assert!(text.contains(counter) && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn no_two_metrics_have_one_name() {
        let names: BTreeSet<&str> = ALL.iter().chain(OWN).map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len() + OWN.len());
    }
}
