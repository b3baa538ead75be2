//! Puts the desired state into the template: minijinja sections where the hints stand. Pure.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};

use super::section::Sections;
use super::template::{Hint, Piece, Template};
use crate::config::{OperatorConfig, Replacement};
use crate::desired::{DesiredState, NodeFacts};

/// The built-in templates, by the name under which `--templates DIR` overrides them.
const BUILT_IN: [(Hint, &str, &str); 7] = [
    (Hint::Vrfs, "vrfs.j2", include_str!("../../templates/vrfs.j2")),
    (Hint::Neighbors, "neighbors.j2", include_str!("../../templates/neighbors.j2")),
    (Hint::NeighborsV4, "neighbors_v4.j2", include_str!("../../templates/neighbors_v4.j2")),
    (Hint::NeighborsV6, "neighbors_v6.j2", include_str!("../../templates/neighbors_v6.j2")),
    (Hint::Bgp, "bgp.j2", include_str!("../../templates/bgp.j2")),
    (Hint::PrefixLists, "prefix_lists.j2", include_str!("../../templates/prefix_lists.j2")),
    (Hint::RouteMaps, "route_maps.j2", include_str!("../../templates/route_maps.j2")),
];

/// Why no text could be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The folder or one of its files cannot be read.
    #[error("read section template {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A file in `--templates` that overrides nothing.
    #[error(
        "{path} overrides no section: the names are vrfs.j2, neighbors.j2, neighbors_v4.j2, neighbors_v6.j2, bgp.j2, prefix_lists.j2 and route_maps.j2"
    )]
    UnknownSection {
        /// Which one.
        path: PathBuf,
    },
    /// A section that minijinja refuses.
    #[error("section template")]
    Section(#[from] minijinja::Error),
    /// Nobody says which AS number the instances have.
    #[error(
        "no AS number: the template has no `router bgp ASN` of the default VRF, and the operator file no serverASN"
    )]
    NoAsn,
    /// The veth peering would not come up.
    #[error(
        "line {line} of the template: `bgp router-id {router_id}` of the default VRF equals the underlay address, which the VRFs' instances have as router ID: BGP refuses a peer with its own ID (RFC 6286), so give the default VRF another one"
    )]
    EqualRouterId {
        /// Line in the template, from 1.
        line: usize,
        /// The address.
        router_id: std::net::Ipv4Addr,
    },
}

/// The section templates, compiled once.
#[derive(Debug)]
pub struct Renderer {
    environment: Environment<'static>,
}

impl Renderer {
    /// Compiles the built-in sections and those of a folder that override them.
    ///
    /// # Errors
    /// An unreadable folder, a file that overrides no section, a template that does not compile.
    pub fn new(templates: Option<&Path>) -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
        for (_, name, text) in BUILT_IN {
            environment.add_template(name, text)?;
        }
        if let Some(folder) = templates {
            override_sections(&mut environment, folder)?;
        }
        Ok(Self { environment })
    }

    /// The whole frr.conf.
    ///
    /// # Errors
    /// No AS number, equal router IDs, or a section that fails.
    pub fn render(
        &self,
        template: &Template,
        desired: &DesiredState,
        config: &OperatorConfig,
        facts: &NodeFacts,
    ) -> Result<String, RenderError> {
        let asn = config.server_asn.or_else(|| template.default_asn()).ok_or(RenderError::NoAsn)?;
        if let Some((line, router_id)) = template.default_router_id(facts.underlay_ip)
            && router_id == facts.underlay_ip
            && desired.overlays().next().is_some()
        {
            return Err(RenderError::EqualRouterId { line, router_id });
        }
        let sections = Value::from(Serde(Sections::new(desired, asn, facts.underlay_ip, template.ipv4_unicast_off())));
        let router_id = facts.underlay_ip.to_string();
        let mut text = String::new();
        for piece in &template.pieces {
            match piece {
                Piece::Text(plain) => {
                    text.push_str(
                        &plain.replace("{{.Hostname}}", &facts.hostname).replace("{{.UnderlayRouterID}}", &router_id),
                    );
                }
                Piece::Hint(hint) => text.push_str(&self.section(*hint, &sections)?),
            }
        }
        Ok(config.replacements.iter().fold(text, replace))
    }

    fn section(&self, hint: Hint, sections: &Value) -> Result<String, RenderError> {
        let name = BUILT_IN.iter().find(|(other, ..)| *other == hint).map_or("", |(_, name, _)| name);
        Ok(self.environment.get_template(name)?.render(sections)?)
    }
}

fn override_sections(environment: &mut Environment<'static>, folder: &Path) -> Result<(), RenderError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| RenderError::Read { path, source }
    };
    for entry in std::fs::read_dir(folder).map_err(read(folder))? {
        let path = entry.map_err(read(folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A mounted ConfigMap has `..data` and `..2026_…` beside its files.
        if name.starts_with('.') {
            continue;
        }
        if !BUILT_IN.iter().any(|(_, known, _)| *known == name) {
            return Err(RenderError::UnknownSection { path });
        }
        let text = std::fs::read_to_string(&path).map_err(read(&path))?;
        environment.add_template_owned(name, text)?;
    }
    Ok(())
}

fn replace(text: String, replacement: &Replacement) -> String {
    match replacement {
        Replacement::Literal { old, new } => text.replace(old, new),
        Replacement::Regex { old, new } => old.replace_all(&text, new).into_owned(),
    }
}
