//! The admission policy: an agent can do to its own node what it does, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec};
use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, Program, ResolveResult, Value as Cel, to_value};
use network_operator::health::node::{CONDITION, UNREADY};
use serde_json::{Value, json};

use crate::rendered::{chart, objects, pod};
use crate::rights::granted;

/// One request to the API server, by the agent of node-1.
struct Request {
    resource: &'static str,
    old: Value,
    new: Value,
    extra: Value,
}

fn policy() -> ValidatingAdmissionPolicySpec {
    let policy = objects(&chart(&json!({}))["admission-policy.yaml"]).remove(0);
    serde_json::from_value::<ValidatingAdmissionPolicy>(policy).unwrap().spec.unwrap()
}

/// Whom it is about.
fn condition() -> String {
    let mut conditions = policy().match_conditions.unwrap();
    assert_eq!(conditions.len(), 1, "all conditions must hold");
    conditions.remove(0).expression
}

fn evaluate(context: &Context<'_>, expression: &str) -> Result<Cel, String> {
    let program = Program::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    program.execute(context).map_err(|error| error.to_string())
}

/// The messages of what is refused, as an API server comes to them.
fn refused(request: &Request) -> Vec<String> {
    let Request { resource, old, new, extra } = request;
    let mut context = Context::default().with_all();
    context.add_function("dyn", |value: Cel| -> ResolveResult { Ok(value) });
    let mut asked = json!({
        "resource": {"group": "", "version": "v1", "resource": resource},
        "userInfo": {"username": "system:serviceaccount:kube-system:network-operator"},
    });
    if !extra.is_null() {
        asked["userInfo"]["extra"] = extra.clone();
    }
    for (name, value) in [("object", new), ("oldObject", old), ("request", &asked)] {
        context.add_variable_from_value(name, to_value(value).unwrap());
    }
    let policy = policy();
    assert_eq!(evaluate(&context, &condition()), Ok(Cel::Bool(true)));
    let mut variables = std::collections::HashMap::new();
    for variable in policy.variables.unwrap() {
        // An API server evaluates a variable where it is used: without an old object, those of it are not.
        if let Ok(value) = evaluate(&context, &variable.expression) {
            variables.insert(variable.name, value);
            context.add_variable_from_value("variables", variables.clone());
        }
    }
    let mut messages = Vec::new();
    for validation in policy.validations.unwrap() {
        match evaluate(&context, &validation.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => messages.push(validation.message.unwrap()),
            other => messages.push(format!("{}: {other:?}", validation.expression)),
        }
    }
    messages
}

#[test]
fn the_policy_is_about_the_accounts_of_agents_of_both_kinds_and_no_others() {
    let texts = chart(&json!({"onlyAttachBpf": {"enabled": true}}));
    let account = |template: &str| pod(&texts[template]).0["serviceAccountName"].as_str().unwrap().to_owned();
    let [whole, router] = ["daemonset.yaml", "only-attach-bpf.yaml"].map(account);
    assert_ne!(whole, router, "each kind has rights of its own");
    let account = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
    for (user, bound) in [
        (account("kube-system", &whole), true),
        (account("kube-system", &router), true),
        (account("kube-system", "network-operator-webhook"), false),
        (account("kube-system", "node-controller"), false),
        (account("default", &whole), false),
        (whole.clone(), false),
        ("system:node:node-1".to_owned(), false),
        ("kubernetes-admin".to_owned(), false),
    ] {
        let mut context = Context::default().with_all();
        let asked = json!({"userInfo": {"username": user}});
        context.add_variable_from_value("request", to_value(&asked).unwrap());
        assert_eq!(evaluate(&context, &condition()), Ok(Cel::Bool(bound)), "{user}");
    }
}

fn of_node_1() -> Value {
    json!({"authentication.kubernetes.io/node-name": ["node-1"], "authentication.kubernetes.io/pod-name": ["x"]})
}

fn node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": "node-1", "uid": "1", "resourceVersion": "7", "generation": 1, "labels": {"zone": "a"}, "annotations": {"note": "x"},
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {
            "podCIDR": "10.0.0.0/24", "providerID": "metal://1",
            "taints": [
                {"key": "gpu", "effect": "NoSchedule"},
                {"key": "node.schiff.telekom.de/uninitialized", "effect": "NoSchedule", "value": "true"},
                {"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"},
            ],
        },
        "status": {
            "capacity": {"cpu": "2"},
            "conditions": [{"type": "Ready", "status": "True"}, {"type": CONDITION, "status": "False"}],
        },
    })
}

