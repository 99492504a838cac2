//! A1 to A11: requests for encryption, stuffing, direct TLS, and what is no PostgreSQL at all.

use std::io::{Read, Write};

use rowarden::demo::client::{Client, message};
use rowarden::listen::tls::TlsDemand;

use crate::support::gate::GateSetup;
use crate::support::recorder::Recorder;
use crate::support::talk::fields;
use crate::support::tls::{Certificates, SSL_REQUEST, Shows, secure, shake_hands, wrap};
use crate::{Scene, denials, packet, read_to_close};

const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
const CANCEL_REQUEST: u32 = 80_877_102;

fn start_up() -> Vec<u8> {
    message::start_up(&[("user", "ann"), ("database", "app")])
}

fn encrypting(demand: TlsDemand) -> (Certificates, Scene) {
    let certificates = Certificates::new();
    let scene = Scene::new(|setup| setup.entered_by(certificates.entrance(demand)));
    (certificates, scene)
}

#[test]
fn a01_bytes_stuffed_behind_a_request_for_tls_end_the_connection() {
    let (_certificates, scene) = encrypting(TlsDemand::Allow);

    let stuffed = [&SSL_REQUEST[..], &start_up()].concat();
    assert_eq!(scene.answer_to(&stuffed), b"");
    assert_eq!(scene.answer_to(&[&SSL_REQUEST[..], b"x"].concat()), b"");

    assert_eq!(denials(&scene.end()), ["proto-stuffing"; 2]);
}

#[test]
fn a03_encryption_by_gssapi_is_declined_and_stuffing_behind_it_ends_the_connection() {
    let (_certificates, scene) = encrypting(TlsDemand::Allow);
    let mut stream = scene.connect();

    stream.write_all(&GSSENC_REQUEST).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N");
    drop(stream);
    assert_eq!(scene.answer_to(&[&GSSENC_REQUEST[..], &start_up()].concat()), b"");

    assert_eq!(denials(&scene.end()), ["proto-stuffing"]);
}

