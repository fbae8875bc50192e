//! The objects of a lease, by the numbers that the guest gave them.
use super::programs::Program;
use kasoku_abi::accel::{Id, NO_ID};
use kasoku_backend::{Backend, HostBytes, ImageLayout, Status};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Most objects of one session: a bound on the broker's own memory.
const MAX_OBJECTS: usize = 1 << 20;

pub struct Context<B: Backend> {
    pub raw: B::Context,
    /// Bit per device.
    pub devices: u64,
}

pub struct Queue<B: Backend> {
    pub raw: B::Queue,
    pub in_order: bool,
    /// First failure of a posted command, reported by the next `FINISH`; 0 = none.
    pub failure: AtomicI32,
}

pub struct Buffer<B: Backend> {
    pub raw: B::Buffer,
    pub size: u64,
    /// Host side, where the buffer has one.
    pub storage: Option<HostBytes>,
    /// Ranges (offset, size) that are mapped.
    pub maps: Mutex<Vec<(u64, u64)>>,
    /// What dropping it gives back.
    pub _charge: Charge,
    /// A sub-buffer's parent, kept while it lives.
    pub parent: Option<Arc<Self>>,
}

pub struct Image<B: Backend> {
    pub raw: B::Image,
    pub layout: ImageLayout,
    /// What dropping it gives back.
    pub _charge: Charge,
    /// Whose memory it shows, kept while it lives.
    pub _parent: Option<Parent<B>>,
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
    /// Buffers and images that are arguments: the API does not keep them alive, and a launch with a dead one is refused.
    pub memory: Vec<(u32, Weak<dyn Send + Sync>)>,
    /// Samplers that are arguments.
    pub samplers: Vec<(u32, Arc<B::Sampler>)>,
    /// Arguments whose last setting failed, reported by the next launch.
    pub failed: Vec<(u32, Status)>,
}

pub struct Event<B: Backend> {
    /// `Err`: the command failed when it was enqueued.
    pub raw: Result<B::Event, Status>,
}

pub enum Object<B: Backend> {
    Context(Arc<Context<B>>),
    Queue(Arc<Queue<B>>),
    Buffer(Arc<Buffer<B>>),
    Image(Arc<Image<B>>),
    Sampler(Arc<B::Sampler>),
    Program(Arc<Program<B>>),
    Kernel(Box<Kernel<B>>),
    Event(Arc<Event<B>>),
    /// Its posted creation failed.
    Failed(Status),
}

pub struct Table<B: Backend> {
    objects: HashMap<Id, Object<B>>,
}

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
        Self { objects: HashMap::new() }
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
        self.objects.remove(&id)
    }
}
