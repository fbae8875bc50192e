//! Messages between node agent and VMM, version 1. Unknown fields are ignored, so that either side may be newer.
use crate::config::{MountPoint, Program};
use crate::error::Error;
use crate::guest::Watcher;
use crate::machine::{Restoration, Specification};
use crate::memory::SparePages;
use crate::regions::{RegionFds, RegionKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

const VERSION: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromAgent {
    Boot(Box<Boot>),
    /// Instead of `boot`: go on from a snapshot.
    Restore(Box<Restore>),
    /// Ends the guest now.
    Stop,
    /// A signal for the guest's first program.
    Signal {
        number: i32,
    },
    Stats,
    /// Show the guest, which runs, the read-only data in the descriptor that came with it: a file of `size` bytes.
    Blob {
        size: u64,
    },
    /// Put a restored guest back to its snapshot; the descriptor that came with it takes the place of socket channel `channel`.
    Reset {
        channel: usize,
        /// A second descriptor came: its accelerator sessions are served anew, by whoever hangs up with it.
        #[serde(default)]
        sessions: bool,
    },
    /// Give memory back that holds nothing.
    Trim,
    /// Save the guest into the last descriptor that came, a memory file as long as the snapshot; with `stop`, end it then.
    Snapshot {
        #[serde(default)]
        stop: bool,
        /// Its accelerator session is saved as well, by whoever asks: without that, a guest that has one is not saved.
        #[serde(default)]
        accelerator: bool,
    },
}

/// What to run. Numbers named `fd`, `memory` and so on are indices into the descriptors that came with the message.
#[derive(Debug, Deserialize)]
pub struct Boot {
    pub version: u32,
    pub memory_mib: u64,
    pub vcpus: usize,
    pub layers: Vec<LayerIndex>,
    pub channels: BTreeMap<String, usize>,
    #[serde(default)]
    pub regions: Vec<RegionIndices>,
    #[serde(default)]
    pub mounts: Vec<MountMessage>,
    #[serde(default)]
    pub volumes: Vec<VolumeIndex>,
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub hostname: String,
    #[serde(default)]
    pub strace: bool,
}

/// What to go on from, and what the guest is bound to: as in [`Boot`].
#[derive(Debug, Deserialize)]
pub struct Restore {
    pub version: u32,
    pub snapshot: usize,
    /// `reset` may follow.
    #[serde(default)]
    pub resettable: bool,
    pub layers: Vec<LayerIndex>,
    pub channels: BTreeMap<String, usize>,
    #[serde(default)]
    pub regions: Vec<RegionIndices>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LayerIndex {
    pub fd: usize,
    /// Bytes of the image.
    pub size: u64,
}

/// A layer that appears at a place of its own.
#[derive(Clone, Debug, Deserialize)]
pub struct VolumeIndex {
    #[serde(flatten)]
    pub layer: LayerIndex,
    pub path: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct RegionIndices {
    pub kind: RegionKind,
    pub memory: usize,
    pub doorbell: usize,
    pub wake: usize,
    /// Hangs up when the companion dies.
    #[serde(default)]
    pub alive: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct MountMessage {
    pub region: u32,
    pub root: u32,
    pub path: String,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ToAgent {
    /// The library OS is up. Milliseconds since this process began.
    Started {
        libos_ms: f64,
        phases_us: BTreeMap<&'static str, u64>,
    },
    Console {
        text: String,
    },
    Stats {
        peak_memory_mib: f64,
        idle_ns: u64,
    },
    /// The guest has been saved.
    Snapshot {
        pages: u64,
    },
    /// The blob lies at `offset` of the guest's `/dev/kasoku/blobs`.
    Blob {
        offset: u64,
    },
    /// The guest has been put back.
    Reset {
        us: u64,
        copied: u64,
        dropped: u64,
    },
    /// It has given memory back.
    Trimmed {
        us: u64,
        bytes: u64,
        /// Why it has not, if so.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It could not be saved, and goes on.
    Unsaved {
        reason: String,
    },
    /// Wait status of the program.
    Exited {
        status: u32,
        peak_memory_mib: f64,
    },
    Fault {
        kind: FaultKind,
        message: String,
        report: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The guest's own doing.
    Guest,
    /// The VMM or its platform.
    Vmm,
    /// It never started.
    Boot,
    /// The snapshot cannot be used: make another.
    Snapshot,
}

/// What every guest is bound to, made of a message's indices.
struct Bindings {
    layers: Vec<(OwnedFd, u64)>,
    channels: Vec<(usize, OwnedFd)>,
    regions: Vec<RegionFds>,
}

/// A descriptor may be named twice (standard output that is standard error too), so each part gets a copy.
fn descriptor(descriptors: &[OwnedFd], what: &str, index: usize) -> Result<OwnedFd, Error> {
    let fd = descriptors
        .get(index)
        .ok_or_else(|| Error::Request(format!("{what} names descriptor {index} of {}", descriptors.len())))?;
    fd.try_clone().map_err(|e| Error::Request(format!("{what}: {e}")))
}

fn check_version(version: u32) -> Result<(), Error> {
    if version == VERSION {
        return Ok(());
    }
    Err(Error::Request(format!("the agent speaks version {version} of the protocol, this VMM {VERSION}")))
}

impl Bindings {
    fn new(
        descriptors: &[OwnedFd],
        layers: &[LayerIndex],
        channels: &BTreeMap<String, usize>,
        regions: &[RegionIndices],
    ) -> Result<Self, Error> {
        let descriptor = |what: &str, index| descriptor(descriptors, what, index);
        let layers = layers.iter().map(|layer| Ok((descriptor("a layer", layer.fd)?, layer.size)));
        let channels = channels.iter().map(|(number, &index)| {
            let bad = |_| Error::Request(format!("{number:?} is not a channel number"));
            Ok((number.parse().map_err(bad)?, descriptor("a channel", index)?))
        });
        let regions = regions.iter().map(|region| {
            Ok(RegionFds {
                kind: region.kind,
                memory: descriptor("a region's memory", region.memory)?,
                doorbell: descriptor("a region's doorbell", region.doorbell)?,
                wake: descriptor("a region's wake-up", region.wake)?,
                alive: region.alive.map(|index| descriptor("a region's companion", index)).transpose()?,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_, Error>>()?,
            channels: channels.collect::<Result<_, Error>>()?,
            regions: regions.collect::<Result<_, Error>>()?,
        })
    }
}

impl Boot {
    /// Checks the message and gives each of its parts the descriptor that it names.
    pub fn into_specification(
        self,
        descriptors: Vec<OwnedFd>,
        libos: File,
        watcher: Box<dyn Watcher>,
    ) -> Result<Specification, Error> {
        check_version(self.version)?;
        let mut parts = Bindings::new(&descriptors, &self.layers, &self.channels, &self.regions)?;
        let root_layers = parts.layers.len() as u32;
        for VolumeIndex { layer, .. } in &self.volumes {
            parts.layers.push((descriptor(&descriptors, "a volume", layer.fd)?, layer.size));
        }
        for mount in &self.mounts {
            let region = usize::try_from(mount.region).ok().and_then(|index| self.regions.get(index));
            if region.is_none_or(|region| region.kind != RegionKind::Fs) {
                return Err(Error::Request(format!("mount {:?} names no file-system region", mount.path)));
            }
        }
        let program = Program {
            args: self.args.into_iter().map(String::into_bytes).collect(),
            env: self.env.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect(),
            cwd: self.cwd,
            hostname: self.hostname,
            mounts: self.mounts.into_iter().map(MountPoint::from).collect(),
            root_layers,
            volumes: self.volumes.into_iter().map(|volume| volume.path).collect(),
            strace: self.strace,
            stats: false,
            credentials: (0, 0),
        };
        Ok(Specification {
            memory_mib: self.memory_mib,
            cpus: self.vcpus,
            libos,
            layers: parts.layers,
            channels: parts.channels,
            regions: parts.regions,
            program,
            watcher,
        })
    }
}

impl Restore {
    /// Checks the message and gives each of its parts the descriptor that it names.
    pub fn into_restoration(
        self,
        descriptors: Vec<OwnedFd>,
        libos: File,
        watcher: Box<dyn Watcher>,
        spare: SparePages,
    ) -> Result<Restoration, Error> {
        check_version(self.version)?;
        let parts = Bindings::new(&descriptors, &self.layers, &self.channels, &self.regions)?;
        Ok(Restoration {
            snapshot: descriptor(&descriptors, "the snapshot", self.snapshot)?,
            resettable: self.resettable,
            libos,
            layers: parts.layers,
            channels: parts.channels,
            regions: parts.regions,
            watcher,
            spare,
        })
    }
}

impl From<MountMessage> for MountPoint {
    fn from(mount: MountMessage) -> Self {
        Self { region: mount.region, root: mount.root, path: mount.path, read_only: mount.read_only }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use serde_json::{Value, json};

    struct Nobody;

    impl Watcher for Nobody {
        fn console(&self, _: &str) {}
        fn started(&self) {}
        fn ended(&self, _: Outcome) {}
    }

    fn good() -> Value {
        json!({
            "type": "boot", "version": 1, "memory_mib": 64, "vcpus": 1,
            "layers": [{"fd": 0, "size": 4096}], "channels": {"0": 1, "1": 1, "3": 2},
            "regions": [{"kind": "fs", "memory": 0, "doorbell": 1, "wake": 2}],
            "mounts": [{"region": 0, "root": 0, "path": "/x", "read_only": true}],
            "volumes": [{"fd": 1, "size": 8192, "path": "/models"}],
            "args": ["/bin/true"], "env": [["A", "b"]], "cwd": "/", "hostname": "h", "strace": false
        })
    }

    fn boot(message: &Value) -> Result<Specification, Error> {
        let bytes = rmp_serde::to_vec_named(message).unwrap();
        let FromAgent::Boot(boot) = rmp_serde::from_slice(&bytes).unwrap() else { panic!("not boot") };
        let file = || File::open("/dev/null").unwrap();
        boot.into_specification((0..3).map(|_| file().into()).collect(), file(), Box::new(Nobody))
    }

    #[test]
    fn a_boot_message_becomes_a_specification() {
        let spec = boot(&good()).unwrap();
        assert_eq!(spec.channels.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!((spec.layers[0].1, spec.regions.len(), spec.program.root_layers), (4096, 1, 1));
        assert_eq!((spec.layers[1].1, spec.program.volumes), (8192, vec!["/models".to_owned()]));
    }

    #[test]
    fn wrong_indices_versions_and_numbers_are_refused() {
        for (pointer, value) in [
            ("/version", json!(2)),
            ("/layers/0/fd", json!(3)),
            ("/volumes/0/fd", json!(3)),
            ("/layers/0/fd", json!(u64::MAX)),
            ("/channels", json!({"0": 3})),
            ("/channels", json!({"-1": 0})),
            ("/channels", json!({"x": 0})),
            ("/regions/0/memory", json!(9)),
            ("/regions/0/wake", json!(9)),
            ("/mounts/0/region", json!(1)),
            ("/regions/0/kind", json!("accel")),
        ] {
            let mut message = good();
            *message.pointer_mut(pointer).unwrap() = value.clone();
            assert!(boot(&message).is_err(), "{pointer} = {value}");
        }
    }

    #[test]
    fn answers_have_the_agreed_form() {
        let value =
            |message: &ToAgent| -> Value { rmp_serde::from_slice(&rmp_serde::to_vec_named(message).unwrap()).unwrap() };
        assert_eq!(
            value(&ToAgent::Fault { kind: FaultKind::Guest, message: "m".into(), report: "r".into() }),
            json!({"type": "fault", "kind": "guest", "message": "m", "report": "r"})
        );
        assert_eq!(
            value(&ToAgent::Exited { status: 256, peak_memory_mib: 1.5 }),
            json!({"type": "exited", "status": 256, "peak_memory_mib": 1.5})
        );
    }
}