#[test]
fn a04_impossible_lengths_are_closed_without_a_word() {
    let scene = Scene::new(|setup| setup);
    let lengths = [0_u32, 3, 4, 7, 10_001, 20_000, 0x7fff_ffff, 0x8000_0000, u32::MAX];

    for length in lengths {
        let bytes = [length.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat();
        assert_eq!(scene.answer_to(&bytes), b"", "{length}");
    }
    let longer = [&[0, 0, 0, 9][..], &SSL_REQUEST[4..], b"x"].concat();
    assert_eq!(scene.answer_to(&longer), b"");

    assert_eq!(denials(&scene.end()), vec!["proto-bad-length"; lengths.len() + 1]);
}

#[test]
fn a05_a_second_request_in_clear_behind_the_answer_is_no_handshake() {
    let (_certificates, scene) = encrypting(TlsDemand::Allow);
    let mut stream = scene.connect();
    stream.write_all(&SSL_REQUEST).unwrap();
    stream.read_exact(&mut [0]).unwrap();

    stream.write_all(&SSL_REQUEST).unwrap();

    let alert = read_to_close(&mut stream);
    assert!(alert.is_empty() || alert[0] == 0x15, "an alert at most: {alert:?}");
    assert_eq!(denials(&scene.end()), ["proto-tls-handshake"]);
}

#[test]
fn a06_each_kind_of_request_is_answered_once() {
    let scene = Scene::new(|setup| setup);
    let (ssl, gss) = (SSL_REQUEST, GSSENC_REQUEST);

    for (requests, answers) in [
        (vec![ssl, ssl], 1),
        (vec![gss, gss], 1),
        (vec![ssl, gss, ssl], 2),
        (vec![gss, ssl, gss], 2),
    ] {
        let mut stream = scene.connect();
        for _ in 0..answers {
            stream.write_all(&requests[0]).unwrap();
        }
        drop(stream);
        let mut stream = scene.connect();
        let mut answered = 0;
        for request in &requests {
            stream.write_all(request).unwrap();
            answered += stream.read(&mut [0]).unwrap_or(0);
        }
        assert_eq!(answered, answers, "{requests:?}");
    }

    assert!(denials(&scene.end()).iter().filter(|it| *it == "proto-out-of-order").count() >= 4);
}

#[test]
fn a07_where_tls_is_required_a_login_in_clear_is_refused_before_a_password_is_asked_for() {
    for demand in [TlsDemand::Require, TlsDemand::Mutual] {
        let (_certificates, scene) = encrypting(demand);

        let heard = scene.answer_to(&start_up());
        let said = fields(&heard[5..]);
        assert_eq!((said[&'V'].as_str(), said[&'C'].as_str()), ("FATAL", "28000"));
        assert!(said[&'D'].contains("reason=proto-tls-required"), "{said:?}");
        assert!(said[&'H'].contains("sslmode=require"), "{said:?}");
        // A cancel request in clear gives its key away.
        assert_eq!(scene.answer_to(&packet(CANCEL_REQUEST, &[7; 8])), b"");

        assert_eq!(denials(&scene.end()), ["proto-tls-required"; 2]);
    }
}

#[test]
fn a07_where_tls_is_required_a_unix_socket_still_serves() {
    let certificates = Certificates::new();
    let server = Recorder::trusting();
    let setup = GateSetup::before(&[server.upstream()]).on_a_unix_socket();
    let gate = setup.entered_by(certificates.entrance(TlsDemand::Require)).start();

    let mut client = Client::open(gate.address()).unwrap();
    client.send(&start_up()).unwrap();

    assert_eq!(client.receive().unwrap().tag, b'R');
}

#[test]
fn a08_tls_asked_for_or_begun_at_once_leads_to_a_login() {
    let certificates = Certificates::new();
    let server = Recorder::trusting();
    let entrance = certificates.entrance(TlsDemand::Require);
    let gate = GateSetup::before(&[server.upstream()]).entered_by(entrance).start();
    let named = certificates.client(Shows::Nothing, &["postgresql"]);

    let direct = wrap(crate::connect(gate.address()), &named);
    let asked = secure(gate.address(), &named).unwrap();
    let nameless = secure(gate.address(), &certificates.client(Shows::Nothing, &[])).unwrap();
    for stream in [direct, asked, nameless] {
        let mut client = Client::over(stream);
        client.send(&start_up()).unwrap();
        while client.receive().unwrap().tag != b'Z' {}
    }

    let trail = gate.stop();
    let logins = trail.of_kind("session.auth");
    assert_eq!(logins.len(), 3);
    for login in logins {
        assert_eq!(login["client"]["tls"]["version"], "1.3", "{login}");
    }
}

#[test]
fn a08_a_handshake_in_pieces_of_one_byte_is_one() {
    let certificates = Certificates::new();
    let server = Recorder::trusting();
    let entrance = certificates.entrance(TlsDemand::Require);
    let gate = GateSetup::before(&[server.upstream()]).entered_by(entrance).start();
    let mut stream =
        wrap(crate::connect(gate.address()), &certificates.client(Shows::Nothing, &["postgresql"]));

    let mut hello = Vec::new();
    stream.conn.write_tls(&mut hello).unwrap();
    stream.sock.set_nodelay(true).unwrap();
    for byte in hello {
        stream.sock.write_all(&[byte]).unwrap();
    }

    let mut client = Client::over(shake_hands(stream).unwrap());
    client.send(&start_up()).unwrap();
    assert_eq!(client.receive().unwrap().tag, b'R');
}

#[test]
fn a09_direct_tls_that_does_not_name_the_protocol_is_closed_before_the_start_up_packet() {
    let (certificates, scene) = encrypting(TlsDemand::Allow);
    let mut stream = wrap(scene.connect(), &certificates.client(Shows::Nothing, &[]));

    // The handshake may end before the gate looks at the name; nothing comes behind it.
    let _ = stream.write_all(&start_up());
    assert_eq!(read_to_close(&mut stream), b"");

    assert_eq!(denials(&scene.end()), ["proto-tls-handshake"]);
}

#[test]
fn a10_another_protocol_inside_tls_is_turned_away_by_an_alert() {
    let (certificates, scene) = encrypting(TlsDemand::Allow);

    for protocols in [&["h2"][..], &["http/1.1", "h2"]] {
        let config = certificates.client(Shows::Nothing, protocols);
        for outcome in
            [shake_hands(wrap(scene.connect(), &config)), secure(scene.gate.address(), &config)]
        {
            let error = outcome.map(drop).unwrap_err().to_string();
            assert!(error.contains("NoApplicationProtocol"), "{error}");
        }
    }

    assert_eq!(denials(&scene.end()), ["proto-tls-handshake"; 4]);
}

#[test]
fn a11_what_is_no_postgresql_is_closed_without_an_echo() {
    let scene = Scene::new(|setup| setup);
    let mut hello = Vec::new();
    let certificates = Certificates::new();
    let mut tls = wrap(scene.connect(), &certificates.client(Shows::Nothing, &["postgresql"]));
    tls.conn.write_tls(&mut hello).unwrap();
    drop(tls);

    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x00\x00\x01\x00\xde\xad\xbe\xef\xde\xad",
        &[0xa5; 64],
        &hello,
    ] {
        let mut bytes = bytes.to_vec();
        // What announces more than it brings is waited for.
        bytes.resize(bytes.len().max(256), b'x');
        assert_eq!(scene.answer_to(&bytes), b"");
    }

    assert_eq!(denials(&scene.end()), ["proto-bad-length"; 5]);
}

