//! Image layers: read-only memory that all guests with the same image share on the host.
use crate::error::Error;
use crate::memory::Mapping;
use kasoku_abi::Gpa;
use kasoku_abi::boot::{Layer, MAX_LAYERS};
use kasoku_abi::layout::{LARGE_PAGE, LAYERS, REGIONS};
use rustix::fs::fstat;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Layers {
    entries: Vec<(Layer, Arc<Mapping>)>,
}

impl Layers {
    /// Maps each file. A file that is shorter than its stated length is a truncated image.
    pub fn new(files: Vec<(OwnedFd, u64)>) -> Result<Self, Error> {
        if files.len() > MAX_LAYERS {
            return Err(Error::Request(format!("an image has at most {MAX_LAYERS} layers, not {}", files.len())));
        }
        let mut entries = Vec::with_capacity(files.len());
        let mut gpa = LAYERS;
        for (index, (file, len)) in files.into_iter().enumerate() {
            let size = fstat(&file).map_err(|errno| Error::Layer { index, reason: errno.to_string() })?.st_size;
            if len == 0 || size as u64 != len {
                let reason = format!("its file has {size} bytes instead of {len}: rebuild the image");
                return Err(Error::Layer { index, reason });
            }
            if len > REGIONS - gpa {
                return Err(Error::Layer { index, reason: "it is larger than a guest can address".to_owned() });
            }
            let mapping = Mapping::read_only_file(file.as_fd(), len)?;
            entries.push((Layer { gpa: Gpa(gpa), len }, Arc::new(mapping)));
            gpa += len.next_multiple_of(LARGE_PAGE);
        }
        Ok(Self { entries })
    }

    pub fn infos(&self) -> Vec<Layer> {
        self.entries.iter().map(|(layer, _)| *layer).collect()
    }

    pub fn slots(&self) -> impl Iterator<Item = (u64, &Arc<Mapping>)> {
        self.entries.iter().map(|(layer, mapping)| (layer.gpa.0, mapping))
    }
}
