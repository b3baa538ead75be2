//! Reads the operator file: text in, checked configuration or a message with line and column out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::operator::{BpfConfig, OnReloadFailure, OperatorConfig, RefusedVrf, Replacement, VrfConfig};
use super::yaml;
use crate::model::{Asn, IfName, RouteTable, RouteTables, RouteTarget, Vni, VrfName};

/// Why an operator file cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read operator file {path}: create it, or name another one in OPERATOR_CONFIG")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing in it, as after a write that was cut off.
    #[error("operator file {path} is empty: `vnimap: {{}}` says that there are no VRFs")]
    Empty {
        /// Which one.
        path: PathBuf,
    },
    /// It is not the YAML that is expected: the message has line, column and the known keys.
    #[error("operator file {path}: {message}")]
    Syntax {
        /// Which one.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A value that no VRF stands for.
    #[error("operator file {path}: {field}: {message}")]
    Value {
        /// Which one.
        path: PathBuf,
        /// The key.
        field: String,
        /// What is wrong.
        message: String,
    },
}

/// The keys as they are written; values are checked afterwards, so that a bad VRF does not take the file with it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Raw {
    vnimap: BTreeMap<VrfName, i64>,
    vrf_config: BTreeMap<VrfName, RawVrf>,
    #[serde(rename = "skipVRFConfig")]
    skip_vrf_config: BTreeSet<VrfName>,
    bpf_interfaces: BTreeSet<IfName>,
    bpf: RawBpf,
    #[serde(rename = "serverASN")]
    server_asn: Option<Asn>,
    replacements: Vec<RawReplacement>,
    route_tables: Option<RawTables>,
    underlay_interface: Option<IfName>,
    on_reload_failure: OnReloadFailure,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBpf {
    enabled: bool,
    notrack: bool,
}

impl Default for RawBpf {
    fn default() -> Self {
        Self { enabled: true, notrack: true }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVrf {
    vni: i64,
    #[serde(default)]
    rt: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReplacement {
    old: String,
    new: String,
    #[serde(default)]
    regex: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTables {
    start: RouteTable,
    end: RouteTable,
}

impl OperatorConfig {
    /// Reads and checks the operator file.
    ///
    /// # Errors
    /// An unreadable or empty file, unknown keys, values of the wrong type. What concerns one VRF only is no error:
    /// that VRF is in `refused`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&Self::read(path)?, path)
    }

    /// The text of an operator file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
    }

    /// Checks the text of an operator file; `path` is for messages.
    ///
    /// # Errors
    /// As [`OperatorConfig::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Err(ConfigError::Empty { path: path.to_owned() });
        }
        let raw: Raw = yaml(text).map_err(|message| ConfigError::Syntax { path: path.to_owned(), message })?;
        let Raw {
            vnimap,
            vrf_config,
            skip_vrf_config,
            bpf_interfaces,
            bpf: RawBpf { enabled, notrack },
            server_asn,
            replacements,
            route_tables,
            underlay_interface,
            on_reload_failure,
        } = raw;
        let value =
            |field: &str, message: String| ConfigError::Value { path: path.to_owned(), field: field.into(), message };
        let replacements = replacements.into_iter().enumerate().map(|(index, raw)| {
            replacement(raw).map_err(|message| value(&format!("replacements[{index}].old"), message))
        });
        let replacements = replacements.collect::<Result<_, _>>()?;
        let tables = route_tables.map(|tables| RouteTables::new(tables.start, tables.end)).transpose();
        let route_tables = tables.map_err(|error| value("routeTables", error.to_string()))?.unwrap_or_default();
        let default_underlay = "dum.underlay"
            .parse()
            .map_err(|error: crate::model::Invalid| value("underlayInterface", error.to_string()))?;
        let (vrfs, refused) = vrfs(vnimap, vrf_config);
        Ok(Self {
            vrfs,
            refused,
            skip_vrfs: skip_vrf_config,
            bpf_interfaces,
            bpf: BpfConfig { enabled, notrack },
            server_asn,
            replacements,
            route_tables,
            on_reload_failure,
            underlay_interface: underlay_interface.unwrap_or(default_underlay),
        })
    }
}

fn replacement(raw: RawReplacement) -> Result<Replacement, String> {
    let RawReplacement { old, new, regex } = raw;
    if old.is_empty() {
        return Err("it is empty: say what is to be replaced".to_owned());
    }
    if regex {
        let old = regex::Regex::new(&old).map_err(|error| error.to_string())?;
        return Ok(Replacement::Regex { old, new });
    }
    Ok(Replacement::Literal { old, new })
}

type Vrfs = (BTreeMap<VrfName, VrfConfig>, BTreeMap<VrfName, RefusedVrf>);

