//! The router's program and maps in the kernel: loaded, and found again after a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::{ProgramFd, SchedClassifier, SkLookup};
use aya::{Ebpf, EbpfLoader};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Port;
use super::counters::{Counter, OUTCOMES};
use super::pins::{Pins, remove};
use crate::trigger::with_causes;

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/router.bpf.o"));

/// Names within the object, and of the pins.
pub(super) const PROGRAM: &str = "router";
const PORTS: &str = "ports";
const COUNTERS: &str = "counters";
/// `PORT_IN_VRF` of router.bpf.c; what stands beside it is ours alone.
const IN_VRF: u32 = 1;
const OWN_QDISC: u32 = 2;

const OPEN_MAP: &str = "open a pinned map; one of another kind goes with its pin";

/// Why the program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No bpffs.
    #[error("{path} is not on a bpffs: mount one (mount -t bpf bpf /sys/fs/bpf), in a container the host's")]
    NoBpffs {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The kernel, or what is pinned, refuses.
    #[error("{step}: {cause}")]
    Refused {
        /// What was done.
        step: &'static str,
        /// The kernel's words.
        cause: String,
    },
    /// A pin cannot be made, moved or removed.
    #[error("{step} {path}")]
    Pin {
        /// What was done.
        step: &'static str,
        /// Which pin.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

pub(super) type Result<T> = std::result::Result<T, ProgramError>;

fn refused<E: std::error::Error + 'static>(step: &'static str) -> impl FnOnce(E) -> ProgramError {
    move |error| ProgramError::Refused { step, cause: shortened(&with_causes(&error)) }
}

/// The verifier tells of each instruction; what it does not like stands at the end.
fn shortened(words: &str) -> String {
    const HEAD: usize = 200;
    const TAIL: usize = 400;
    let count = words.chars().count();
    if count <= HEAD + TAIL {
        return words.to_owned();
    }
    let head: String = words.chars().take(HEAD).collect();
    let tail: String = words.chars().skip(count - TAIL).collect();
    format!("{head} … {tail}")
}

type Ports = HashMap<MapData, u32, [u32; 2]>;

/// The program of this build, loaded, with its maps.
pub struct Router {
    /// A program's kind is not asked for when its pin is opened, and aya opens pins of some kinds only.
    program: SkLookup,
    ports: Ports,
    counters: PerCpuArray<MapData, [u64; 2]>,
}

fn open_ports(pins: &Pins) -> Result<Ports> {
    let map = MapData::from_pin(pins.map(PORTS)).map_err(refused(OPEN_MAP))?;
    HashMap::try_from(Map::HashMap(map)).map_err(refused(OPEN_MAP))
}

fn read_ports(ports: &Ports) -> Result<BTreeMap<u32, Port>> {
    let entries = ports.iter().map(|entry| {
        let (index, [looks_from, flags]) = entry?;
        Ok((index, Port { looks_from, in_vrf: flags & IN_VRF != 0, own_qdisc: flags & OWN_QDISC != 0 }))
    });
    let entries: std::result::Result<_, aya::maps::MapError> = entries.collect();
    entries.map_err(refused("read the eBPF router's ports"))
}

impl Router {
    /// Finds what is pinned; `None` where this build's program is not, or its maps are not.
    ///
    /// # Errors
    /// The kernel refuses a pin that is there.
    pub fn find(pins: &Pins) -> Result<Option<Self>> {
        if !pins.program().exists() || ![PORTS, COUNTERS].iter().all(|name| pins.map(name).exists()) {
            return Ok(None);
        }
        // By their pins: to ask for them by number takes CAP_SYS_ADMIN.
        let counters = MapData::from_pin(pins.map(COUNTERS)).map_err(refused(OPEN_MAP))?;
        Ok(Some(Self {
            program: SkLookup::from_pin(pins.program()).map_err(refused("open the pinned eBPF router"))?,
            ports: open_ports(pins)?,
            counters: PerCpuArray::try_from(Map::PerCpuArray(counters)).map_err(refused(OPEN_MAP))?,
        }))
    }

    /// What programs know of interfaces, by index, of whatever build they are; nothing where nothing is pinned.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn ports(pins: &Pins) -> Result<BTreeMap<u32, Port>> {
        if pins.map(PORTS).exists() { read_ports(&open_ports(pins)?) } else { Ok(BTreeMap::new()) }
    }

    /// Loads the program and pins it. Maps that are pinned already are gone on with, so that counters and ports stay.
    ///
    /// # Errors
    /// No bpffs, no permission, a kernel before 5.15, or a pin of another kind in the way.
    pub fn load(pins: &Pins) -> Result<Self> {
        if let Some(router) = Self::find(pins)? {
            return Ok(router);
        }
        let folder = pins.folder();
        if !statfs(folder.parent().unwrap_or(folder)).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
            return Err(ProgramError::NoBpffs { path: folder.to_owned() });
        }
        std::fs::create_dir_all(folder).map_err(|source| ProgramError::Pin {
            step: "make",
            path: folder.to_owned(),
            source,
        })?;
        // The program is pinned last and unpinned first, so that one that is there goes with the maps that are.
        if pins.program().exists() {
            remove(pins.program())?;
        }
        let mut object = EbpfLoader::new()
            .default_map_pin_directory(folder)
            .load(OBJECT)
            .map_err(refused("make the eBPF router's maps"))?;
        let program = program(&mut object)?;
        program
            .load()
            .map_err(refused("load the eBPF router (Linux 5.15 or later, CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)"))?;
        program.pin(pins.program()).map_err(refused("pin the eBPF router"))?;
        let missing = || ProgramError::Refused { step: "pin the eBPF router", cause: "a pin is not there".to_owned() };
        Self::find(pins)?.ok_or_else(missing)
    }

    /// The number that the kernel has given the program.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn id(&self) -> Result<u32> {
        Ok(self.program.info().map_err(refused("ask for the eBPF router"))?.id())
    }

    /// The program, to be attached.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn fd(&self) -> Result<&ProgramFd> {
        self.program.fd().map_err(refused("attach the eBPF router"))
    }

    /// Tells the program of an interface.
    ///
    /// # Errors
    /// The map cannot be written: it has room for 4,096.
    pub fn set_port(&mut self, index: u32, port: Port) -> Result<()> {
        let Port { looks_from, in_vrf, own_qdisc } = port;
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let value = [looks_from, flag(in_vrf, IN_VRF) | flag(own_qdisc, OWN_QDISC)];
        self.ports.insert(index, value, 0).map_err(refused("tell the eBPF router of a port"))
    }

    /// Has the program forget an interface.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn forget_port(&mut self, index: u32) -> Result<()> {
        match self.ports.remove(&index) {
            Err(error) if !matches!(error, aya::maps::MapError::KeyNotFound) => {
                Err(refused("have the eBPF router forget a port")(error))
            }
            _ => Ok(()),
        }
    }

    /// What became of packets until now, on all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<Vec<Counter>> {
        let mut counters = Vec::new();
        for index in 0..OUTCOMES {
            let values = self.counters.get(&index, 0).map_err(refused("read the eBPF router's counters"))?;
            let (packets, bytes) = values.iter().fold((0, 0), |(packets, bytes), [p, b]| (packets + p, bytes + b));
            counters.extend(Counter::new(index, packets, bytes));
        }
        Ok(counters)
    }
}

fn program(object: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let missing =
        || ProgramError::Refused { step: "read the eBPF object", cause: "the program is not there".to_owned() };
    let program = object.program_mut(PROGRAM).ok_or_else(missing)?;
    program.try_into().map_err(refused("read the eBPF object"))
}
