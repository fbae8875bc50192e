use super::*;
use crate::ipc::eventfd::EventFd;
use crate::ipc::testing::{read, write};
use linux_raw_sys::general::{EPOLLIN, EPOLLOUT, O_RDWR};

fn event(initial: u32) -> Arc<OpenFile> {
    OpenFile::new(Arc::new(EventFd::new(initial, false)), O_RDWR)
}

fn interest(events: u32, data: u64) -> Interest {
    Interest { events, data }
}

fn ready(epoll: &Epoll) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    epoll
        .collect(100, |events, data| {
            found.push((events, data));
            Ok(())
        })
        .unwrap();
    found
}

fn post(event: &OpenFile) {
    write(event, &1u64.to_ne_bytes()).unwrap();
}

#[test]
fn level_triggered_entries_stay_until_they_are_not_ready() {
    let (epoll, file) = (Epoll::new(), event(0));
    epoll.add(3, &file, interest(EPOLLIN, 7)).unwrap();
    assert_eq!(ready(&epoll), []);
    post(&file);
    assert_eq!(ready(&epoll), [(EPOLLIN, 7)]);
    assert_eq!(ready(&epoll), [(EPOLLIN, 7)]);
    read(&file, 8).unwrap();
    assert_eq!(ready(&epoll), []);
}

#[test]
fn edge_triggered_entries_report_each_change_once() {
    let (epoll, file) = (Epoll::new(), event(0));
    epoll.add(3, &file, interest(EPOLLIN | EPOLLET, 7)).unwrap();
    post(&file);
    assert_eq!(ready(&epoll), [(EPOLLIN, 7)]);
    assert_eq!(ready(&epoll), []);
    post(&file);
    assert_eq!(ready(&epoll), [(EPOLLIN, 7)]);
    // A change on the other side is no edge for this entry.
    epoll.add(4, &file, interest(EPOLLOUT | EPOLLET, 8)).unwrap();
    assert_eq!(ready(&epoll), [(EPOLLOUT, 8)]);
    post(&file);
    assert_eq!(ready(&epoll), [(EPOLLIN, 7)]);
}

#[test]
fn a_one_shot_entry_waits_to_be_armed_again() {
    let (epoll, file) = (Epoll::new(), event(1));
    epoll.add(3, &file, interest(EPOLLIN | EPOLLONESHOT, 7)).unwrap();
    assert_eq!(ready(&epoll), [(EPOLLIN, 7)]);
    post(&file);
    assert_eq!(ready(&epoll), []);
    epoll.modify(3, &file, interest(EPOLLIN | EPOLLONESHOT, 9)).unwrap();
    assert_eq!(ready(&epoll), [(EPOLLIN, 9)]);
}

#[test]
fn errors_are_those_of_linux() {
    let (epoll, file) = (Epoll::new(), event(1));
    assert_eq!(epoll.modify(3, &file, interest(0, 0)), Err(Errno::ENOENT));
    assert_eq!(epoll.remove(3, &file), Err(Errno::ENOENT));
    epoll.add(3, &file, interest(0, 0)).unwrap();
    assert_eq!(epoll.add(3, &file, interest(0, 0)), Err(Errno::EEXIST));
    epoll.add(4, &file, interest(0, 0)).unwrap();
    let rd_hangup = PollEvents::RDHUP.bits();
    assert_eq!(epoll.add(5, &file, interest(EPOLLEXCLUSIVE | rd_hangup, 0)), Err(Errno::EINVAL));
    assert_eq!(epoll.modify(3, &file, interest(EPOLLEXCLUSIVE, 0)), Err(Errno::EINVAL));
}

#[test]
fn an_entry_ends_with_the_last_reference_to_its_description() {
    let (epoll, file) = (Epoll::new(), event(1));
    epoll.add(3, &file, interest(EPOLLIN, 7)).unwrap();
    let kept = file.file().clone();
    drop(file);
    assert_eq!(ready(&epoll), []);
    assert!(epoll.entries.lock().is_empty() && epoll.ready.lock().is_empty());
    assert!(kept.queue().unwrap().is_empty());
}

#[test]
fn an_epoll_that_goes_leaves_nothing_behind() {
    let (epoll, file) = (Epoll::new(), event(1));
    epoll.add(3, &file, interest(EPOLLIN, 7)).unwrap();
    drop(epoll);
    assert!(file.file().queue().unwrap().is_empty() && file.released().is_empty());
}

#[test]
fn epolls_nest_but_not_in_circles() {
    let file = event(0);
    let epolls: Vec<_> = (0..7).map(|_| OpenFile::new(Epoll::new(), O_RDWR)).collect();
    let epoll = |i: usize| epolls[i].file().downcast::<Epoll>().unwrap();
    epoll(0).add(3, &file, interest(EPOLLIN, 0)).unwrap();
    epoll(1).add(3, &epolls[0], interest(EPOLLIN, 1)).unwrap();
    assert_eq!(ready(epoll(1)), []);
    post(&file);
    assert_eq!(epolls[1].file().poll(), PollEvents::IN | PollEvents::RDNORM);
    assert_eq!(ready(epoll(1)), [(EPOLLIN, 1)]);
    read(&file, 8).unwrap();
    assert_eq!(ready(epoll(1)), []);
    assert_eq!(epoll(0).add(3, &epolls[0], interest(EPOLLIN, 0)), Err(Errno::ELOOP));
    assert_eq!(epoll(0).add(3, &epolls[1], interest(EPOLLIN, 0)), Err(Errno::ELOOP));
    for i in 2..5 {
        epoll(i).add(3, &epolls[i - 1], interest(EPOLLIN, 0)).unwrap();
    }
    assert_eq!(epoll(5).add(3, &epolls[4], interest(EPOLLIN, 0)), Err(Errno::ELOOP));
}

#[test]
fn what_cannot_be_copied_out_stays_ready() {
    let (epoll, file) = (Epoll::new(), event(1));
    epoll.add(3, &file, interest(EPOLLIN | EPOLLET, 7)).unwrap();
    assert_eq!(epoll.collect(1, |_, _| Err(Errno::EFAULT)), Err(Errno::EFAULT));
    assert_eq!(ready(&epoll), [(EPOLLIN, 7)]);
}

/// A thread that waits, as far as an epoll can see.
struct Waiter(core::sync::atomic::AtomicU32);

impl crate::sched::wait::Wake for Waiter {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn of_exclusive_epolls_the_first_that_somebody_waits_for_is_told() {
    let file = event(0);
    let epolls: Vec<_> = (0..4).map(|_| Epoll::new()).collect();
    let waiters: Vec<_> = (0..3).map(|_| Arc::new(Waiter(Default::default()))).collect();
    for epoll in &epolls {
        epoll.add(3, &file, interest(EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, 7)).unwrap();
    }
    // Nobody waits for the first.
    for (epoll, waiter) in epolls[1..].iter().zip(&waiters) {
        epoll.queue.add(waiter.clone());
    }
    let told = || waiters.iter().map(|waiter| waiter.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
    post(&file);
    assert_eq!(told(), [1, 0, 0]);
    post(&file);
    assert_eq!(told(), [1, 1, 0]);
    assert_eq!(epolls.iter().map(|epoll| ready(epoll).len()).collect::<Vec<_>>(), [1, 1, 1, 0]);
    // Others hear of everything.
    let another = Epoll::new();
    another.add(4, &file, interest(EPOLLIN | EPOLLET, 8)).unwrap();
    ready(&another);
    post(&file);
    assert_eq!((told(), ready(&another).len()), (vec![2, 2, 1], 1));
}