/// A change of the node by a JSON patch, as the agent's are.
fn changed(patch: Value) -> Request {
    let mut new = node();
    (new["metadata"]["resourceVersion"], new["metadata"]["generation"]) = (json!("8"), json!(2));
    new["metadata"]["managedFields"] = json!([{"manager": "kubelet"}, {"manager": "network-operator"}]);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    json_patch::patch(&mut new, &patch).unwrap();
    Request { resource: "nodes", old: node(), new, extra: of_node_1() }
}

fn created(resource: &'static str, new: Value) -> Request {
    Request { resource, old: Value::Null, new, extra: of_node_1() }
}

#[test]
fn an_agent_may_do_what_it_does() {
    let ours = json!({"key": UNREADY, "effect": "NoSchedule"});
    let state = json!({"metadata": {"name": "node-1"}, "spec": {}});
    let lease = json!({"metadata": {"name": "network-operator"}, "spec": {"holderIdentity": "node-1"}});
    let event = json!({"metadata": {"name": "x"}, "source": {"component": "network-operator", "host": "node-1"}});
    let mut taken_over = created("leases", lease.clone());
    taken_over.old = json!({"metadata": {"name": "network-operator"}, "spec": {"holderIdentity": "node-2"}});
    let mut told = created("nodenetworkstates", json!({"metadata": {"name": "node-1"}, "status": {"vrfs": []}}));
    told.old = state.clone();
    // A Node that somebody has just made.
    let mut fresh = created("nodes", json!({"metadata": {"name": "node-1"}}));
    (fresh.old, fresh.new["spec"]) = (fresh.new.clone(), json!({"taints": [ours]}));
    let mut heard = created("nodes", json!({"metadata": {"name": "node-1"}}));
    (heard.old, heard.new["status"]) =
        (heard.new.clone(), json!({"conditions": [{"type": CONDITION, "status": "True"}]}));
    let mut emptied = changed(json!([]));
    (emptied.old, emptied.new) = (fresh.new.clone(), fresh.old.clone());
    let mut marked = changed(json!([]));
    marked.old["spec"]["taints"].as_array_mut().unwrap().push(ours.clone());
    let mut bare = changed(json!([{"op": "remove", "path": "/spec/taints"}]));
    (bare.old, bare.new["spec"]) =
        (bare.new.clone(), json!({"taints": [ours], "podCIDR": "10.0.0.0/24", "providerID": "metal://1"}));
    for request in [
        changed(json!([{"op": "remove", "path": "/spec/taints/1"}])),
        changed(json!([{"op": "remove", "path": "/spec/taints/2"}])),
        changed(json!([{"op": "add", "path": "/spec/taints/-", "value": ours}])),
        marked,
        bare,
        fresh,
        heard,
        emptied,
        changed(json!([{"op": "replace", "path": "/status/conditions/1/status", "value": "True"}])),
        changed(json!([{"op": "remove", "path": "/status/conditions/1"}])),
        created("nodenetworkstates", state),
        told,
        created("leases", lease),
        taken_over,
        created("events", event),
    ] {
        assert_eq!(refused(&request), [""; 0], "{}: {}", request.resource, request.new);
    }
}

