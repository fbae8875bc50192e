use super::*;
use crate::fs::OpenFile;
use crate::fs::file::PollEvents;
use crate::ipc::testing::{read, write};
use linux_raw_sys::general::O_RDWR;
use linux_raw_sys::ioctl::{TCGETS, TIOCGPTN, TIOCSPTLCK};

fn pair() -> (Arc<OpenFile>, Arc<OpenFile>) {
    let master = OpenFile::new(open_master().unwrap(), O_RDWR);
    let (mut number, unlock) = (0u32, 0i32);
    master.file().ioctl(&master, TIOCGPTN, (&raw mut number) as u64).unwrap();
    let pty = find(number).unwrap();
    assert_eq!(Slave::open(pty.clone(), false).err(), Some(Errno::EIO));
    master.file().ioctl(&master, TIOCSPTLCK, (&raw const unlock) as u64).unwrap();
    let slave = OpenFile::new(Slave::open(pty, false).unwrap(), O_RDWR);
    (master, slave)
}

#[test]
fn typing_and_printing() {
    let (master, slave) = pair();
    assert_eq!(write(&master, b"hello\n"), Ok(6));
    assert!(slave.file().poll().contains(PollEvents::IN));
    assert_eq!(read(&slave, 100), Ok(b"hello\n".to_vec()));
    assert_eq!(read(&slave, 100), Err(Errno::EAGAIN));
    assert_eq!(write(&slave, b"answer\n"), Ok(7));
    assert_eq!(read(&master, 100), Ok(b"hello\r\nanswer\r\n".to_vec()));
}

#[test]
fn the_end_of_either_side() {
    let (master, slave) = pair();
    write(&slave, b"last").unwrap();
    drop(slave);
    assert!(master.file().poll().contains(PollEvents::IN | PollEvents::HUP));
    assert_eq!(read(&master, 100), Ok(b"last".to_vec()));
    assert_eq!(read(&master, 100), Err(Errno::EIO));
    let (master, slave) = pair();
    drop(master);
    assert_eq!(read(&slave, 1), Ok(vec![]));
    assert_eq!(write(&slave, b"x"), Err(Errno::EIO));
    let mut termios = Termios::default();
    assert_eq!(slave.file().ioctl(&slave, TCGETS, (&raw mut termios) as u64), Err(Errno::EIO));
}

#[test]
fn printing_stops_when_nobody_reads() {
    let (master, slave) = pair();
    let mut printed = 0;
    while let Ok(len) = write(&slave, &[b'x'; 4096]) {
        printed += len;
    }
    assert!(!slave.file().poll().contains(PollEvents::OUT));
    assert_eq!(read(&master, 1 << 20).unwrap().len(), printed);
    assert!(slave.file().poll().contains(PollEvents::OUT));
}

#[test]
fn a_pair_ends_with_its_last_side() {
    let (master, slave) = pair();
    let mut number = 0u32;
    master.file().ioctl(&master, TIOCGPTN, (&raw mut number) as u64).unwrap();
    drop(master);
    assert!(find(number).is_some());
    drop(slave);
    assert!(find(number).is_none());
}