#[test]
fn where_a_certificate_is_asked_for_only_who_shows_one_gets_in() {
    let certificates = Certificates::new();
    let server = Recorder::trusting();
    let entrance = certificates.entrance(TlsDemand::Mutual);
    let gate = GateSetup::before(&[server.upstream()]).entered_by(entrance).start();

    let stranger = Certificates::new();
    for (shown, shows) in [(&certificates, Shows::Nothing), (&stranger, Shows::Certificate)] {
        let config = certificates.client_showing(shown, shows);
        let outcome = secure(gate.address(), &config).and_then(|mut stream| {
            stream.write_all(&start_up())?;
            stream.flush()?;
            // In TLS 1.3 the client learns of it only now.
            stream.read(&mut [0])
        });
        assert!(!matches!(outcome, Ok(1..)), "{outcome:?}");
    }
    assert_eq!(server.heard(), b"");
    let config = certificates.client(Shows::Certificate, &["postgresql"]);
    let mut client = Client::over(secure(gate.address(), &config).unwrap());
    client.send(&start_up()).unwrap();
    assert_eq!(client.receive().unwrap().tag, b'R');
}

#[test]
fn certificates_are_replaced_for_new_connections_and_the_open_ones_go_on() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let server = Recorder::trusting();
    let door = certificates.door(TlsDemand::Require);
    let entrance = rowarden::postgres::entrance::Entrance::default()
        .with_tls(TlsDemand::Require, std::sync::Arc::clone(&door));
    let gate = GateSetup::before(&[server.upstream()]).entered_by(entrance).start();
    let config = certificates.client(Shows::Nothing, &["postgresql"]);
    let mut open = Client::over(secure(gate.address(), &config).unwrap());

    // A key that does not fit changes nothing.
    std::fs::copy(others.file("server.key"), certificates.file("server.key")).unwrap();
    assert!(door.reload().is_err());
    assert!(secure(gate.address(), &config).is_ok());
    std::fs::copy(others.file("server.crt"), certificates.file("server.crt")).unwrap();
    door.reload().unwrap();

    assert!(secure(gate.address(), &config).is_err(), "signed by somebody else now");
    assert!(secure(gate.address(), &others.client(Shows::Nothing, &["postgresql"])).is_ok());
    open.send(&start_up()).unwrap();
    assert_eq!(open.receive().unwrap().tag, b'R');
}
