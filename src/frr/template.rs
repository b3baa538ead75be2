//! The site's template: where its hints stand, and what its default BGP instance says. Pure.

use std::fmt;
use std::net::Ipv4Addr;

use crate::model::Asn;

/// The places of a template that sections are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// `vrf` stanzas.
    Vrfs,
    /// Neighbors of the default instance.
    Neighbors,
    /// Their IPv4 unicast part.
    NeighborsV4,
    /// Their IPv6 unicast part.
    NeighborsV6,
    /// One `router bgp … vrf` per VRF.
    Bgp,
    /// Prefix-lists.
    PrefixLists,
    /// Route-maps.
    RouteMaps,
}

impl Hint {
    /// All hints, in the order in which a configuration usually has them.
    pub const ALL: [Self; 7] = [
        Self::Vrfs,
        Self::Neighbors,
        Self::NeighborsV4,
        Self::NeighborsV6,
        Self::Bgp,
        Self::PrefixLists,
        Self::RouteMaps,
    ];

    /// The name between `{{.` and `}}`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vrfs => "VRFs",
            Self::Neighbors => "Neighbors",
            Self::NeighborsV4 => "NeighborsV4",
            Self::NeighborsV6 => "NeighborsV6",
            Self::Bgp => "BGP",
            Self::PrefixLists => "PrefixLists",
            Self::RouteMaps => "RouteMaps",
        }
    }

    /// Where the hint belongs, in the words of someone who edits the template.
    pub fn place(self) -> &'static str {
        match self {
            Self::Vrfs => "at top level, after the vrf stanzas of the site",
            Self::Neighbors => "in `router bgp` of the default VRF, before its address families",
            Self::NeighborsV4 => "in `address-family ipv4 unicast` of the default VRF's `router bgp`",
            Self::NeighborsV6 => "in `address-family ipv6 unicast` of the default VRF's `router bgp`",
            Self::Bgp => "at top level, after the last `router bgp` of the site",
            Self::PrefixLists | Self::RouteMaps => "at top level, somewhere near the end",
        }
    }

    fn context(self) -> Context {
        match self {
            Self::Neighbors => Context::DefaultBgp,
            Self::NeighborsV4 => Context::DefaultBgpV4,
            Self::NeighborsV6 => Context::DefaultBgpV6,
            Self::Vrfs | Self::Bgp | Self::PrefixLists | Self::RouteMaps => Context::Top,
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{.{}}}}}", self.name())
    }
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A hint is not there.
    #[error("the template has no hint {hint}: put the line `#++{hint}` {}", hint.place())]
    Missing {
        /// The hint.
        hint: Hint,
    },
    /// A hint is there twice.
    #[error("line {line}: hint {hint} stands already on line {first}: leave one, {}", hint.place())]
    Repeated {
        /// The hint.
        hint: Hint,
        /// Line of the second one, from 1.
        line: usize,
        /// Line of the first one, from 1.
        first: usize,
    },
    /// A hint that nobody knows.
    #[error(
        "line {line}: unknown hint {{{{.{name}}}}}: the hints are VRFs, Neighbors, NeighborsV4, NeighborsV6, BGP, PrefixLists and RouteMaps on lines of their own, Hostname and UnderlayRouterID anywhere"
    )]
    Unknown {
        /// What stands there.
        name: String,
        /// Its line, from 1.
        line: usize,
    },
    /// A hint in a context that cannot hold its section.
    #[error("line {line}: hint {hint} stands {found}: it belongs {}", hint.place())]
    Misplaced {
        /// The hint.
        hint: Hint,
        /// Its line, from 1.
        line: usize,
        /// Where it stands.
        found: &'static str,
    },
    /// A section hint that shares its line.
    #[error(
        "line {line}: hint {hint} must stand on a line of its own: nothing before it but blanks or `#++`, nothing behind it"
    )]
    NotAlone {
        /// The hint.
        hint: Hint,
        /// Its line, from 1.
        line: usize,
    },
}

