use super::address::Ip;
use super::*;
use crate::fs::file::PollEvents;
use crate::ipc::socket::{Ancillary, Name, Shutdown};
use crate::ipc::testing::{receive, receive_with, send, send_with};
use crate::mm::frame::tests::test_memory;
use alloc::vec;
use alloc::vec::Vec;

fn endpoint(kind: u32) -> Arc<dyn Endpoint> {
    test_memory();
    create(AF_INET, kind, 0).unwrap()
}

fn any_port() -> Name {
    Address { ip: Ip::V4_LOOPBACK, port: 0 }.to_name(AF_INET)
}

fn listening(backlog: i32) -> (Arc<dyn Endpoint>, Name) {
    let server = endpoint(SOCK_STREAM);
    server.bind(&any_port()).unwrap();
    server.listen(backlog).unwrap();
    let name = server.local_name();
    (server, name)
}

fn connected() -> (Arc<dyn Endpoint>, Arc<dyn Endpoint>) {
    let (server, name) = listening(1);
    let client = endpoint(SOCK_STREAM);
    client.connect(&name, false, false).unwrap();
    let accepted = server.accept().unwrap();
    (client, accepted)
}

#[test]
fn a_connection_and_its_names() {
    let (server, name) = listening(1);
    let client = endpoint(SOCK_STREAM);
    assert_eq!(client.poll(), PollEvents::OUT | PollEvents::WRNORM | PollEvents::HUP);
    client.connect(&name, false, false).unwrap();
    assert!(server.poll().contains(PollEvents::IN));
    let accepted = server.accept().unwrap();
    assert_eq!(accepted.local_name(), name);
    assert_eq!(accepted.peer_name(), Ok(client.local_name()));
    assert_eq!(client.peer_name(), Ok(name));
    send(&*client, b"hello").unwrap();
    assert_eq!(receive(&*accepted, 10), Ok(b"hello".to_vec()));
}

#[test]
fn nobody_listens() {
    let (server, name) = listening(1);
    server.close();
    let client = endpoint(SOCK_STREAM);
    assert_eq!(client.connect(&name, false, false), Err(Errno::ECONNREFUSED));
    assert_eq!(client.connect(&name, true, false), Err(Errno::EINPROGRESS));
    assert!(client.poll().contains(PollEvents::ERR | PollEvents::HUP | PollEvents::OUT));
    assert_eq!(client.common().take_error_number(), Errno::ECONNREFUSED.0);
    assert_eq!(client.connect(&name, true, false), Err(Errno::ECONNABORTED));
    assert_eq!(receive(&*client, 1), Err(Errno::ENOTCONN));
    assert_eq!(send(&*client, b"x"), Err(Errno::EPIPE));
    let far = Address { ip: Ip::V4([192, 0, 2, 1]), port: 80 }.to_name(AF_INET);
    assert_eq!(client.connect(&far, true, false), Err(Errno::ENETUNREACH));
}

#[test]
fn a_connect_that_does_not_wait_is_told_later() {
    let (_server, name) = listening(1);
    let client = endpoint(SOCK_STREAM);
    assert_eq!(client.connect(&name, true, false), Err(Errno::EINPROGRESS));
    assert_eq!(client.poll(), PollEvents::OUT | PollEvents::WRNORM);
    assert_eq!(client.connect(&name, true, false), Ok(()));
    assert_eq!(client.connect(&name, true, false), Err(Errno::EISCONN));
}

#[test]
fn a_full_backlog_makes_clients_wait() {
    let (server, name) = listening(0);
    let clients: Vec<_> = (0..2).map(|_| endpoint(SOCK_STREAM)).collect();
    clients[0].connect(&name, false, false).unwrap();
    assert_eq!(clients[1].connect(&name, true, false), Err(Errno::EINPROGRESS));
    assert_eq!(clients[1].connect(&name, true, false), Err(Errno::EALREADY));
    assert_eq!(clients[1].poll(), PollEvents::empty());
    server.accept().unwrap();
    assert_eq!(clients[1].poll(), PollEvents::OUT | PollEvents::WRNORM);
    server.accept().unwrap();
    assert_eq!(server.accept().err(), Some(Errno::EAGAIN));
}

#[test]
fn half_a_connection() {
    let (client, accepted) = connected();
    client.shutdown(Shutdown { receive: false, send: true }).unwrap();
    assert_eq!(receive(&*accepted, 1), Ok(vec![]));
    assert!(accepted.poll().contains(PollEvents::RDHUP | PollEvents::OUT));
    assert!(!accepted.poll().contains(PollEvents::HUP));
    send(&*accepted, b"answer").unwrap();
    assert_eq!(receive(&*client, 10), Ok(b"answer".to_vec()));
    accepted.close();
    assert_eq!(receive(&*client, 10), Ok(vec![]));
    assert_eq!(client.shutdown(Shutdown { receive: true, send: true }), Err(Errno::ENOTCONN));
}

