//! A2, A25 and A26: servers that cheat, or cannot do what is asked of them.

use std::io::Write;
use std::sync::Arc;

use rowarden::demo::client::message::{self, frame};
use rowarden::dial::{ServerTls, TlsDialer, Trust};
use rowarden::postgres::credential::{Credential, Reach, Refused, ServerChannel};
use rowarden::postgres::dismissal::Dismissal;
use rowarden::postgres::frame::next_login_frame;
use rowarden::postgres::upstream::CancelTarget;
use rowarden::postgres::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::read_to_close;
use crate::support::gate::GateSetup;
use crate::support::recorder::{Recorder, login_answers};
use crate::support::talk::fields;
use crate::support::tap::holds;
use crate::support::tls::{Certificates, SSL_REQUEST, connect};

fn dialers(certificates: &Certificates) -> [TlsDialer; 2] {
    let trusts = [Trust::Anybody, Trust::Authorities(certificates.file("ca.crt"))];
    trusts.map(|trust| TlsDialer::open(&ServerTls { trust, identity: None }).unwrap())
}

/// What a client reads behind a gate that must encrypt towards this server.
fn refusal(server: &Recorder, dialer: TlsDialer) -> std::collections::BTreeMap<char, String> {
    let gate = GateSetup::before(&[server.upstream()]).dialing_by(dialer).start();
    let mut stream = connect(gate.address());
    stream.write_all(&message::start_up(&[("user", "zqann")])).unwrap();
    let heard = read_to_close(&mut stream);
    let said = fields(&heard[5..]);
    assert!(said.values().all(|words| !words.contains("127.0.0.1")), "{said:?}");
    said
}

#[test]
fn a02_clear_bytes_behind_the_server_s_yes_are_never_taken_for_an_answer() {
    let certificates = Certificates::new();
    for dialer in dialers(&certificates) {
        let server =
            Recorder::answering(|_, _| Some([&b"S"[..], &login_answers().concat()].concat()));

        assert_eq!(refusal(&server, dialer)[&'C'], "57P03");

        assert!(!holds(&server.heard(), "zqann"), "no start-up packet in clear");
    }
}

#[test]
fn a_server_that_does_not_encrypt_where_it_must_gets_no_start_up_packet() {
    let certificates = Certificates::new();
    let errors = frame(b'E', b"SFATAL\0VFATAL\0C0A000\0Mno\0\0");
    for answer in [b"N".to_vec(), errors, b"X".to_vec(), Vec::new()] {
        for dialer in dialers(&certificates) {
            let reply = answer.clone();
            let server =
                Recorder::answering(move |_, _| Some(reply.clone()).filter(|it| !it.is_empty()));

            let said = refusal(&server, dialer);

            assert_eq!((said[&'V'].as_str(), said[&'C'].as_str()), ("FATAL", "57P03"));
            assert_eq!(server.heard(), SSL_REQUEST);
        }
    }
}

#[tokio::test]
async fn a_cancel_key_is_not_sent_in_clear_where_the_way_must_be_encrypted() {
    let certificates = Certificates::new();
    for dialer in dialers(&certificates) {
        let server = Recorder::answering(|_, _| Some(b"N".to_vec()));
        let key = vec![7; 8];
        let dialer = Some(Arc::new(dialer));
        let target = CancelTarget { dialer, address: server.upstream(), key };

        assert!(target.cancel().await.is_err());

        assert_eq!(server.heard(), SSL_REQUEST);
    }
}

