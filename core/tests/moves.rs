//! Connections that move to another core while others come and go there.

mod mesh;

use mesh::{Client, Mesh, encode};
use pinnace_protocol::native::{self, Features, HelloRequest};

const MEMORY_BYTES: u64 = 16 << 20;

/// A native greeting that asks for a core.
fn hello(wanted_core: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request =
        HelloRequest { features: Features::default(), wanted_core, auth: b"", client_name: b"mover" };
    request.encode(&mut bytes, 1);
    bytes
}

/// How many connections the node lists.
fn connected_clients(mesh: &mut Mesh, asker: Client) -> usize {
    let list = mesh.request(asker, &[b"CLIENT", b"LIST"]);
    String::from_utf8(list).expect("the list is text").matches("id=").count()
}

/// The driver tells mail before events, so the place that a socket of another core gets can be that of
/// a connection whose end this core has not been told yet.
#[test]
fn a_connection_may_arrive_in_the_place_of_one_whose_end_is_not_told_yet() {
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let (asker, goes, stays) = (mesh.connect(0), mesh.connect(1), mesh.connect(1));
    let far = mesh.key_on(0, 0);
    assert_eq!(mesh.request(stays, &[b"SET", &far, b"value"]), b"+OK\r\n");
    // Its last request is still under way to the other core when its client hangs up.
    mesh.send(goes, &encode(&[b"GET", &far]));
    let vacancy = mesh.hang_up(goes);

    let mover = mesh.connect(0);
    mesh.send(mover, &hello(1));
    let moved = mesh.hand_over(mover, &vacancy);
    mesh.tell_closed(&vacancy);
    mesh.settle();

    // The reply to the one that is gone reaches nobody, and its late end does not touch its successor.
    assert_eq!(mesh.take(moved), b"");
    assert!(mesh.is_open(moved));
    let mut noop = Vec::new();
    native::encode(&mut noop, &native::Header::request(native::Opcode::NOOP, 7), &[], &[]);
    assert!(!mesh.call(moved, &noop).is_empty(), "the connection that moved is served");
    assert_eq!(connected_clients(&mut mesh, asker), 3);
}

/// Both cores had more connections than the other had last told, so each gives one away. A place is free
/// for the next socket as soon as the driver has let go of the last one, a turn before it says so.
#[test]
fn connections_of_two_cores_may_change_places_at_once() {
    let mut mesh = Mesh::new(2, MEMORY_BYTES);
    let asker = mesh.connect(0);
    let (first, second) = (mesh.connect(0), mesh.connect(1));
    mesh.send(first, &hello(1));
    mesh.send(second, &hello(0));
    let (first, second) = mesh.swap(first, second);
    mesh.settle();

    let mut noop = Vec::new();
    native::encode(&mut noop, &native::Header::request(native::Opcode::NOOP, 7), &[], &[]);
    for moved in [first, second] {
        assert!(mesh.is_open(moved), "{moved:?} was lost on its way");
        assert!(!mesh.call(moved, &noop).is_empty(), "{moved:?} is not served");
    }
    assert_eq!(connected_clients(&mut mesh, asker), 3);
}
