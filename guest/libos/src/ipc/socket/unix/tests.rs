use super::*;
use crate::fs::file::{OpenFile, PollEvents};
use crate::ipc::eventfd::EventFd;
use crate::ipc::socket::{Ancillary, Shutdown, Socket};
use crate::ipc::testing::{receive, receive_with, send, send_with};
use crate::mm::frame::tests::test_memory;

fn name(text: &str) -> Vec<u8> {
    [&(AF_UNIX as u16).to_ne_bytes()[..], &[0], text.as_bytes()].concat()
}

fn two(kind: u32) -> (Arc<dyn Endpoint>, Arc<dyn Endpoint>) {
    test_memory();
    pair(kind, 0).unwrap()
}

fn endpoint(kind: u32) -> Arc<dyn Endpoint> {
    test_memory();
    create(kind, 0).unwrap()
}

#[test]
fn a_stream_has_no_boundaries_and_packets_have() {
    let (a, b) = two(SOCK_STREAM);
    send(&*a, b"one").unwrap();
    send(&*a, b"two").unwrap();
    assert_eq!(receive_with(&*b, 4, true).unwrap().0, b"onet");
    assert_eq!(receive(&*b, 100), Ok(b"onetwo".to_vec()));
    assert_eq!(receive(&*b, 1), Err(Errno::EAGAIN));
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let (a, b) = two(kind);
        send(&*a, b"first").unwrap();
        send(&*a, b"").unwrap();
        send(&*a, b"third").unwrap();
        let (bytes, received) = receive_with(&*b, 3, false).unwrap();
        assert_eq!((bytes.as_slice(), received.full_len, received.truncated()), (&b"fir"[..], 5, true));
        assert_eq!(receive(&*b, 3), Ok(vec![]));
        assert_eq!(receive(&*b, 100), Ok(b"third".to_vec()));
    }
}

#[test]
fn the_end_of_the_other_side() {
    let (a, b) = two(SOCK_STREAM);
    send(&*a, b"last").unwrap();
    a.close();
    assert!(b.poll().contains(PollEvents::IN | PollEvents::HUP | PollEvents::RDHUP | PollEvents::OUT));
    assert_eq!(receive(&*b, 10), Ok(b"last".to_vec()));
    assert_eq!(receive(&*b, 10), Ok(vec![]));
    assert_eq!(send(&*b, b"x"), Err(Errno::EPIPE));
}

#[test]
fn bytes_that_nobody_read_reset_the_other_side() {
    let (a, b) = two(SOCK_STREAM);
    send(&*b, b"unread").unwrap();
    a.close();
    assert!(b.poll().contains(PollEvents::ERR));
    assert_eq!(receive(&*b, 10), Err(Errno::ECONNRESET));
    assert_eq!(receive(&*b, 10), Ok(vec![]));
}

#[test]
fn shutdown_ends_one_direction() {
    let (a, b) = two(SOCK_STREAM);
    a.shutdown(Shutdown { receive: false, send: true }).unwrap();
    assert_eq!(send(&*a, b"x"), Err(Errno::EPIPE));
    assert_eq!(receive(&*b, 1), Ok(vec![]));
    assert!(!b.poll().contains(PollEvents::HUP));
    send(&*b, b"still").unwrap();
    assert_eq!(receive(&*a, 10), Ok(b"still".to_vec()));
}

#[test]
fn a_full_stream_wakes_its_writer_when_there_is_room() {
    let (a, b) = two(SOCK_STREAM);
    let mut sent = 0;
    loop {
        match send(&*a, &[7; 10_000]) {
            Ok(len) => sent += len,
            Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
        }
    }
    assert!(!a.poll().contains(PollEvents::OUT));
    assert_eq!(receive(&*b, sent).unwrap().len(), sent);
    assert!(a.poll().contains(PollEvents::OUT));
}

