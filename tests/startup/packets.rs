//! A12 to A23: start-up packets, and messages out of place during a login.

use std::io::{Read, Write};

use rowarden::demo::client::message::{self, frame};

use crate::support::gate::GateSetup;
use crate::support::recorder::{Recorder, login_answers};
use crate::support::talk::{fields, greet, only, start_up};
use crate::support::tap::holds;
use crate::support::tls::connect;
use crate::{Scene, denials, packet, read_to_close};

const CANCEL_REQUEST: u32 = 80_877_102;

/// What a client reads that sends this packet and is refused, by its fields.
fn refusal(scene: &Scene, bytes: &[u8]) -> std::collections::BTreeMap<char, String> {
    let heard = scene.answer_to(bytes);
    assert_eq!(heard.first(), Some(&b'E'), "{}", String::from_utf8_lossy(&heard));
    let fields = fields(&heard[5..]);
    assert_eq!(fields[&'V'], "FATAL");
    fields
}

fn with(name: &str, value: &str) -> Vec<u8> {
    message::start_up(&[("user", "ann"), (name, value)])
}

#[test]
fn a12_protocol_3_2_is_spoken_on_both_sides_or_on_none() {
    let newer = Recorder::trusting();
    let older = Recorder::answering(|count, _| {
        let told = frame(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]);
        let answer = login_answers().get(count)?.clone();
        Some(if count == 0 { [told, answer].concat() } else { answer })
    });

    for (server, told, key) in [(&newer, 0, 36), (&older, 1, 8)] {
        let gate = GateSetup::before(&[server.upstream()]).start();
        let (_, heard) = greet(gate.address(), &start_up(2, &[("user", "ann")]));
        assert_eq!(heard.iter().filter(|message| message.tag == b'v').count(), told);
        assert_eq!(only(&heard, b'K').body.len(), key);
        assert_eq!(server.heard()[4..8], [0, 3, 0, 2], "asked for what the client asked for");
    }
}

#[test]
fn a13_versions_that_never_were_are_answered_with_the_newest_that_is() {
    for (asked, spoken) in [(1, 0), (7, 2), (9999, 2)] {
        let server = Recorder::trusting();
        let gate = GateSetup::before(&[server.upstream()]).start();
        let (_, heard) = greet(gate.address(), &start_up(asked, &[("user", "ann")]));
        assert_eq!(only(&heard, b'v').body, [0, 3, 0, spoken, 0, 0, 0, 0]);
        assert_eq!(server.heard()[4..8], [0, 3, 0, spoken]);
    }
}

#[test]
fn a14_unknown_protocol_options_are_named_and_not_sent_on() {
    let server = Recorder::trusting();
    let gate = GateSetup::before(&[server.upstream()]).start();

    let packet = start_up(0, &[("user", "ann"), ("_pq_.foo", "1"), ("_pq_.bar", "x")]);
    let (_, heard) = greet(gate.address(), &packet);

    assert_eq!(only(&heard, b'v').body, b"\0\x03\0\0\0\0\0\x02_pq_.foo\0_pq_.bar\0");
    assert!(!holds(&server.heard(), "_pq_"));
}

#[test]
fn a15_protocols_that_nobody_speaks_are_refused() {
    let scene = Scene::new(|setup| setup);
    for version in [0_u32, 2 << 16, 4 << 16, 9 << 16] {
        let said = refusal(&scene, &packet(version, b"user\0ann\0\0"));
        assert_eq!(said[&'C'], "0A000");
    }
    assert_eq!(denials(&scene.end()), ["proto-version"; 4]);
}

