//! The router's program and maps in the kernel: loaded and pinned, found again after a restart.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::{ProgramFd, SchedClassifier, SkLookup};
use aya::{Ebpf, EbpfLoader};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use sha2::{Digest, Sha256};

use super::Port;
use super::counters::{Counter, OUTCOMES};

/// Where the kernel's bpffs has our pins.
pub const PINS: &str = "/sys/fs/bpf/network-operator";

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/router.bpf.o"));

/// Names within the object, and of the pins.
const PROGRAM: &str = "router";
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

type Result<T> = std::result::Result<T, ProgramError>;

fn refused<E: std::error::Error + 'static>(step: &'static str) -> impl FnOnce(E) -> ProgramError {
    move |error| {
        let words = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        let mut cause: Vec<String> = Vec::new();
        for word in words.map(ToString::to_string) {
            if cause.last().is_none_or(|last| !last.contains(&word)) {
                cause.push(word);
            }
        }
        ProgramError::Refused { step, cause: shortened(&cause.join(": ")) }
    }
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

/// The pins of the router.
#[derive(Debug, Clone)]
pub struct Pins {
    folder: PathBuf,
}

impl Default for Pins {
    fn default() -> Self {
        Self::new(PINS)
    }
}

impl Pins {
    /// Pins in a folder of a bpffs.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The program's pin carries what it was built from: another build is another program.
    fn program(&self) -> PathBuf {
        let hash: String = Sha256::digest(OBJECT).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{PROGRAM}-{hash}"))
    }

    fn names(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(ProgramError::Pin { step: "read", path: self.folder.clone(), source }),
        };
        Ok(entries.filter_map(std::result::Result::ok).map(|entry| entry.path()).collect())
    }

    /// Whether anything is pinned.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub fn any(&self) -> Result<bool> {
        Ok(self.folder.exists())
    }

    fn older(&self) -> Result<Vec<PathBuf>> {
        let program = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PROGRAM));
        let own = self.program();
        Ok(self.names()?.into_iter().filter(|path| program(path) && *path != own).collect())
    }

    /// Whether programs of other builds are pinned.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub fn has_older(&self) -> Result<bool> {
        Ok(!self.older()?.is_empty())
    }

    /// Removes the pins of other builds' programs. What filters hold stays loaded.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove_older(&self) -> Result<()> {
        self.older()?.iter().try_for_each(|path| remove(path))
    }

    /// Removes all pins.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.names()?.iter().try_for_each(|path| remove(path))?;
        match fs::remove_dir(&self.folder) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(ProgramError::Pin { step: "remove", path: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|source| ProgramError::Pin { step: "remove", path: path.to_owned(), source })
}

type Ports = HashMap<MapData, u32, [u32; 2]>;

/// The program of this build, loaded, with its maps.
pub struct Router {
    /// A program's kind is not asked for when its pin is opened, and aya opens pins of some kinds only.
    program: SkLookup,
    ports: Ports,
    counters: PerCpuArray<MapData, [u64; 2]>,
}

impl Pins {
    /// What programs know of interfaces, by index, of whatever build they are; nothing where nothing is pinned.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn ports(&self) -> Result<BTreeMap<u32, Port>> {
        let pin = self.folder.join(PORTS);
        if !pin.exists() {
            return Ok(BTreeMap::new());
        }
        let map = Map::HashMap(MapData::from_pin(pin).map_err(refused(OPEN_MAP))?);
        read_ports(&HashMap::try_from(map).map_err(refused(OPEN_MAP))?)
    }
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
        let maps = [PORTS, COUNTERS].map(|name| pins.folder.join(name));
        if !pins.program().exists() || !maps.iter().all(|map| map.exists()) {
            return Ok(None);
        }
        // By their pins: to ask for them by number takes CAP_SYS_ADMIN.
        let [ports, counters] = maps.map(|map| MapData::from_pin(map).map_err(refused(OPEN_MAP)));
        Ok(Some(Self {
            program: SkLookup::from_pin(pins.program()).map_err(refused("open the pinned eBPF router"))?,
            ports: HashMap::try_from(Map::HashMap(ports?)).map_err(refused(OPEN_MAP))?,
            counters: PerCpuArray::try_from(Map::PerCpuArray(counters?)).map_err(refused(OPEN_MAP))?,
        }))
    }

    /// Loads the program and pins it. Maps that are pinned already are gone on with, so that counters and ports stay.
    ///
    /// # Errors
    /// No bpffs, no permission, a kernel before 5.15, or a pin of another kind in the way.
    pub fn load(pins: &Pins) -> Result<Self> {
        if let Some(router) = Self::find(pins)? {
            return Ok(router);
        }
        let parent = pins.folder.parent().unwrap_or(&pins.folder);
        if !statfs(parent).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
            return Err(ProgramError::NoBpffs { path: pins.folder.clone() });
        }
        let pin = |step, path: &Path| {
            let path = path.to_owned();
            move |source| ProgramError::Pin { step, path, source }
        };
        fs::create_dir_all(&pins.folder).map_err(pin("make", &pins.folder))?;
        // The program is pinned last and unpinned first, so that one that is there goes with the maps that are.
        let place = pins.program();
        if place.exists() {
            remove(&place)?;
        }
        let mut object = EbpfLoader::new()
            .default_map_pin_directory(&pins.folder)
            .load(OBJECT)
            .map_err(refused("make the eBPF router's maps"))?;
        let program = program(&mut object)?;
        program.load().map_err(refused("load the eBPF router (Linux 5.15 or later, CAP_BPF and CAP_NET_ADMIN)"))?;
        program.pin(&place).map_err(refused("pin the eBPF router"))?;
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
