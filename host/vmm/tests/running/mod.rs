//! Machines in this very process, for tests that look at them from inside.
use crate::guest::image;
use kasoku_vmm::config::Program;
use kasoku_vmm::crew::Crew;
use kasoku_vmm::guest::Watcher;
use kasoku_vmm::kvm::KvmTender;
use kasoku_vmm::machine::{Machine, Specification};
use kasoku_vmm::outcome::Outcome;
use kasoku_vmm::timings::Timings;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub fn memory_file(bytes: &[u8]) -> File {
    let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING);
    let mut file = File::from(fd.unwrap());
    file.write_all(bytes).unwrap();
    file
}

#[derive(Clone)]
pub struct Lines {
    text: Arc<Mutex<String>>,
    ended: Sender<Outcome>,
}

impl Watcher for Lines {
    fn console(&self, text: &str) {
        self.text.lock().unwrap().push_str(text);
    }

    fn started(&self) {}

    fn ended(&self, outcome: Outcome) {
        // Nobody listens any more when the test drops the machine.
        let _ = self.ended.send(outcome);
    }
}

pub struct Running {
    pub machine: Machine,
    pub lines: Lines,
    ended: Receiver<Outcome>,
}

impl Running {
    pub fn wait(&self) -> Outcome {
        self.ended.recv_timeout(Duration::from_secs(60)).expect("the guest ends")
    }

    /// How the guest ended, if it has.
    pub fn ended(&self) -> Option<Outcome> {
        self.ended.try_recv().ok()
    }

    pub fn console(&self) -> String {
        self.lines.text.lock().unwrap().clone()
    }
}

pub fn start(code: &[u8], change: impl FnOnce(&mut Specification)) -> Running {
    let (sender, ended) = channel();
    let lines = Lines { text: Arc::default(), ended: sender };
    let mut spec = Specification {
        memory_mib: 32,
        cpus: 1,
        libos: memory_file(&image(code)),
        layers: Vec::new(),
        channels: Vec::new(),
        regions: Vec::new(),
        program: Program { args: vec![b"/init".to_vec()], cwd: "/".into(), ..Program::default() },
        watcher: Box::new(lines.clone()),
    };
    change(&mut spec);
    let mut tender = KvmTender::new().expect("this test needs /dev/kvm");
    let machine = Machine::new(&mut tender, spec, Crew::new().unwrap(), &mut Timings::new()).unwrap();
    machine.run();
    Running { machine, lines, ended }
}

pub fn run(code: &[u8]) -> (Outcome, String) {
    let running = start(code, |_| {});
    let outcome = running.wait();
    (outcome, running.console())
}