/// Where a line of FRR configuration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    Top,
    DefaultBgp,
    DefaultBgpBehind,
    DefaultBgpV4,
    DefaultBgpV6,
    DefaultBgpOther,
    Other,
}

impl Context {
    fn words(self) -> &'static str {
        match self {
            Self::Top => "at top level",
            Self::DefaultBgp => "in `router bgp` of the default VRF",
            Self::DefaultBgpBehind => "in `router bgp` of the default VRF, behind an address family",
            Self::DefaultBgpV4 => "in `address-family ipv4 unicast` of the default VRF",
            Self::DefaultBgpV6 => "in `address-family ipv6 unicast` of the default VRF",
            Self::DefaultBgpOther => "in another address family of the default VRF",
            Self::Other => "within another block",
        }
    }

    /// The context behind a line that stands in this one.
    fn after(self, line: &str) -> Self {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match (words.as_slice(), self) {
            (["router", "bgp"] | ["router", "bgp", _] | ["router", "bgp", _, "vrf", "default"], _) => Self::DefaultBgp,
            (["router" | "vrf" | "interface" | "route-map" | "segment-routing" | "line", ..], _) => Self::Other,
            (["exit" | "exit-vrf" | "end"], _) => Self::Top,
            (["address-family", "ipv4"] | ["address-family", "ipv4", "unicast"], inner) if inner.in_default_bgp() => {
                Self::DefaultBgpV4
            }
            (["address-family", "ipv6"] | ["address-family", "ipv6", "unicast"], inner) if inner.in_default_bgp() => {
                Self::DefaultBgpV6
            }
            (["address-family", ..], inner) if inner.in_default_bgp() => Self::DefaultBgpOther,
            (["exit-address-family"], inner) if inner.in_default_bgp() => Self::DefaultBgpBehind,
            // Lines that only stand at top level end a block that nobody closed, as in FRR itself.
            (
                ["ip" | "ipv6", "prefix-list" | "route" | "protocol", ..] | ["hostname" | "log" | "frr", ..],
                Self::Other,
            ) => Self::Top,
            _ => self,
        }
    }

    fn in_default_bgp(self) -> bool {
        !matches!(self, Self::Top | Self::Other)
    }

    fn accepts(self, hint: Hint) -> bool {
        match hint.context() {
            // A stanza such as `vrf` may have been left open: what top-level text follows ends it.
            Context::Top => matches!(self, Self::Top | Self::Other | Self::DefaultBgp | Self::DefaultBgpBehind),
            wanted => wanted == self,
        }
    }
}

/// A piece of the template between hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text of the site, whole lines.
    Text(String),
    /// The line of a hint.
    Hint(Hint),
}