#[test]
fn a16_cancel_keys_have_4_to_256_bytes_and_nothing_behind_them() {
    let scene = Scene::new(|setup| setup);
    for secret in [0, 3, 257, 300] {
        let request = packet(CANCEL_REQUEST, &vec![7; 4 + secret]);
        assert_eq!(scene.answer_to(&request), b"", "{secret}");
    }
    let stuffed = [packet(CANCEL_REQUEST, &[7; 8]), b"x".to_vec()].concat();
    assert_eq!(scene.answer_to(&stuffed), b"");
    let huge = [&0x8000_0000_u32.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes()].concat();
    assert_eq!(scene.answer_to(&huge), b"");
    for secret in [4, 256] {
        let request = packet(CANCEL_REQUEST, &vec![7; 4 + secret]);
        assert_eq!(scene.answer_to(&request), b"", "a key, though of no session");
    }

    let trail = scene.end();
    assert_eq!(denials(&trail), ["proto-bad-length"; 6]);
    assert_eq!(trail.of_kind("db.cancel").len(), 2);
}

#[test]
fn a17_replication_connections_are_refused_in_every_spelling() {
    let scene = Scene::new(|setup| setup);
    let values = ["1", "true", "on", "yes", "database", "DATABASE", "t", "", "2"];
    for value in values {
        refusal(&scene, &with("replication", value));
    }
    assert_eq!(denials(&scene.end()), ["proto-replication"; 9]);
}

#[test]
fn a18_options_cannot_undo_a_pin_in_any_spelling() {
    let scene = Scene::new(|setup| setup);
    let options = [
        "-c default_transaction_read_only=off",
        "-cdefault_transaction_read_only=off",
        "--default-transaction-read-only=off",
        "--DEFAULT_transaction_read_only=off",
        "-c default\\_transaction_read_only=off",
        "-c\tdefault_transaction_read_only=off",
        "-c search_path=pg_temp -c default_transaction_read_only=false",
        "-c session_preload_libraries=evil",
        "-O",
        "-c",
        "-c role=postgres",
        "--",
    ];
    for value in options {
        let said = refusal(&scene, &with("options", value));
        assert!(said[&'D'].contains("reason=proto-startup"), "{value}: {said:?}");
    }
    let twice = start_up(0, &[("user", "ann"), ("options", "-c a=b"), ("options", "-c a=b")]);
    assert_eq!(refusal(&scene, &twice)[&'C'], "08P01");
    assert_eq!(denials(&scene.end()).len(), options.len() + 1);
}

#[test]
fn a19_settings_outside_the_list_are_refused_and_those_on_it_are_sent_on() {
    let scene = Scene::new(|setup| setup);
    for name in ["role", "session_authorization", "track_activities", "log_statement", "Role"] {
        let said = refusal(&scene, &with(name, "postgres"));
        assert_eq!(said[&'C'], "22023", "{name}");
    }
    assert_eq!(denials(&scene.end()), ["proto-startup"; 5]);

    let server = Recorder::trusting();
    let gate = GateSetup::before(&[server.upstream()]).start();
    greet(gate.address(), &with("DateStyle", "ISO"));
    assert!(holds(&server.heard(), "datestyle\0ISO\0"));
}

#[test]
fn a20_odd_packets_are_refused_and_not_repaired() {
    let scene = Scene::new(|setup| setup);
    let many: String = (0..4_000).map(|_| "a\0").collect();
    let bodies = [
        &b"user\0ann\0user\0bob\0\0"[..],
        b"user\0ann\0",
        b"user\0ann",
        b"user\0ann\0\0more",
        b"user\0ann\0\0\0",
        b"database\0x\0\0",
        b"user\0\0\0",
        b"\0",
        b"",
        b"user\0\xff\0\0",
        b"user\0ann\0\xc0\x80\0x\0\0",
        many.as_bytes(),
    ];
    for body in bodies {
        let said = refusal(&scene, &packet(3 << 16, body));
        assert_eq!(said[&'C'], "08P01", "{body:?}");
    }
    assert_eq!(denials(&scene.end()), ["proto-bad-length"; 12]);
}

