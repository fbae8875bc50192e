//! The objects of a lease, by the numbers that the guest gave them.
use super::programs::Program;
use kasoku_abi::accel::image::{CreateImage, CreateSampler};
use kasoku_abi::accel::kernel::SetArgument;
use kasoku_abi::accel::{Id, NO_ID, Range};
use kasoku_backend::{Backend, HostBytes, ImageLayout, Status};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Most objects of one session: a bound on the broker's own memory.
const MAX_OBJECTS: usize = 1 << 20;

pub struct Context<B: Backend> {
    pub raw: B::Context,
    pub id: Id,
    /// Bit per device.
    pub devices: u64,
}

pub struct Queue<B: Backend> {
    pub raw: B::Queue,
    pub context: Arc<Context<B>>,
    pub device: u32,
    /// `object::QUEUE_*`.
    pub flags: u32,
    pub in_order: bool,
    /// First failure of a posted command, reported by the next `FINISH`, or blocking command if in order; 0 = none.
    pub failure: AtomicI32,
}

impl<B: Backend> Queue<B> {
    /// The first failure of a posted command that nobody has been told of, once.
    pub fn take_failure(&self) -> Result<(), Status> {
        match self.failure.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            code => Err(Status(code)),
        }
    }
}

pub struct Buffer<B: Backend> {
    pub raw: B::Buffer,
    pub id: Id,
    pub context: Arc<Context<B>>,
    /// Where it begins in its parent.
    pub origin: u64,
    pub size: u64,
    /// `memory::BUFFER_*`.
    pub flags: u32,
    /// Host side, where the buffer has one, and where that lies in the arena.
    pub storage: Option<HostBytes>,
    pub storage_range: Range,
    /// Where guest and kernels have its first byte, of a buffer whose address they share; else 0.
    pub address: u64,
    /// Ranges (offset, size) that are mapped.
    pub maps: Mutex<Vec<(u64, u64)>>,
    /// What dropping it gives back.
    pub _charge: Charge,
    /// A sub-buffer's parent, kept while it lives.
    pub parent: Option<Arc<Self>>,
}

pub struct Image<B: Backend> {
    pub raw: B::Image,
    pub id: Id,
    pub context: Arc<Context<B>>,
    /// As the guest asked for it.
    pub create: CreateImage,
    pub layout: ImageLayout,
    /// What dropping it gives back.
    pub _charge: Charge,
    /// Whose memory it shows, kept while it lives.
    pub parent: Option<Parent<B>>,
}

pub struct Sampler<B: Backend> {
    pub raw: B::Sampler,
    pub create: CreateSampler,
    /// Kept while it lives.
    pub _context: Arc<Context<B>>,
}

/// Buffer or image whose memory an image shows.
pub enum Parent<B: Backend> {
    Buffer(Arc<Buffer<B>>),
    Image(Arc<Image<B>>),
}

/// A part of one of the session's quotas, given back on drop.
pub struct Charge {
    left: Arc<AtomicU64>,
    bytes: u64,
}

