//! How a serving process comes to its session: with its command line, or, when it has opened the device in advance and waits
//! (`standby`), by a message.
use crate::cli::ChildOptions;
use crate::link::{self, Link, Message, Received};
use kasoku_backend_opencl::DeviceKind;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

/// A session for a serving process, with descriptors of its own or, in the supervisor, borrowed ones.
pub struct Adoption<F> {
    pub memory: F,
    pub doorbell: F,
    pub wake: F,
    /// A session to rebuild, and its bytes of records.
    pub session: Option<(F, u64)>,
    /// Where the session's changes are written down.
    pub journal: Option<F>,
    /// What the guest is told that the device is.
    pub present: Option<DeviceKind>,
    /// The device's locks. Whoever serves holds them too: should the supervisor be killed, the device comes free when this
    /// process is gone.
    pub locks: Vec<F>,
}

// Bytes of the message's tag.
const HAS_SESSION: usize = 0;
const HAS_JOURNAL: usize = 1;
/// 0 = the truth, else 1 + index into `DeviceKind::ALL`.
const PRESENT: usize = 2;

impl Adoption<BorrowedFd<'_>> {
    /// Hands the session over.
    pub fn send(&self, link: &Link) -> rustix::io::Result<()> {
        let mut message =
            Message { value: self.session.map_or(0, |(_, records)| records), ..Message::new(link::ADOPT, 0) };
        message.tag[HAS_SESSION] = self.session.is_some().into();
        message.tag[HAS_JOURNAL] = self.journal.is_some().into();
        let place = DeviceKind::ALL.iter().position(|kind| Some(*kind) == self.present);
        message.tag[PRESENT] = place.map_or(0, |place| place as u8 + 1);
        let mut descriptors = vec![self.memory, self.doorbell, self.wake];
        descriptors.extend(self.session.map(|(file, _)| file));
        descriptors.extend(self.journal);
        descriptors.extend(&self.locks);
        link.send_now(&message, &descriptors)
    }
}

impl Adoption<OwnedFd> {
    /// What the supervisor has handed over; `None` when it is nothing of the kind.
    pub fn of(received: Received) -> Option<Self> {
        let Message { kind: link::ADOPT, value, tag, .. } = received.message else { return None };
        let mut descriptors = received.descriptors.into_iter();
        let (memory, doorbell, wake) = (descriptors.next()?, descriptors.next()?, descriptors.next()?);
        let session = if tag[HAS_SESSION] == 1 { Some((descriptors.next()?, value)) } else { None };
        let journal = if tag[HAS_JOURNAL] == 1 { Some(descriptors.next()?) } else { None };
        let present = usize::from(tag[PRESENT]).checked_sub(1).and_then(|place| DeviceKind::ALL.get(place).copied());
        Some(Self { memory, doorbell, wake, session, journal, present, locks: descriptors.collect() })
    }

    /// What the command line names; the locks are inherited and stay open without a name.
    pub fn inherited(options: &ChildOptions) -> Self {
        // SAFETY: the supervisor passed these descriptors to this program, which owns them from here on.
        let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
        let given = |number| (number > 2).then(|| own(number));
        Self {
            memory: own(options.memory),
            doorbell: own(options.doorbell),
            wake: own(options.wake),
            session: given(options.session).map(|file| (file, options.session_records)),
            journal: given(options.journal),
            present: options.present,
            locks: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{empty_file, sealed_file};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    fn pair() -> (Link, Link) {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (Link::new(a), Link::new(b))
    }

    #[test]
    fn what_is_handed_over_arrives_in_its_place() {
        let (ours, theirs) = pair();
        let files: Vec<OwnedFd> = (0..7u8).map(|number| sealed_file(&[&[number]]).unwrap()).collect();
        let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let read = |file: OwnedFd| link::read_all(file, 16).unwrap()[0];
        for (session, journal) in [(true, true), (true, false), (false, true), (false, false)] {
            let adoption = Adoption {
                memory: borrowed[0],
                doorbell: borrowed[1],
                wake: borrowed[2],
                session: session.then_some((borrowed[3], 77)),
                journal: journal.then_some(borrowed[4]),
                present: Some(DeviceKind::Gpu),
                locks: vec![borrowed[5], borrowed[6]],
            };
            adoption.send(&ours).unwrap();
            let got = Adoption::of(theirs.receive().unwrap()).unwrap();
            assert_eq!((read(got.memory), read(got.doorbell), read(got.wake)), (0, 1, 2));
            assert_eq!(got.session.map(|(file, records)| (read(file), records)), session.then_some((3, 77)));
            assert_eq!(got.journal.map(read), journal.then_some(4));
            assert_eq!(got.present, Some(DeviceKind::Gpu));
            assert_eq!(got.locks.into_iter().map(read).collect::<Vec<_>>(), [5, 6]);
        }
    }

    #[test]
    fn too_few_descriptors_are_no_session() {
        let (ours, theirs) = pair();
        let file = empty_file().unwrap();
        ours.send(&Message::new(link::ADOPT, 0), &[], &[file.as_fd(), file.as_fd()]).unwrap();
        assert!(Adoption::of(theirs.receive().unwrap()).is_none());
        ours.send(&Message::new(link::SAVE, 0), &[], &[file.as_fd(), file.as_fd(), file.as_fd()]).unwrap();
        assert!(Adoption::of(theirs.receive().unwrap()).is_none());
    }
}