#[test]
fn open_files_go_with_the_first_byte_and_end_a_read() {
    let (a, b) = two(SOCK_STREAM);
    let file = OpenFile::new(Arc::new(EventFd::new(0, false)), 0);
    send(&*a, b"ab").unwrap();
    let rights = Ancillary { rights: vec![file.clone()], ..Ancillary::default() };
    send_with(&*a, b"cd", None, rights).unwrap();
    send(&*a, b"ef").unwrap();
    let (bytes, received) = receive_with(&*b, 3, false).unwrap();
    assert_eq!((bytes.as_slice(), received.ancillary.rights.len()), (&b"abc"[..], 1));
    assert!(Arc::ptr_eq(&received.ancillary.rights[0], &file));
    let (bytes, received) = receive_with(&*b, 10, false).unwrap();
    assert_eq!((bytes.as_slice(), received.ancillary.rights.len()), (&b"def"[..], 0));
}

#[test]
fn open_files_that_nobody_took_are_closed_with_the_socket() {
    let (a, b) = two(SOCK_DGRAM);
    let file = OpenFile::new(Arc::new(EventFd::new(0, false)), 0);
    send_with(&*a, b"x", None, Ancillary { rights: vec![file.clone()], ..Ancillary::default() }).unwrap();
    drop((Socket::open(a, 0), Socket::open(b, 0)));
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn a_server_with_a_name() {
    let server = endpoint(SOCK_STREAM);
    let client = endpoint(SOCK_STREAM);
    assert_eq!(server.listen(1), Err(Errno::EINVAL));
    server.bind(&name("server")).unwrap();
    assert_eq!(server.bind(&name("again")), Err(Errno::EINVAL));
    assert_eq!(endpoint(SOCK_STREAM).bind(&name("server")), Err(Errno::EADDRINUSE));
    assert_eq!(client.connect(&name("server"), false, false), Err(Errno::ECONNREFUSED));
    server.listen(0).unwrap();
    assert_eq!(endpoint(SOCK_DGRAM).connect(&name("server"), false, false), Err(Errno::EPROTOTYPE));
    assert_eq!(server.accept().err(), Some(Errno::EAGAIN));
    client.connect(&name("server"), false, false).unwrap();
    assert_eq!(client.connect(&name("server"), false, false), Err(Errno::EISCONN));
    assert_eq!(endpoint(SOCK_STREAM).connect(&name("server"), true, false), Err(Errno::EAGAIN));
    let accepted = server.accept().unwrap();
    assert_eq!(client.peer_name(), Ok(name("server")));
    assert_eq!(accepted.local_name(), name("server"));
    send(&*accepted, b"hello").unwrap();
    assert_eq!(receive(&*client, 10), Ok(b"hello".to_vec()));
    accepted.close();
    server.close();
    endpoint(SOCK_STREAM).bind(&name("server")).unwrap();
}

#[test]
fn connections_that_nobody_accepted_are_reset() {
    let (server, client) = (endpoint(SOCK_STREAM), endpoint(SOCK_STREAM));
    server.bind(&name("gone")).unwrap();
    server.listen(5).unwrap();
    client.connect(&name("gone"), false, false).unwrap();
    server.close();
    assert_eq!(receive(&*client, 1), Err(Errno::ECONNRESET));
}

#[test]
fn datagrams_find_their_receiver_by_name() {
    let (a, b) = (endpoint(SOCK_DGRAM), endpoint(SOCK_DGRAM));
    b.bind(&name("mailbox")).unwrap();
    a.bind(&name("sender")).unwrap();
    assert_eq!(send(&*a, b"x"), Err(Errno::ENOTCONN));
    send_with(&*a, b"letter", Some(&name("mailbox")), Ancillary::default()).unwrap();
    let (bytes, received) = receive_with(&*b, 10, false).unwrap();
    assert_eq!((bytes.as_slice(), received.from), (&b"letter"[..], Some(name("sender"))));
    a.connect(&name("mailbox"), false, false).unwrap();
    for _ in 0..=10 {
        send(&*a, b"x").unwrap();
    }
    assert_eq!(send(&*a, b"x"), Err(Errno::EAGAIN));
    assert!(!a.poll().contains(PollEvents::OUT));
    receive(&*b, 1).unwrap();
    assert_eq!(send(&*a, b"x"), Ok(1));
    b.close();
    assert_eq!(send(&*a, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(send(&*a, b"x"), Err(Errno::ENOTCONN));
}

#[test]
fn a_name_is_chosen_where_none_is_given() {
    let socket = endpoint(SOCK_DGRAM);
    socket.bind(&(AF_UNIX as u16).to_ne_bytes()).unwrap();
    assert_eq!(socket.local_name().len(), 2 + 6);
}
