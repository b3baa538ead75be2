//! The links as they are when the link plan has been carried out.

use std::collections::BTreeMap;

use crate::link::{Kind, LinkOp, LinkPlan, ObservedLinks};

/// One link, as far as the router looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// `None` of one that is to be made.
    pub(super) index: Option<u32>,
    /// Name of the VRF or bridge above.
    pub(super) master: Option<String>,
    pub(super) shape: Shape,
}

/// What a link is to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Vrf,
    Bridge,
    /// Anything else whose frames have an Ethernet header.
    Ethernet,
    /// One without.
    Bare,
}

/// All links, by name.
pub(super) struct Outlook(BTreeMap<String, Expected>);

impl Outlook {
    pub(super) fn new(seen: &ObservedLinks, plan: &LinkPlan) -> Self {
        let names: BTreeMap<u32, &str> = seen.iter().map(|link| (link.index, link.name.as_str())).collect();
        let expected = seen.iter().map(|link| {
            let shape = match link.kind {
                Kind::Vrf { .. } => Shape::Vrf,
                Kind::Bridge => Shape::Bridge,
                _ if link.mac.is_some() => Shape::Ethernet,
                _ => Shape::Bare,
            };
            let master = link.master.and_then(|master| names.get(&master)).map(|name| (*name).to_owned());
            (link.name.clone(), Expected { index: Some(link.index), master, shape })
        });
        let mut outlook = Self(expected.collect());
        plan.ops().for_each(|op| outlook.apply(op, seen));
        outlook
    }

    fn apply(&mut self, op: &LinkOp, seen: &ObservedLinks) {
        match op {
            LinkOp::CreateVrf { name, table: _ } => self.create(name.as_str(), None, Shape::Vrf),
            LinkOp::CreateBridge { name, master, .. } => {
                self.create(name.as_str(), Some(master.as_str()), Shape::Bridge)
            }
            LinkOp::CreateVxlan { name, master, .. } => {
                self.create(name.as_str(), Some(master.as_str()), Shape::Ethernet)
            }
            LinkOp::CreateVeth { name, peer, master, .. } => {
                self.create(name.as_str(), Some(master.as_str()), Shape::Ethernet);
                self.create(peer.as_str(), None, Shape::Ethernet);
            }
            LinkOp::Change { name, change } => {
                let Some(link) = self.0.get_mut(name.as_str()) else { return };
                if change.no_master {
                    link.master = None;
                } else if let Some(master) = &change.master {
                    link.master = Some(master.to_string());
                }
            }
            LinkOp::Delete { name } => self.delete(name.as_str(), seen),
            LinkOp::SetUp { .. } | LinkOp::SetDown { .. } => {}
        }
    }

    fn create(&mut self, name: &str, master: Option<&str>, shape: Shape) {
        let link = Expected { index: None, master: master.map(str::to_owned), shape };
        self.0.insert(name.to_owned(), link);
    }

    /// Of a veth pair both ends go. Ports of what goes have no master any more.
    fn delete(&mut self, name: &str, seen: &ObservedLinks) {
        let gone = self.0.remove(name);
        for link in self.0.values_mut().filter(|link| link.master.as_deref() == Some(name)) {
            link.master = None;
        }
        if let Some(index) = gone.and_then(|link| link.index) {
            // Each names the other: the index of a peer in another network namespace may be that of any link here.
            let end = seen.iter().find(|link| link.index == index).map(|link| &link.kind);
            let back = |other: u32| end == Some(&Kind::Veth { peer: Some(other) });
            let peer = seen.iter().find(|link| link.kind == Kind::Veth { peer: Some(index) } && back(link.index));
            if let Some(peer) =
                peer.filter(|peer| self.get(&peer.name).is_some_and(|link| link.index == Some(peer.index)))
            {
                self.0.remove(&peer.name);
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Expected> {
        self.0.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Expected)> {
        self.0.iter().map(|(name, link)| (name.as_str(), link))
    }

    /// Where packets of a link are looked at from: a bridge's ports stand for the bridge. And whether that is in a VRF.
    pub(super) fn looks_from<'a>(&'a self, name: &'a str) -> (&'a str, bool) {
        let master = |name: &str| {
            let master = self.get(name)?.master.as_deref()?;
            Some((master, self.get(master)?.shape))
        };
        let base = match master(name) {
            Some((bridge, Shape::Bridge)) => bridge,
            _ => name,
        };
        (base, matches!(master(base), Some((_, Shape::Vrf))))
    }
}