/// Has the gate log in with its own credential at a server that asks these questions, one at each
/// answer; returns what came of it and what the server heard.
async fn log_in(reach: Reach, questions: &[Vec<u8>]) -> (Result<(), Refused>, Vec<Vec<u8>>) {
    let (gate, mut server) = duplex(4096);
    let credential = Credential::new("gate".to_owned(), Some("zqsecret".into()));
    let channel = ServerChannel { end_point: None, reach };
    let (mut heard, mut unread) = (Vec::new(), Vec::new());
    let mut wire = Wire::new(gate);
    let play = async {
        for question in questions {
            server.write_all(question).await.unwrap();
            loop {
                if let Some(answer) = next_login_frame(&unread).unwrap() {
                    heard.push(answer.body.to_vec());
                    let length = answer.raw.len();
                    unread.drain(..length);
                    break;
                }
                if server.read_buf(&mut unread).await.unwrap() == 0 {
                    return;
                }
            }
        }
    };
    let outcome = async {
        let outcome = credential.log_in(&mut wire, &channel).await;
        drop(wire);
        outcome
    };
    let (outcome, ()) = tokio::join!(outcome, play);
    (outcome, heard)
}

fn question(code: u8, data: &[u8]) -> Vec<u8> {
    frame(b'R', &[&[0, 0, 0, code][..], data].concat())
}

fn is_distrust(outcome: &Result<(), Refused>) -> bool {
    matches!(outcome, Err(Refused::Dismissed(Dismissal::Untrusted(_))))
}

#[tokio::test]
async fn a25_a_server_that_asks_for_endless_hashing_gets_none() {
    // It knows the gate's nonce only after the first message, so it speaks through a recorder.
    for iterations in ["2147483647", "100001"] {
        let (gate, mut server) = duplex(4096);
        let credential = Credential::new("gate".to_owned(), Some("zqsecret".into()));
        let channel = ServerChannel { end_point: None, reach: Reach::Known };
        let mut wire = Wire::new(gate);
        let play = async {
            server.write_all(&question(10, b"SCRAM-SHA-256\0\0")).await.unwrap();
            let mut heard = vec![0; 1024];
            let length = server.read(&mut heard).await.unwrap();
            let said = String::from_utf8_lossy(&heard[..length]).into_owned();
            let (_, nonce) = said.split_once("r=").unwrap();
            let challenge = format!("r={nonce}more,s=c2FsdA==,i={iterations}");
            server.write_all(&question(11, challenge.as_bytes())).await.unwrap();
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            rest
        };
        let outcome = async {
            let outcome = credential.log_in(&mut wire, &channel).await;
            drop(wire);
            outcome
        };

        let (outcome, rest) = tokio::join!(outcome, play);

        assert!(is_distrust(&outcome), "{outcome:?}");
        assert_eq!(rest, b"", "no proof is sent");
    }
}

#[tokio::test]
async fn a26_a_password_goes_without_scram_only_to_a_server_that_is_known() {
    for weak in [question(3, b""), question(5, b"salt")] {
        let (outcome, heard) = log_in(Reach::Unknown, std::slice::from_ref(&weak)).await;
        assert!(is_distrust(&outcome), "{outcome:?}");
        assert!(heard.is_empty());

        let (outcome, heard) = log_in(Reach::Known, &[weak, question(0, b"")]).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(heard.len(), 1);
    }
}

#[tokio::test]
async fn a26_a_server_that_cannot_show_that_it_knows_the_password_gets_no_session() {
    let scram = question(10, b"SCRAM-SHA-256\0\0");
    for next in [question(0, b""), question(12, b"v=AAAA"), question(11, b"r=x,s=AAAA,i=1")] {
        let (outcome, heard) = log_in(Reach::Known, &[scram.clone(), next]).await;
        assert!(is_distrust(&outcome), "{outcome:?}");
        assert_eq!(heard.len(), 1, "the first message and no proof");
        assert!(!holds(&heard.concat(), "zqsecret"));
    }
}

#[tokio::test]
async fn a26_kinds_of_authentication_that_nobody_knows_are_not_answered() {
    let plus_only = question(10, b"SCRAM-SHA-256-PLUS\0\0");
    for odd in [question(7, b""), question(9, b""), question(2, b""), plus_only] {
        let (outcome, heard) = log_in(Reach::Known, &[odd]).await;
        assert!(is_distrust(&outcome), "{outcome:?}");
        assert!(heard.is_empty());
    }
}
