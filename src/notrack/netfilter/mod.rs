//! The adapter between our table and nf_tables.

mod connection;

use std::time::Duration;

use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage, NfTablesMessage};
use rtnetlink::packet_core::NLM_F_DUMP;
use tokio::time::Instant;

use super::message::{CHAINS, removal, table, the_elements, the_set, the_table};
use super::recognise::recognise;
use super::{Notrack, NotrackError, ObservedNotrack};
use connection::{Answer, Connection, READ};

/// How often it is read where the ruleset changes meanwhile.
const ATTEMPTS: usize = 20;
/// For how long a table must look like none of ours to be none. While a ruleset is put in the place of another one of the same number
/// already, the kernel looks for rules in the table of that name which it finds first, and that is the one that goes: it lists none
/// (`nf_tables_commit`, `nf_tables_dump_rules`; the writer may have lost its core there).
const SETTLES: Duration = Duration::from_millis(200);
/// Until it is read again: the kernel tells of a commit only once it is over, and of none that was missed.
const AGAIN: Duration = Duration::from_millis(20);

/// nf_tables of the agent's network namespace.
#[derive(Debug)]
pub struct Netfilter(());

impl Netfilter {
    /// Makes sure that a socket can be had, within a tokio runtime. Each request has one of its own, so that none hears
    /// answers to another.
    ///
    /// # Errors
    /// No socket of family AF_NETLINK can be had.
    pub fn connect() -> Result<Self, NotrackError> {
        match Connection::open() {
            Err(NotrackError::NoNfTables { .. }) | Ok(_) => Ok(Self(())),
            Err(error) => Err(error),
        }
    }

    /// Reads our table, and nothing of others.
    ///
    /// # Errors
    /// It cannot be read, or the ruleset changes again and again.
    pub async fn observe(&self) -> Result<ObservedNotrack, NotrackError> {
        match observe().await {
            Err(NotrackError::NoNfTables { .. }) => Ok(ObservedNotrack::Absent),
            other => other,
        }
    }

    /// Puts a table that says this in the place of ours: at once, so that no packet finds it half there.
    ///
    /// # Errors
    /// The kernel refuses it; nothing was changed then.
    pub async fn write(&self, want: &Notrack) -> Result<(), NotrackError> {
        let messages = removal().into_iter().chain(table(want)).collect();
        Connection::open()?.change(messages).await
    }

    /// Takes our table away, if it is there.
    ///
    /// # Errors
    /// The kernel refuses it; nothing was changed then.
    pub async fn remove(&self) -> Result<(), NotrackError> {
        let removed = async { Connection::open()?.change(removal()).await };
        match removed.await {
            Err(NotrackError::NoNfTables { .. }) => Ok(()),
            other => other,
        }
    }
}

async fn observe() -> Result<ObservedNotrack, NotrackError> {
    let mut kernel = Connection::open()?;
    let mut altered: Option<(u32, Instant)> = None;
    for _ in 0..ATTEMPTS {
        let before = generation(&mut kernel).await?;
        let seen = our_table(&mut kernel).await?;
        // Parts of different rulesets are no table.
        if generation(&mut kernel).await? != before {
            continue;
        }
        match (seen, altered) {
            (Some(ObservedNotrack::Altered), Some((generation, since))) if generation == before => {
                if since.elapsed() >= SETTLES {
                    return Ok(ObservedNotrack::Altered);
                }
                tokio::time::sleep(AGAIN).await;
            }
            (Some(ObservedNotrack::Altered), _) => altered = Some((before, Instant::now())),
            (Some(seen), _) => return Ok(seen),
            (None, _) => {}
        }
    }
    Err(NotrackError::Unstable(ATTEMPTS))
}

/// The number of the ruleset: it grows with every change.
async fn generation(kernel: &mut Connection) -> Result<u32, NotrackError> {
    let question = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
    let Answer::Messages(messages) = kernel.ask(question, 0).await? else {
        return Err(NotrackError::Answer { step: READ });
    };
    let generation = messages.iter().find_map(|message| match message {
        NfTablesMessage::NewGen(message) => message.attributes.iter().find_map(|attribute| match attribute {
            GenAttribute::Id(id) => Some(*id),
            _ => None,
        }),
        _ => None,
    });
    generation.ok_or(NotrackError::Answer { step: READ })
}

/// Reads the table part by part, as `table` writes it; `None` where it changed meanwhile.
///
/// Chains are asked for by name: `nf_tables_dump_chains` knows no table, and kube-proxy makes thousands. Dumps of
/// rules and elements are of one chain and one set (`nf_tables_dump_rules_start`, `nf_tables_getsetelem`).
async fn our_table(kernel: &mut Connection) -> Result<Option<ObservedNotrack>, NotrackError> {
    let mut questions = vec![
        (NfTablesMessage::GetTable(the_table()), 0),
        (NfTablesMessage::GetSet(the_set()), 0),
        (NfTablesMessage::GetSetElement(the_elements()), NLM_F_DUMP),
    ];
    for chain in &CHAINS {
        questions.push((NfTablesMessage::GetChain(chain.the_chain()), 0));
        questions.push((NfTablesMessage::GetRule(chain.its_rules()), NLM_F_DUMP));
    }
    let mut seen = Vec::new();
    for (question, flags) in questions {
        let of_table = matches!(question, NfTablesMessage::GetTable(_));
        match kernel.ask(question, flags).await? {
            Answer::Messages(messages) => seen.extend(messages),
            Answer::NotThere if of_table => return Ok(Some(ObservedNotrack::Absent)),
            Answer::NotThere | Answer::Unreadable => return Ok(Some(ObservedNotrack::Altered)),
            Answer::Interrupted => return Ok(None),
        }
    }
    Ok(Some(recognise(seen).map_or(ObservedNotrack::Altered, ObservedNotrack::Rules)))
}
