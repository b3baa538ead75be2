//! The router on this node: program, filters and nftables table behind the plan.

use std::collections::BTreeSet;

use rtnetlink::Handle;

use super::filters::{self, FilterError, Place};
use super::pins::Pins;
use super::program::{ProgramError, Router};
use super::{ObservedRouter, Port, RouterOp};
use crate::link::netlink::Netlink;
use crate::notrack::NotrackError;
use crate::notrack::netfilter::Netfilter;

/// Why the router is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// Its program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its filters.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The nftables table.
    #[error(transparent)]
    Notrack(#[from] NotrackError),
    /// The program is gone since the plan was made.
    #[error("{op}: the eBPF router is not pinned any more; the next run plans anew")]
    NotLoaded {
        /// The operation.
        op: Box<RouterOp>,
    },
}

/// The adapter.
#[derive(Debug)]
pub struct HostRouter {
    handle: Handle,
    pins: Pins,
    netfilter: Netfilter,
}

impl HostRouter {
    /// An adapter with these pins.
    ///
    /// # Errors
    /// No socket for nftables.
    pub fn new(netlink: &Netlink, pins: Pins) -> Result<Self, RouterError> {
        Ok(Self { handle: netlink.handle().clone(), pins, netfilter: Netfilter::connect()? })
    }

    /// Looks. Changes nothing. Where it is known how it was, and the program is the same, filters and ports are not listed: each
    /// takes two system calls or more for every link.
    ///
    /// # Errors
    /// Pins, filters or the table cannot be read.
    pub async fn observe(&self, known: Option<ObservedRouter>) -> Result<ObservedRouter, RouterError> {
        let program = Router::find(&self.pins)?.map(|router| router.id()).transpose()?;
        let (links, ports) = match known.filter(|known| known.program == program) {
            Some(known) => (known.links, known.ports),
            None => (filters::observe(&self.handle).await?, Router::ports(&self.pins)?),
        };
        let (pinned, older) = (self.pins.any(), self.pins.has_older()?);
        Ok(ObservedRouter { program, pinned, older, links, ports, notrack: self.netfilter.observe().await? })
    }

    /// Carries out operations in order. Where one fails, the others of its link are left out, and all that need the program
    /// where that cannot be loaded: one link's trouble is not another's. Gives what was done, and what failed.
    pub async fn apply<'a>(&self, ops: &'a [RouterOp]) -> (Vec<&'a RouterOp>, Vec<RouterError>) {
        let (mut failed, mut done, mut errors) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut router = None;
        let mut loaded = true;
        if !ops.is_empty() {
            match Router::find(&self.pins) {
                Ok(found) => router = found,
                Err(error) => errors.push(error.into()),
            }
        }
        for op in ops {
            let needs_it = matches!(op, RouterOp::SetPort { .. } | RouterOp::Attach { .. } | RouterOp::Replace { .. });
            if op.link().is_some_and(|link| failed.contains(link)) || (needs_it && !loaded) {
                continue;
            }
            match self.carry_out(op, &mut router).await {
                Ok(()) => done.push(op),
                Err(error) => {
                    loaded &= *op != RouterOp::Load;
                    failed.extend(op.link());
                    errors.push(error);
                }
            }
        }
        (done, errors)
    }

    async fn carry_out(&self, op: &RouterOp, router: &mut Option<Router>) -> Result<(), RouterError> {
        let handle = &self.handle;
        let not_loaded = || RouterError::NotLoaded { op: Box::new(op.clone()) };
        match op {
            RouterOp::Load => *router = Some(Router::load(&self.pins)?),
            RouterOp::AddQdisc { link } => filters::add_qdisc(handle, link).await?,
            RouterOp::SetPort { link, looks_from, in_vrf, own_qdisc } => {
                let index = |link| filters::index("route from", link);
                let (index, looks_from) = (index(link)?, index(looks_from)?);
                let port = Port { looks_from, in_vrf: *in_vrf, own_qdisc: *own_qdisc };
                router.as_mut().ok_or_else(not_loaded)?.set_port(index, port)?;
            }
            RouterOp::Attach { link } => {
                let program = router.as_ref().ok_or_else(not_loaded)?.fd()?;
                filters::attach(handle, link, Place::New, program).await?;
            }
            RouterOp::Replace { link, priority, handle: number } => {
                let program = router.as_ref().ok_or_else(not_loaded)?.fd()?;
                let place = Place::Instead { priority: *priority, handle: *number };
                filters::attach(handle, link, place, program).await?;
            }
            RouterOp::Detach { link, priority, handle: number } => {
                filters::detach(handle, link, *priority, *number).await?;
            }
            RouterOp::RemoveQdisc { link } => filters::remove_qdisc(handle, link).await?,
            RouterOp::ForgetPort { index } => {
                router.as_mut().ok_or_else(not_loaded)?.forget_port(*index)?;
            }
            RouterOp::WriteNotrack { notrack } => self.netfilter.write(notrack).await?,
            RouterOp::RemoveNotrack => self.netfilter.remove().await?,
            RouterOp::UnpinOlder => self.pins.remove_older()?,
            RouterOp::Unpin => self.pins.remove()?,
        }
        Ok(())
    }
}