#[test]
fn a_sender_learns_late_that_nobody_is_there() {
    let (client, accepted) = connected();
    accepted.close();
    assert_eq!(send(&*client, b"lost"), Ok(4));
    assert_eq!(send(&*client, b"x"), Err(Errno::EPIPE));
    assert_eq!(receive(&*client, 1), Ok(vec![]));
}

#[test]
fn unread_bytes_and_lingering_reset() {
    let (client, accepted) = connected();
    send(&*client, b"unread").unwrap();
    accepted.close();
    assert_eq!(receive(&*client, 1), Err(Errno::ECONNRESET));
    assert_eq!(receive(&*client, 1), Ok(vec![]));
    let (client, accepted) = connected();
    accepted.common().options.lock().linger = (1, 0);
    accepted.close();
    assert_eq!(receive(&*client, 1), Err(Errno::ECONNRESET));
}

#[test]
fn an_ipv6_listener_takes_ipv4_connections() {
    test_memory();
    let server = create(AF_INET6, SOCK_STREAM, 0).unwrap();
    server.bind(&Address::any(AF_INET6).to_name(AF_INET6)).unwrap();
    server.listen(1).unwrap();
    let port = Address::parse(&server.local_name(), AF_INET6).unwrap().port;
    let client = endpoint(SOCK_STREAM);
    let to = Address { ip: Ip::V4_LOOPBACK, port };
    client.connect(&to.to_name(AF_INET), false, false).unwrap();
    let accepted = server.accept().unwrap();
    assert_eq!(accepted.local_name(), to.to_name(AF_INET6));
    assert_eq!(endpoint(SOCK_STREAM).bind(&to.to_name(AF_INET)), Err(Errno::EADDRINUSE));
}

#[test]
fn datagrams() {
    let (a, b) = (endpoint(SOCK_DGRAM), endpoint(SOCK_DGRAM));
    b.bind(&any_port()).unwrap();
    assert_eq!(send(&*a, b"x"), Err(Errno::EDESTADDRREQ));
    send_with(&*a, b"letter", Some(&b.local_name()), Ancillary::default()).unwrap();
    let (bytes, received) = receive_with(&*b, 3, false).unwrap();
    assert_eq!((bytes.as_slice(), received.full_len), (&b"let"[..], 6));
    let from = Address::parse(&received.from.unwrap(), AF_INET).unwrap();
    assert_eq!(from.ip, Ip::V4_LOOPBACK);
    assert_eq!(receive(&*b, 1), Err(Errno::EAGAIN));
    assert_eq!(send(&*a, &[0; 65508]), Err(Errno::EMSGSIZE));
}

#[test]
fn a_connected_sender_hears_that_nobody_is_there() {
    let (a, b) = (endpoint(SOCK_DGRAM), endpoint(SOCK_DGRAM));
    b.bind(&any_port()).unwrap();
    a.connect(&b.local_name(), false, false).unwrap();
    let stranger = endpoint(SOCK_DGRAM);
    send_with(&*stranger, b"junk", Some(&a.local_name()), Ancillary::default()).unwrap();
    assert_eq!(receive(&*a, 10), Err(Errno::EAGAIN));
    b.close();
    assert_eq!(send(&*a, b"x"), Ok(1));
    assert_eq!(receive(&*a, 1), Err(Errno::ECONNREFUSED));
    assert_eq!(receive(&*a, 1), Err(Errno::EAGAIN));
}

#[test]
fn an_urgent_byte_overtakes_the_stream() {
    use crate::ipc::socket::{Incoming, Outgoing};
    use crate::user::{IoVec, Reader, Writer};
    use linux_raw_sys::net::MSG_OOB;
    let (client, accepted) = connected();
    let data = b"ab!";
    let parts = [IoVec { base: data.as_ptr() as u64, len: 3 }];
    let mut ancillary = Ancillary::default();
    let message = Outgoing { data: &mut Reader::new(&parts), to: None, ancillary: &mut ancillary, flags: MSG_OOB };
    assert_eq!(client.send(message), Ok(3));
    send(&*client, b"cd").unwrap();
    assert!(accepted.poll().contains(PollEvents::PRI));
    let mut byte = [0u8; 4];
    let parts = [IoVec { base: byte.as_mut_ptr() as u64, len: 4 }];
    let taken = accepted.receive(Incoming { urgent: true, ..Incoming::plain(&mut Writer::new(&parts)) }).unwrap();
    assert_eq!((taken.len, byte[0]), (1, b'!'));
    assert!(!accepted.poll().contains(PollEvents::PRI));
    assert_eq!(receive(&*accepted, 10), Ok(b"ab".to_vec()));
    assert!(accepted.is_at_mark());
    assert_eq!(receive(&*accepted, 10), Ok(b"cd".to_vec()));
}