/// `vrfConfig` wins over `vnimap`; two VRFs with one VNI are both refused, because nobody can say which one is meant.
fn vrfs(vnimap: BTreeMap<VrfName, i64>, vrf_config: BTreeMap<VrfName, RawVrf>) -> Vrfs {
    let (mut vrfs, mut refused) = Vrfs::default();
    let from_map =
        vnimap.into_iter().map(|(name, vni)| (name.clone(), (format!("vnimap.{name}"), RawVrf { vni, rt: None })));
    let from_config = vrf_config.into_iter().map(|(name, raw)| (name.clone(), (format!("vrfConfig.{name}"), raw)));
    let mut raw: BTreeMap<VrfName, (String, RawVrf)> = from_map.collect();
    raw.extend(from_config);
    for (name, (field, RawVrf { vni, rt })) in raw {
        let checked = Vni::try_from(vni).and_then(|vni| {
            let route_target = rt.as_deref().map(str::parse::<RouteTarget>).transpose()?;
            Ok(VrfConfig { vni, route_target })
        });
        match checked {
            Ok(vrf) => drop(vrfs.insert(name, vrf)),
            Err(error) => drop(refused.insert(name, RefusedVrf { field, reason: error.to_string() })),
        }
    }
    let mut by_vni: BTreeMap<Vni, Vec<VrfName>> = BTreeMap::new();
    for (name, vrf) in &vrfs {
        by_vni.entry(vrf.vni).or_default().push(name.clone());
    }
    for (vni, names) in by_vni.into_iter().filter(|(_, names)| names.len() > 1) {
        let list = names.iter().map(VrfName::as_str).collect::<Vec<_>>().join(" and ");
        for name in names {
            let reason = format!("VNI {vni} is given to {list}: give each VRF a VNI of its own");
            vrfs.remove(&name);
            refused.insert(name, RefusedVrf { field: "vnimap".to_owned(), reason });
        }
    }
    (vrfs, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OperatorConfig, ConfigError> {
        OperatorConfig::parse(text, Path::new("config.yaml"))
    }

    const ALL_KEYS: &str = "vnimap: {vrf1: 100, vrf2: 101}\nvrfConfig:\n  vrf2: {vni: 201, rt: '64497:201'}\nskipVRFConfig: [mgmt_vrf]\nbpfInterfaces: ['br.mgmt_vrf', vx.200]\nbpf: {enabled: false}\nserverASN: 64510\nreplacements:\n- {old: a, new: b, regex: false}\n- {old: 'x(.)', new: 'y$1', regex: true}\nrouteTables: {start: 300, end: 400}\nunderlayInterface: lo.underlay\nonReloadFailure: restart\n";

    #[test]
    fn every_key_of_the_contract_is_read() {
        let config = parse(ALL_KEYS).unwrap();
        let vni = |name: &str| config.vrfs.get(name).map(|vrf| vrf.vni.get());
        assert_eq!((vni("vrf1"), vni("vrf2")), (Some(100), Some(201)));
        assert_eq!(config.vrfs["vrf2"].route_target.as_ref().unwrap().to_string(), "64497:201");
        assert!(config.skip_vrfs.contains("mgmt_vrf"));
        assert_eq!(config.bpf_interfaces.len(), 2);
        assert_eq!(config.bpf, BpfConfig { enabled: false, notrack: true });
        assert_eq!(config.server_asn.unwrap().get(), 64510);
        assert_eq!(config.replacements.len(), 2);
        assert_eq!((config.route_tables.start().get(), config.route_tables.end().get()), (300, 400));
        assert_eq!(config.underlay_interface.as_str(), "lo.underlay");
        assert_eq!(config.on_reload_failure, OnReloadFailure::Restart);
    }

    #[test]
    fn what_is_left_out_has_the_default_of_the_contract() {
        let config = parse("vnimap: {}\n").unwrap();
        assert_eq!((config.route_tables.start().get(), config.route_tables.end().get()), (50, 252));
        assert_eq!(config.underlay_interface.as_str(), "dum.underlay");
        assert!(config.vrfs.is_empty() && config.server_asn.is_none());
        assert_eq!(config.on_reload_failure, OnReloadFailure::Keep);
        assert!(parse("onReloadFailure: reboot\n").unwrap_err().to_string().contains("reboot"));
    }

    #[test]
    fn an_unknown_key_is_named_with_line_and_column() {
        let text = parse("vnimap:\n  vrf1: 100\nvniMap: {}\n").unwrap_err().to_string();
        assert!(text.contains("vniMap") && text.contains("line 3") && text.contains("column 1"), "{text}");
        let text = parse("vrfConfig:\n  vrf1: {vni: 1, rd: x}\n").unwrap_err().to_string();
        assert!(text.contains("rd") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line() {
        let text = parse("vnimap:\n  vrf1: many\n").unwrap_err().to_string();
        assert!(text.contains("line 2"), "{text}");
        let text = parse("vnimap:\n  'vrf 1': 1\n").unwrap_err().to_string();
        assert!(text.contains("VRF name"), "{text}");
    }

    #[test]
    fn an_empty_file_is_not_an_empty_configuration() {
        assert!(matches!(parse(" \n"), Err(ConfigError::Empty { .. })));
    }

    #[test]
    fn a_bad_vrf_is_refused_alone() {
        let config =
            parse("vnimap: {zero: 0, big: 16777216, good: 5}\nvrfConfig: {rt: {vni: 6, rt: nonsense}}\n").unwrap();
        assert_eq!(config.vrfs.keys().map(VrfName::as_str).collect::<Vec<_>>(), ["good"]);
        assert_eq!(config.refused["zero"].field, "vnimap.zero");
        assert!(config.refused["big"].reason.contains("16777215"));
        assert!(config.refused["rt"].reason.contains("route target"));
    }

    #[test]
    fn one_vni_for_two_vrfs_refuses_both() {
        let config = parse("vnimap: {a: 7, b: 7, c: 8}\n").unwrap();
        assert_eq!(config.vrfs.len(), 1);
        assert!(config.refused["a"].reason.contains("a and b") && config.refused["b"].reason.contains("VNI 7"));
    }

    #[test]
    fn a_bad_regular_expression_names_its_entry() {
        let text = parse("replacements: [{old: '(', new: b, regex: true}]\n").unwrap_err().to_string();
        assert!(text.contains("replacements[0].old"), "{text}");
    }

    #[test]
    fn the_kernels_own_tables_are_refused() {
        assert!(parse("routeTables: {start: 50, end: 254}\n").unwrap_err().to_string().contains("routeTables"));
    }
}