/// A template whose hints are all known and in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub(super) pieces: Vec<Piece>,
    default_asn: Option<Asn>,
    default_router_id: Option<(usize, String)>,
    ipv4_unicast_off: bool,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A hint that is missing (but `NeighborsV6`), repeated, unknown, misplaced or not alone on its line.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut template =
            Self { pieces: Vec::new(), default_asn: None, default_router_id: None, ipv4_unicast_off: false };
        let mut seen: Vec<(Hint, usize)> = Vec::new();
        let mut context = Context::Top;
        let mut plain = String::new();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let number = index + 1;
            if let Some(hint) = section_hint(line, number)? {
                if let Some((_, first)) = seen.iter().find(|(other, _)| *other == hint) {
                    return Err(TemplateError::Repeated { hint, line: number, first: *first });
                }
                if !context.accepts(hint) {
                    return Err(TemplateError::Misplaced { hint, line: number, found: context.words() });
                }
                if hint.context() == Context::Top {
                    context = Context::Top;
                }
                seen.push((hint, number));
                template.pieces.push(Piece::Text(std::mem::take(&mut plain)));
                template.pieces.push(Piece::Hint(hint));
                continue;
            }
            context = context.after(line);
            template.note(context, line, number);
            plain.push_str(&frr_spelling(line));
        }
        template.pieces.push(Piece::Text(plain));
        let missing = |hint: &Hint| *hint != Hint::NeighborsV6 && !seen.iter().any(|(other, _)| other == hint);
        match Hint::ALL.into_iter().find(missing) {
            Some(hint) => Err(TemplateError::Missing { hint }),
            None => Ok(template),
        }
    }

    /// AS number of the default VRF's `router bgp`.
    pub fn default_asn(&self) -> Option<Asn> {
        self.default_asn
    }

    /// Line number and address of the default VRF's `bgp router-id`, as they are once `router_id` is put in.
    pub fn default_router_id(&self, router_id: Ipv4Addr) -> Option<(usize, Ipv4Addr)> {
        let (line, text) = self.default_router_id.as_ref()?;
        let text = text.replace("{{.UnderlayRouterID}}", &router_id.to_string());
        text.parse().ok().map(|address| (*line, address))
    }

    /// Whether the default instance says `no bgp default ipv4-unicast`: neighbors must then be activated in words,
    /// which FRR's running configuration leaves out otherwise.
    pub fn ipv4_unicast_off(&self) -> bool {
        self.ipv4_unicast_off
    }

    /// Whether a hint is there.
    pub fn has(&self, hint: Hint) -> bool {
        self.pieces.contains(&Piece::Hint(hint))
    }

    fn note(&mut self, context: Context, line: &str, number: usize) {
        if !matches!(context, Context::DefaultBgp | Context::DefaultBgpBehind) {
            return;
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["router", "bgp", asn, ..] => self.default_asn = asn.parse().ok().and_then(|n: i64| Asn::try_from(n).ok()),
            ["bgp", "router-id", id] => self.default_router_id = Some((number, (*id).to_owned())),
            ["no", "bgp", "default", "ipv4-unicast"] => self.ipv4_unicast_off = true,
            _ => {}
        }
    }
}

/// FRR prints the default instance without `vrf default`, and the reload of 8.4.4 takes the two spellings for two
/// instances: it ends with status 1 and systemd stops FRR. So the text is written as FRR prints it.
fn frr_spelling(line: &str) -> std::borrow::Cow<'_, str> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["router", "bgp", asn, "vrf", "default"] => {
            let end = line.strip_suffix('\n').map_or("", |rest| if rest.ends_with('\r') { "\r\n" } else { "\n" });
            format!("router bgp {asn}{end}").into()
        }
        _ => line.into(),
    }
}

