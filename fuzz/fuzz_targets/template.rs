//! The site's template: it is read without a panic, a hint that is wrong is told with its line, and whatever is rendered into a
//! good one, the site's own lines are all there in their order.
#![no_main]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use network_operator::config::OperatorConfig;
use network_operator::desired::NodeFacts;
use network_operator::frr::config::Config;
use network_operator::frr::render::Renderer;
use network_operator::frr::template::{Hint, Template};
use network_operator::reconcile::render;
use network_operator::trigger::Objects;
use network_operator::trigger::manifests::read_manifests;

struct Fixed {
    /// Of nobody's VRFs.
    bare: OperatorConfig,
    config: OperatorConfig,
    objects: Objects,
    facts: NodeFacts,
    renderer: Renderer,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/render");
    let case = cases.join("dual-stack");
    let facts = NodeFacts { hostname: "node-1".to_owned(), underlay_ip: Ipv4Addr::new(192, 0, 2, 129) };
    Fixed {
        bare: OperatorConfig::load(&cases.join("empty/config.yaml")).expect("the operator file without VRFs"),
        config: OperatorConfig::load(&case.join("config.yaml")).expect("the operator file of the case"),
        objects: read_manifests(&[case.join("objects.yaml")]).expect("the objects of the case").into(),
        facts,
        renderer: Renderer::new(None).expect("the built-in sections"),
    }
});

/// The site's own lines: all but those of section hints, which stand on lines of their own.
fn own(template: &str, facts: &NodeFacts) -> String {
    let hint = |line: &&str| Hint::ALL.into_iter().any(|hint| line.contains(&hint.to_string()));
    let lines = template.split_inclusive('\n').filter(|line| !hint(line));
    let router_id = facts.underlay_ip.to_string();
    lines.collect::<String>().replace("{{.Hostname}}", &facts.hostname).replace("{{.UnderlayRouterID}}", &router_id)
}

fuzz_target!(|text: &str| {
    let Fixed { bare, config, objects, facts, renderer } = &*FIXED;
    if let Err(error) = Template::parse(text) {
        assert!(error.to_string().contains("line"), "{error}");
        return;
    }
    let Ok((_, nothing)) = render(&Objects::default(), bare, text, facts, renderer) else { return };
    assert_eq!(Config::parse(&nothing), Config::parse(&own(text, facts)), "rendered:\n{nothing}");
    let Ok((_, all)) = render(objects, config, text, facts, renderer) else { return };
    let mut rendered = all.lines();
    for line in nothing.lines() {
        assert!(rendered.any(|other| other == line), "lost or moved: {line:?} in\n{all}");
    }
});
