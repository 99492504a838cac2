//! The first packets of a connection, sent as raw bytes to a real gate before a server that records
//! what arrives. The numbers in the names are those of the protocol checklist, part A.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod commands;
mod encryption;
mod matrix;
mod packets;
mod passwords;
mod servers;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::gate::{GateSetup, LiveGate, Trail};
use support::recorder::Recorder;
use support::tls::connect;

/// A gate before a server that must hear nothing.
struct Scene {
    server: Recorder,
    gate: LiveGate,
}

impl Scene {
    fn new(setup: impl FnOnce(GateSetup) -> GateSetup) -> Self {
        let server = Recorder::silent();
        let gate = setup(GateSetup::before(&[server.upstream()])).start();
        Self { server, gate }
    }

    fn connect(&self) -> TcpStream {
        connect(self.gate.address())
    }

    /// Sends bytes on a connection of their own and reads until the gate closes.
    fn answer_to(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_to_close(&mut stream)
    }

    /// Ends the scene: the server must have heard nothing; returns what is in the log.
    fn end(self) -> Trail {
        let trail = self.gate.stop();
        assert_eq!(self.server.heard(), b"", "nothing reaches the server");
        trail
    }
}

/// What comes until the other side closes, or gives up hard.
fn read_to_close(stream: &mut impl Read) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        heard.push(byte[0]);
    }
    heard
}

/// A packet without a type byte.
fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

/// The reasons with which connections were turned away; nothing of any of them went to the server.
fn denials(trail: &Trail) -> Vec<String> {
    let denied = trail.0.iter().filter(|line| line["decision"] == "deny");
    let denied = denied.map(|line| {
        assert_eq!(line["upstream"]["contacted"], false, "{line}");
        line["reason"].as_str().unwrap().to_owned()
    });
    denied.collect()
}