/// Each request is refused, with these words.
fn assert_refused<const N: usize>(cases: [(Request, &str); N]) {
    for (request, words) in cases {
        let messages = refused(&request);
        assert!(messages.iter().any(|message| message.contains(words)), "{words}: {messages:?}: {}", request.new);
        assert!(!messages.iter().any(|message| message.contains("Err(")), "{messages:?}");
    }
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[test]
fn an_agent_may_do_nothing_else_to_its_node() {
    let add = |path: &str, value: Value| changed(json!([{"op": "add", "path": path, "value": value}]));
    let remove = |path: &str| changed(json!([{"op": "remove", "path": path}]));
    assert_refused([
        (add("/metadata/labels/node-role.kubernetes.io~1control-plane", json!("")), "labels, annotations"),
        (remove("/metadata/labels/zone"), "labels, annotations"),
        (remove("/metadata/labels"), "labels, annotations"),
        (add("/metadata/annotations/note", json!("y")), "labels, annotations"),
        (add("/metadata/finalizers", json!(["x"])), "labels, annotations"),
        (add("/metadata/ownerReferences", json!([{"kind": "Pod"}])), "labels, annotations"),
        (add("/spec/unschedulable", json!(true)), "in the spec"),
        (add("/spec/podCIDR", json!("10.1.0.0/24")), "in the spec"),
        (remove("/spec/providerID"), "in the spec"),
        (remove("/spec/taints/0"), "removes the taints"),
        (remove("/spec/taints"), "removes the taints"),
        // A changed taint is one that goes, and one that comes.
        (add("/spec/taints/0/effect", json!("PreferNoSchedule")), "adds the taint"),
        (add("/spec/taints/-", json!({"key": UNREADY, "effect": "NoExecute"})), "adds the taint"),
        (add("/spec/taints/-", json!({"key": "other", "effect": "NoSchedule"})), "adds the taint"),
        (add("/status/conditions/0/status", json!("False")), "in the status"),
        (add("/status/conditions/-", json!({"type": "Other", "status": "True"})), "in the status"),
        (remove("/status/conditions/0"), "in the status"),
        (add("/status/capacity/cpu", json!("64")), "in the status"),
        (remove("/status/capacity"), "in the status"),
        (add("/status/addresses", json!([{"type": "InternalIP", "address": "192.0.2.1"}])), "in the status"),
    ]);
}

#[test]
fn an_agent_may_do_nothing_in_the_name_of_another() {
    let lease = |name: &str, holder: &str| {
        created("leases", json!({"metadata": {"name": name}, "spec": {"holderIdentity": holder}}))
    };
    let event = |source: Value| created("events", json!({"metadata": {"name": "x"}, "source": source}));
    let mut of_another = changed(json!([{"op": "remove", "path": "/spec/taints/1"}]));
    of_another.extra = json!({"authentication.kubernetes.io/node-name": ["node-2"]});
    let mut unbound = changed(json!([]));
    unbound.extra = json!({});
    let mut unknown = changed(json!([]));
    unknown.extra = Value::Null;
    let mut told_of_another = created("nodenetworkstates", named("node-2"));
    told_of_another.old = named("node-2");
    let mut heard_of_another =
        changed(json!([{"op": "replace", "path": "/status/conditions/1/status", "value": "True"}]));
    heard_of_another.extra = of_another.extra.clone();
    let own = "its own node and its own NodeNetworkState";
    assert_refused([
        (of_another, own),
        (heard_of_another, own),
        (unbound, "names no node"),
        (unknown, "names no node"),
        (told_of_another, own),
        (created("nodenetworkstates", named("node-2")), own),
        (lease("network-operator", "node-2"), "in the name of its own node"),
        (lease("kube-scheduler", "node-1"), "takes the Lease network-operator only"),
        (created("leases", named("network-operator")), "takes the Lease"),
        (created("leases", json!({"metadata": {"name": "network-operator"}, "spec": {}})), "takes the Lease"),
        (event(json!({"host": "node-2"})), "events in the name"),
        (event(json!({"component": "kubelet"})), "events in the name"),
        (created("events", named("x")), "events in the name"),
    ]);
}

/// A resource with its group, and what is done to it.
type Write = (String, String, &'static str);

/// What the policy is asked about.
fn asked_about() -> BTreeSet<Write> {
    let rules = policy().match_constraints.unwrap().resource_rules.unwrap();
    let mut asked = BTreeSet::new();
    for rule in rules {
        assert_eq!(rule.api_versions.unwrap(), ["*"]);
        for operation in rule.operations.unwrap() {
            let operation = ["CREATE", "UPDATE", "DELETE"].into_iter().find(|known| *known == operation).unwrap();
            for group in rule.api_groups.as_deref().unwrap() {
                let resources = rule.resources.iter().flatten();
                asked.extend(resources.map(|resource| (group.clone(), resource.clone(), operation)));
            }
        }
    }
    asked
}

/// What agents of either kind may write.
fn writes() -> BTreeSet<Write> {
    let rights = ["rbac.yaml", "only-attach-bpf-rbac.yaml"].into_iter().flat_map(granted);
    let write = |verb: &str| match verb {
        "get" | "list" | "watch" => None,
        "create" => Some("CREATE"),
        "update" | "patch" => Some("UPDATE"),
        "delete" | "deletecollection" => Some("DELETE"),
        other => panic!("{other}"),
    };
    let writes = rights.filter_map(|right| Some((right.group, right.resource, write(&right.verb)?)));
    writes.collect()
}

#[test]
fn the_policy_is_asked_about_all_that_an_agent_may_write_but_the_summary() {
    let (asked, writes) = (asked_about(), writes());
    let unasked: Vec<&Write> = writes.difference(&asked).collect();
    // One agent writes it for all nodes.
    let summary = ("network.schiff.telekom.de".to_owned(), "vrfrouteconfigurations/status".to_owned(), "UPDATE");
    assert_eq!(unasked, [&summary]);
    assert!(writes.len() > 5, "{writes:?}");
}

#[test]
fn what_the_policy_says_no_to_is_denied() {
    let all = objects(&chart(&json!({}))["admission-policy.yaml"]);
    let [policy, binding] = all.as_slice() else { panic!("a policy and its binding: {all:?}") };
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    // Without selectors: for all objects.
    assert_eq!(binding["spec"], json!({"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}));
    let constraints = policy["spec"]["matchConstraints"].as_object().unwrap();
    assert_eq!(constraints.keys().collect::<Vec<_>>(), ["resourceRules"]);
}
