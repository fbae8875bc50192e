//! A machine's threads: each waits in its jail for the guest that it will serve.
//!
//! To start a thread and to have the kernel compile its jail takes a tenth of a millisecond, and nothing of the guest must be
//! known for it: a monitor without a guest has done so already.
use crate::error::Error;
use crate::guest::Guest;
use crate::machine::{Beginning, run_processor};
use crate::outcome::Outcome;
use crate::tender::Cpu;
use crate::{sys, ticker};
use kasoku_jail::{Filter, JailError, policies};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// What is left of a thread: a processor's gives the processor back, because taking it apart needs calls that its jail does not
/// allow.
pub type Remains = Option<Box<dyn Cpu>>;

/// A processor to be run.
pub struct Duty {
    pub guest: Arc<Guest>,
    pub index: usize,
    pub cpu: Box<dyn Cpu>,
    pub beginning: Beginning,
}

/// A thread in its jail, or in none if that could not be: then it does not do what it is for.
struct Post<T> {
    orders: Sender<T>,
    thread: JoinHandle<Remains>,
}

impl<T: Send + 'static> Post<T> {
    /// `serve` gets what the thread is for, the thread's number, and how jailing it went.
    fn new(
        name: &str,
        jail: Arc<Filter>,
        serve: impl FnOnce(T, i32, Result<(), JailError>) -> Remains + Send + 'static,
    ) -> Result<Self, Error> {
        let (orders, order) = channel();
        let body = move || {
            let thread = sys::thread_id();
            let jailed = jail.apply();
            // The machine may come to nothing.
            order.recv().ok().and_then(|order| serve(order, thread, jailed))
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body).map_err(Error::Thread)?;
        Ok(Self { orders, thread })
    }

    fn order(self, order: T) -> JoinHandle<Remains> {
        self.orders.send(order).expect("a thread waits for its order before all else");
        self.thread
    }
}

/// The threads of a machine that is still to come: those that every machine has.
pub struct Crew {
    ticker: Post<Arc<Guest>>,
    first: Post<Duty>,
    jail: Arc<Filter>,
}

impl Crew {
    pub fn new() -> Result<Self, Error> {
        sys::tame_the_allocator();
        let jail = Arc::new(Filter::new(&policies::VCPU)?);
        let ticker = Post::new("ticker", Arc::new(Filter::new(&policies::TICKER)?), |guest: Arc<Guest>, _, jailed| {
            match jailed {
                Ok(()) => ticker::run(&guest),
                Err(error) => guest.watcher.ended(Outcome::fault(&error)),
            }
            None
        })?;
        Ok(Self { ticker, first: processor(0, jail.clone())?, jail })
    }

    /// Gives each thread its work; of further processors the threads are started now.
    pub fn serve(
        self,
        guest: &Arc<Guest>,
        processors: Vec<(Box<dyn Cpu>, Beginning)>,
    ) -> Result<Vec<JoinHandle<Remains>>, Error> {
        let mut threads = vec![self.ticker.order(guest.clone())];
        let mut first = Some(self.first);
        for (index, (cpu, beginning)) in processors.into_iter().enumerate() {
            let post = first.take().map_or_else(|| processor(index, self.jail.clone()), Ok)?;
            threads.push(post.order(Duty { guest: guest.clone(), index, cpu, beginning }));
        }
        Ok(threads)
    }
}

fn processor(index: usize, jail: Arc<Filter>) -> Result<Post<Duty>, Error> {
    Post::new(&format!("vcpu{index}"), jail, |duty: Duty, thread, jailed| {
        let Duty { guest, index, mut cpu, beginning } = duty;
        match jailed {
            Ok(()) => run_processor(&guest, index, cpu.as_mut(), beginning, thread),
            Err(error) => guest.watcher.ended(Outcome::fault(&error)),
        }
        Some(cpu)
    })
}