#[test]
fn a21_other_encodings_are_refused_and_utf8_in_any_spelling_is_pinned() {
    let scene = Scene::new(|setup| setup);
    for encoding in ["SJIS", "BIG5", "GBK", "UHC", "GB18030", "LATIN1", "utf16", ""] {
        let said = refusal(&scene, &with("client_encoding", encoding));
        assert_eq!(
            (said[&'C'].as_str(), said[&'H'].as_str()),
            ("22023", "set PGCLIENTENCODING=UTF8")
        );
    }
    let by_options = with("options", "-c client_encoding=SJIS");
    assert_eq!(refusal(&scene, &by_options)[&'C'], "22023");
    scene.end();

    for encoding in ["UTF8", "utf-8", "'utf-8'", "Unicode", "SQL_ASCII"] {
        let server = Recorder::trusting();
        let gate = GateSetup::before(&[server.upstream()]).start();
        greet(gate.address(), &with("client_encoding", encoding));
        let sent = server.heard();
        assert!(holds(&sent, "client_encoding\0UTF8\0"), "{encoding}");
        assert_eq!(sent.windows(16).filter(|part| part == b"client_encoding\0").count(), 1);
    }
}

#[test]
fn a22_settings_that_change_how_text_is_read_are_refused() {
    let scene = Scene::new(|setup| setup);
    let settings = [
        ("standard_conforming_strings", "off"),
        ("backslash_quote", "on"),
        ("transform_null_equals", "on"),
        ("default_transaction_read_only", "off"),
    ];
    for (name, value) in settings {
        refusal(&scene, &with(name, value));
        refusal(&scene, &with("options", &format!("-c {name}={value}")));
    }
    assert_eq!(denials(&scene.end()), ["proto-startup"; 8]);
}

/// A server that asks for a password and then hears nothing that is one.
#[test]
fn a23_messages_out_of_place_during_a_login_end_it_and_are_not_sent_on() {
    let long = frame(b'p', &vec![b'x'; 70_000]);
    for out_of_place in [message::query("SELECT 1"), message::sync(), frame(b'X', b""), long] {
        let server = Recorder::answering(|_, _| Some(frame(b'R', &[0, 0, 0, 3])));
        let gate = GateSetup::before(&[server.upstream()]).start();
        let mut stream = connect(gate.address());
        stream.write_all(&message::start_up(&[("user", "ann")])).unwrap();
        stream.read_exact(&mut [0; 9]).unwrap();
        let before = server.heard();

        // What is refused by its header may not have been taken in as a whole.
        let _ = stream.write_all(&out_of_place);

        let heard = read_to_close(&mut stream);
        assert_eq!(fields(&heard[5..])[&'C'], "08P01");
        gate.stop();
        assert_eq!(server.heard(), before, "{out_of_place:?}");
    }
}

#[test]
fn a23_a_password_that_nobody_asks_for_any_more_ends_the_session() {
    let server = Recorder::trusting();
    let gate = GateSetup::before(&[server.upstream()]).start();
    let (mut client, _) = greet(gate.address(), &start_up(0, &[("user", "ann")]));

    client.send(&message::password("s3cret")).unwrap();

    assert_eq!(fields(&client.receive().unwrap().body)[&'C'], "08P01");
    assert_eq!(denials(&gate.stop()), ["proto-unknown-message"]);
    assert!(!holds(&server.heard(), "s3cret"));
}

#[test]
fn a23_a_mechanism_that_was_not_offered_is_not_chosen() {
    let offer = [&[0, 0, 0, 10][..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"].concat();
    for mechanism in ["SCRAM-SHA-256-PLUS", "GSSAPI", "", "scram-sha-256"] {
        let offer = frame(b'R', &offer);
        let server = Recorder::answering(move |_, _| Some(offer.clone()));
        let gate = GateSetup::before(&[server.upstream()]).start();
        let mut stream = connect(gate.address());
        stream.write_all(&message::start_up(&[("user", "ann")])).unwrap();
        let mut heard = [0; 24];
        stream.read_exact(&mut heard).unwrap();
        assert!(!holds(&heard, "PLUS"), "not offered in clear");

        stream.write_all(&message::sasl_initial(mechanism, "n,,n=,r=zqnonce")).unwrap();

        let heard = read_to_close(&mut stream);
        assert_eq!(fields(&heard[5..])[&'C'], "08P01", "{mechanism}");
        gate.stop();
        assert!(!holds(&server.heard(), "zqnonce"));
    }
}