/// The section hint that makes up a line; `None` where there is none. Inline hints are checked on the way.
fn section_hint(line: &str, number: usize) -> Result<Option<Hint>, TemplateError> {
    let mut rest = line;
    while let Some((_, behind)) = rest.split_once("{{.") {
        let name_end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
        let (name, after) = behind.split_at(name_end);
        let Some(after) = after.strip_prefix("}}") else {
            return Err(TemplateError::Unknown { name: name.to_owned(), line: number });
        };
        if let Some(hint) = Hint::ALL.into_iter().find(|hint| hint.name() == name) {
            let alone = line.trim().strip_prefix("#++").unwrap_or(line.trim()) == hint.to_string();
            return if alone { Ok(Some(hint)) } else { Err(TemplateError::NotAlone { hint, line: number }) };
        }
        if !matches!(name, "Hostname" | "UnderlayRouterID") {
            return Err(TemplateError::Unknown { name: name.to_owned(), line: number });
        }
        rest = after;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "hostname {{.Hostname}}\n#++{{.VRFs}}\nrouter bgp 64510 vrf default\n bgp router-id 198.51.100.1\n{{.Neighbors}}\n !\n address-family ipv4 unicast\n#++{{.NeighborsV4}}\n exit-address-family\n address-family ipv6 unicast\n#++{{.NeighborsV6}}\n exit-address-family\nexit\n  #++{{.BGP}}\n#++{{.PrefixLists}}\n#++{{.RouteMaps}}\n";

    #[test]
    fn a_good_template_tells_what_its_default_instance_says() {
        let template = Template::parse(GOOD).unwrap();
        assert_eq!(template.default_asn().map(Asn::get), Some(64510));
        let id = template.default_router_id(Ipv4Addr::new(192, 0, 2, 129));
        assert_eq!(id, Some((4, Ipv4Addr::new(198, 51, 100, 1))));
        assert!(!template.ipv4_unicast_off());
        assert!(Hint::ALL.into_iter().all(|hint| template.has(hint)));
    }

    #[test]
    fn a_missing_hint_is_named_with_its_place() {
        for hint in Hint::ALL {
            let text: String = GOOD.split_inclusive('\n').filter(|line| !line.contains(&hint.to_string())).collect();
            if hint == Hint::NeighborsV6 {
                assert!(Template::parse(&text).is_ok());
                continue;
            }
            let error = Template::parse(&text).unwrap_err();
            assert_eq!(error, TemplateError::Missing { hint });
            assert!(error.to_string().contains(hint.place()), "{error}");
        }
    }

    #[test]
    fn a_repeated_hint_is_named_with_both_lines() {
        let text = format!("{GOOD}#++{{{{.RouteMaps}}}}\n");
        let expected = TemplateError::Repeated { hint: Hint::RouteMaps, line: 17, first: 16 };
        assert_eq!(Template::parse(&text).unwrap_err(), expected);
    }

    #[test]
    fn an_unknown_hint_is_named_with_its_line() {
        for unknown in ["#++{{.RouteMap}}\n", "log file {{.Foo}}\n", "{{.}}\n", "x {{.Hostname y\n"] {
            let error = Template::parse(&format!("{GOOD}{unknown}")).unwrap_err();
            assert!(matches!(error, TemplateError::Unknown { line: 17, .. }), "{unknown}: {error}");
        }
    }

    #[test]
    fn a_hint_in_the_wrong_block_says_where_it_belongs() {
        let swapped = GOOD.replace("{{.NeighborsV4}}", "{{.x}}").replace("{{.Neighbors}}", "{{.NeighborsV4}}");
        let text = swapped.replace("{{.x}}", "{{.Neighbors}}");
        let error = Template::parse(&text).unwrap_err();
        assert!(matches!(error, TemplateError::Misplaced { hint: Hint::NeighborsV4, line: 5, .. }), "{error}");
        let other = GOOD.replace("router bgp 64510 vrf default", "router bgp 64510 vrf Vrf_x");
        assert!(matches!(Template::parse(&other), Err(TemplateError::Misplaced { hint: Hint::Neighbors, .. })));
    }

    /// vtysh reads a file in order at boot: what follows a top-level section is at top level too, and filters of a
    /// neighbor that comes later are refused.
    #[test]
    fn a_hint_that_would_tear_the_default_instance_apart_is_misplaced() {
        let text = GOOD.replace("#++{{.VRFs}}\n", "").replace("{{.Neighbors}}\n", "#++{{.VRFs}}\n{{.Neighbors}}\n");
        let found = Template::parse(&text).unwrap_err();
        assert!(matches!(found, TemplateError::Misplaced { hint: Hint::Neighbors, .. }), "{found}");
        let text = GOOD.replace("{{.Neighbors}}\n", "").replace(
            "#++{{.NeighborsV4}}\n exit-address-family\n",
            "#++{{.NeighborsV4}}\n exit-address-family\n{{.Neighbors}}\n",
        );
        let found = Template::parse(&text).unwrap_err();
        assert!(found.to_string().contains("behind an address family"), "{found}");
    }

    #[test]
    fn a_section_hint_must_stand_alone() {
        let text = GOOD.replace("#++{{.BGP}}", "!x {{.BGP}}");
        assert!(matches!(Template::parse(&text), Err(TemplateError::NotAlone { hint: Hint::Bgp, line: 14 })));
    }
}
