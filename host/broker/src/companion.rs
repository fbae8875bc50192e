//! The serving process's side of its supervisor: compiling and checking binaries happen over there.
use crate::job;
use crate::link::{self, Link, Message, Received};
use crate::signature::Signed;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

/// What came of it.
pub struct Compiled {
    pub status: i32,
    pub log: Vec<u8>,
    pub binary: Option<Signed>,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CompanionError {
    #[error("the build could not be handed over: {0}")]
    Send(std::io::Error),
    #[error("the compiler crashed or used more time or memory than a build may")]
    Compiler,
}

/// The link and the requests that wait for their answers.
pub struct Companion {
    link: Link,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// What to do when the supervisor asks for the session.
    on_save: OnceLock<OnSave>,
}

/// Told of a request to save.
pub type OnSave = Box<dyn Fn(Message) + Send + Sync>;

#[derive(Default)]
struct Waiting {
    next: u32,
    answers: HashMap<u32, Option<Received>>,
    gone: bool,
}

impl Companion {
    /// Starts listening; `link` leads to the supervisor, and `gone` is called when that has ended.
    pub fn start(link: Link, gone: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let companion =
            Arc::new(Self { link, waiting: Mutex::default(), arrived: Condvar::new(), on_save: OnceLock::new() });
        let listener = Arc::clone(&companion);
        std::thread::spawn(move || {
            listener.listen();
            gone();
        });
        companion
    }

    /// Says what to do when the supervisor asks for the session; once.
    pub fn on_save(&self, act: OnSave) {
        let _ = self.on_save.set(act);
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Compiles in another process; blocks.
    pub fn compile(&self, parts: &job::Parts<'_>) -> Result<Compiled, CompanionError> {
        let bytes = job::encode_job(parts);
        let file = link::sealed_file(&[&bytes]).map_err(CompanionError::Send)?;
        let value = if parts.inputs.is_empty() { link::PLAIN } else { link::LINKS };
        let answer = self.ask(Message { value, ..Message::new(link::COMPILE, 0) }, &file)?;
        let result = answer.descriptors.into_iter().next().ok_or(CompanionError::Compiler)?;
        let bytes = link::read_all(result, job::RESULT_MAX).map_err(|_| CompanionError::Compiler)?;
        let build = job::decode_result(&bytes).ok_or(CompanionError::Compiler)?;
        let binary = (!build.binary.is_empty()).then(|| Signed::new(&answer.message.tag, &build.binary));
        Ok(Compiled { status: build.status, log: build.log, binary })
    }

    /// Whether a binary carries this node's tag; blocks.
    pub fn verify(&self, signed: &Signed) -> bool {
        let Ok(file) = link::sealed_file(&[signed.binary()]) else { return false };
        let question = Message { tag: signed.tag(), ..Message::new(link::VERIFY, 0) };
        self.ask(question, &file).is_ok_and(|answer| answer.message.value == 1)
    }

    fn ask(&self, question: Message, file: impl AsFd) -> Result<Received, CompanionError> {
        let lock = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let request = {
            let mut waiting = lock();
            waiting.next = waiting.next.wrapping_add(1);
            let request = waiting.next;
            waiting.answers.insert(request, None);
            request
        };
        let sent = self.link.send(&Message { request, ..question }, &[], &[file.as_fd()]);
        let mut waiting = lock();
        if let Err(error) = sent {
            waiting.answers.remove(&request);
            return Err(CompanionError::Send(error.into()));
        }
        loop {
            if waiting.gone {
                return Err(CompanionError::Compiler);
            }
            if let Some(Some(_)) = waiting.answers.get(&request) {
                return waiting.answers.remove(&request).flatten().ok_or(CompanionError::Compiler);
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn listen(&self) {
        while let Some(received) = self.link.receive() {
            if received.message.kind == link::SAVE {
                if let Some(act) = self.on_save.get() {
                    act(received.message);
                }
                continue;
            }
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = waiting.answers.get_mut(&received.message.request) {
                *slot = Some(received);
                self.arrived.notify_all();
            }
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).gone = true;
        self.arrived.notify_all();
    }
}