impl Charge {
    /// Takes `bytes` out of what is left; `None` when there is too little.
    pub fn take(left: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).ok()?;
        Some(Self { left: Arc::clone(left), bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

pub struct Kernel<B: Backend> {
    pub raw: B::Kernel,
    pub program: Arc<Program<B>>,
    pub name: String,
    /// The last setting of each argument, with its value where that is not inline.
    pub settings: Vec<(SetArgument, Vec<u8>)>,
    /// Buffers and images that are arguments: the API does not keep them alive, and a launch with a dead one is refused.
    pub memory: Vec<(u32, Weak<dyn Send + Sync>)>,
    /// Samplers that are arguments.
    pub samplers: Vec<(u32, Arc<Sampler<B>>)>,
    /// Arguments whose last setting failed, reported by the next launch.
    pub failed: Vec<(u32, Status)>,
}

pub struct Event<B: Backend> {
    pub id: Id,
    pub raw: Result<B::Event, Ended>,
    /// Of an event that the guest completes.
    pub user: Option<Arc<Context<B>>>,
}

/// What is left of a command that the device knows nothing of.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// 0: it completed before the session was moved here. Else it failed when it was enqueued, or before the move.
    pub status: i32,
    pub times: Option<[u64; 5]>,
}

impl Ended {
    pub const fn failed(status: Status) -> Self {
        Self { status: status.0, times: None }
    }

    pub const fn has_failed(&self) -> bool {
        self.status != 0
    }
}

pub enum Object<B: Backend> {
    Context(Arc<Context<B>>),
    Queue(Arc<Queue<B>>),
    Buffer(Arc<Buffer<B>>),
    Image(Arc<Image<B>>),
    Sampler(Arc<Sampler<B>>),
    Program(Arc<Program<B>>),
    Kernel(Box<Kernel<B>>),
    Event(Arc<Event<B>>),
    /// Its posted creation failed.
    Failed(Status),
}

/// An object that the guest has released and others may still need.
pub enum Shadow<B: Backend> {
    Context(Weak<Context<B>>),
    Buffer(Weak<Buffer<B>>),
    Image(Weak<Image<B>>),
    Sampler(Weak<Sampler<B>>),
    Program(Weak<Program<B>>),
}

impl<B: Backend> Shadow<B> {
    fn of(object: &Object<B>) -> Option<Self> {
        match object {
            Object::Context(object) if Arc::strong_count(object) > 1 => Some(Self::Context(Arc::downgrade(object))),
            Object::Buffer(object) if Arc::strong_count(object) > 1 => Some(Self::Buffer(Arc::downgrade(object))),
            Object::Image(object) if Arc::strong_count(object) > 1 => Some(Self::Image(Arc::downgrade(object))),
            Object::Sampler(object) if Arc::strong_count(object) > 1 => Some(Self::Sampler(Arc::downgrade(object))),
            Object::Program(object) if Arc::strong_count(object) > 1 => Some(Self::Program(Arc::downgrade(object))),
            _ => None,
        }
    }

    /// The object, while it lives.
    pub fn object(&self) -> Option<Object<B>> {
        match self {
            Self::Context(object) => object.upgrade().map(Object::Context),
            Self::Buffer(object) => object.upgrade().map(Object::Buffer),
            Self::Image(object) => object.upgrade().map(Object::Image),
            Self::Sampler(object) => object.upgrade().map(Object::Sampler),
            Self::Program(object) => object.upgrade().map(Object::Program),
        }
    }

    fn is_dead(&self) -> bool {
        match self {
            Self::Context(object) => object.strong_count() == 0,
            Self::Buffer(object) => object.strong_count() == 0,
            Self::Image(object) => object.strong_count() == 0,
            Self::Sampler(object) => object.strong_count() == 0,
            Self::Program(object) => object.strong_count() == 0,
        }
    }
}

pub struct Table<B: Backend> {
    objects: HashMap<Id, Object<B>>,
    shadows: HashMap<Id, Shadow<B>>,
    /// Number of shadows at which dead ones are looked for.
    sweep_at: usize,
}

/// Least number of shadows worth a search for dead ones.
const SWEEP: usize = 64;

macro_rules! getters {
    ($($name:ident $variant:ident $type:ty, $code:ident;)*) => {
        $(pub fn $name(&self, id: Id) -> Result<&$type, Status> {
            match self.objects.get(&id) {
                Some(Object::$variant(object)) => Ok(object),
                Some(Object::Failed(status)) => Err(*status),
                _ => Err(B::CODES.$code),
            }
        })*
    };
}

impl<B: Backend> Table<B> {
    pub fn new() -> Self {
        Self { objects: HashMap::new(), shadows: HashMap::new(), sweep_at: SWEEP }
    }

    getters! {
        context Context Arc<Context<B>>, bad_context;
        queue Queue Arc<Queue<B>>, bad_queue;
        buffer Buffer Arc<Buffer<B>>, bad_buffer;
        image Image Arc<Image<B>>, bad_buffer;
        program Program Arc<Program<B>>, bad_program;
        kernel Kernel Kernel<B>, bad_kernel;
        event Event Arc<Event<B>>, bad_event;
    }

    pub fn kernel_mut(&mut self, id: Id) -> Result<&mut Kernel<B>, Status> {
        match self.objects.get_mut(&id) {
            Some(Object::Kernel(object)) => Ok(object),
            Some(Object::Failed(status)) => Err(*status),
            _ => Err(B::CODES.bad_kernel),
        }
    }

    pub fn get(&self, id: Id) -> Option<&Object<B>> {
        self.objects.get(&id)
    }

    /// Whether `id` may name a new object.
    pub fn check_new(&self, id: Id) -> Result<(), Status> {
        if id == NO_ID || self.objects.contains_key(&id) {
            return Err(B::CODES.bad_value);
        }
        if self.objects.len() >= MAX_OBJECTS {
            return Err(B::CODES.no_host_memory);
        }
        Ok(())
    }

    /// Enters an object under a number that [`check_new`](Self::check_new) allowed.
    pub fn insert(&mut self, id: Id, object: Object<B>) {
        self.objects.insert(id, object);
    }

    pub fn remove(&mut self, id: Id) -> Option<Object<B>> {
        let object = self.objects.remove(&id)?;
        if let Some(shadow) = Shadow::of(&object) {
            self.shadows.insert(id, shadow);
            if self.shadows.len() >= self.sweep_at {
                self.shadows.retain(|_, shadow| !shadow.is_dead());
                self.sweep_at = SWEEP.max(2 * self.shadows.len());
            }
        }
        Some(object)
    }

    pub fn objects(&self) -> impl Iterator<Item = (Id, &Object<B>)> {
        self.objects.iter().map(|(id, object)| (*id, object))
    }

    /// Objects that the guest has released and others still need.
    pub fn released(&self) -> impl Iterator<Item = (Id, Object<B>)> {
        self.shadows.iter().filter_map(|(id, shadow)| shadow.object().map(|object| (*id, object)))
    }
}
