//! A31 and A32: peers that say nothing, and load balancers that say who comes.

use std::io::{Read, Write};
use std::sync::Arc;

use rowarden::demo::client::message;
use rowarden::listen::Peer;
use rowarden::listen::proxy::IpRange;
use rowarden::listen::stream::Stream;
use rowarden::listen::tls::TlsDemand;
use rowarden::postgres::entrance::Entrance;
use rowarden::postgres::gate::Gate;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::support::gate::GateSetup;
use crate::support::recorder::Recorder;
use crate::support::tls::{Certificates, SSL_REQUEST, Shows, connect, shake_hands, wrap};
use crate::{Scene, denials, read_to_close};

const V1: &[u8] = b"PROXY TCP4 10.1.2.3 10.0.0.1 8080 5432\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\0\0\x01\x1f\x90\x15\x38";

fn start_up() -> Vec<u8> {
    message::start_up(&[("user", "ann")])
}

fn behind(range: &str) -> Entrance {
    Entrance::default().behind(vec![IpRange::parse(range).unwrap()])
}

#[tokio::test(start_paused = true)]
async fn a31_who_opens_a_connection_and_says_nothing_is_sent_away() {
    let server = Recorder::silent();
    let (parts, _audit, _folder) = GateSetup::before(&[server.upstream()]).into_parts();
    let (gate, places) = (Gate::new(parts), Arc::new(Semaphore::new(1)));

    for begun in [&b""[..], b"\0", &SSL_REQUEST[..7], &start_up()[..10]] {
        let (mut peer, stream) = UnixStream::pair().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut peer, begun).await.unwrap();

        // The clock stands still but for waits that nothing else ends, so this ends at once, if it
        // ends.
        let before = tokio::time::Instant::now();
        let place = Arc::clone(&places).try_acquire_owned().ok();
        gate.serve(Stream::Unix(stream), Peer::Unix, place).await;

        assert!(before.elapsed().as_secs() < 10, "{begun:?}");
    }
    assert_eq!(server.heard(), b"");
}

#[test]
fn a31_peers_that_say_nothing_do_not_hold_up_the_others() {
    let server = Recorder::trusting();
    let gate = GateSetup::before(&[server.upstream()]).with_room_for(1000).start();
    let mut silent = Vec::new();
    for count in 0..400 {
        let mut stream = connect(gate.address());
        stream.write_all(&SSL_REQUEST[..count % 8]).unwrap();
        silent.push(stream);
    }

    let mut stream = connect(gate.address());
    stream.write_all(&start_up()).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();

    assert_eq!(answer, *b"R");
}

#[test]
fn a32_a_load_balancer_at_a_configured_address_says_who_comes() {
    let server = Recorder::trusting();
    let entrance = behind("127.0.0.0/8");
    let gate = GateSetup::before(&[server.upstream()]).entered_by(entrance).start();

    for header in [V1, V2] {
        let mut stream = connect(gate.address());
        stream.write_all(&[header, &start_up()].concat()).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let mut stream = connect(gate.address());
    for byte in [b"PROXY UNKNOWN\r\n", &start_up()[..]].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    stream.read_exact(&mut [0]).unwrap();

    let trail = gate.stop();
    let clients: Vec<&str> = trail
        .of_kind("session.open")
        .iter()
        .map(|line| line["client"]["address"].as_str().unwrap())
        .collect();
    assert_eq!(clients, ["10.1.2.3", "10.1.2.3", "127.0.0.1"]);
}

#[test]
fn a32_behind_a_header_everything_is_as_without() {
    let certificates = Certificates::new();
    let server = Recorder::trusting();
    let entrance = certificates.entrance(TlsDemand::Require);
    let entrance = entrance.behind(vec![IpRange::parse("127.0.0.1").unwrap()]);
    let gate = GateSetup::before(&[server.upstream()]).entered_by(entrance).start();
    let config = certificates.client(Shows::Nothing, &["postgresql"]);

    // Direct TLS in one segment with the header, and a request stuffed behind it.
    let mut tls = wrap(connect(gate.address()), &config);
    let mut hello = V1.to_vec();
    tls.conn.write_tls(&mut hello).unwrap();
    tls.sock.write_all(&hello).unwrap();
    let mut tls = shake_hands(tls).unwrap();
    tls.write_all(&start_up()).unwrap();
    tls.read_exact(&mut [0]).unwrap();
    let mut stream = connect(gate.address());
    stream.write_all(&[V2, &SSL_REQUEST, &start_up()].concat()).unwrap();
    assert_eq!(read_to_close(&mut stream), b"");

    assert_eq!(denials(&gate.stop()), ["proto-stuffing"]);
}

#[test]
fn a32_a_header_from_anybody_else_is_no_start_up_packet() {
    for entrance in [Entrance::default(), behind("10.0.0.0/8"), behind("::1")] {
        let scene = Scene::new(|setup| setup.entered_by(entrance));
        for header in [V1, V2] {
            assert_eq!(scene.answer_to(&[header, &start_up()].concat()), b"");
        }
        assert_eq!(denials(&scene.end()), ["proto-bad-length"; 2]);
    }
}

#[test]
fn a32_a_load_balancer_that_does_not_say_who_comes_is_closed() {
    let scene = Scene::new(|setup| setup.entered_by(behind("127.0.0.1")));

    let mixed = [&V2[..12], V1].concat();
    let twice = [V1, V1, &start_up()].concat();
    let local = [&b"PROXY TCP4 127.0.0.1 "[..], &start_up(), b"\r\n"].concat();
    for bytes in [&start_up()[..], &mixed, &twice, &local, b"PROXY TCP4 x\r\n"] {
        assert_eq!(scene.answer_to(bytes), b"");
    }

    assert_eq!(denials(&scene.end()), ["proto-bad-length"; 5]);
}
