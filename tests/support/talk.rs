//! Conversations message by message, for what no driver sends or shows.

use std::collections::BTreeMap;

use rowarden::demo::client::reply::Message;
use rowarden::demo::client::{Client, message};
use rowarden::demo::cluster::{Cluster, ClusterOptions};
use rowarden::listen::Address;

/// The fields of an error or notice by their letters.
pub(crate) fn fields(body: &[u8]) -> BTreeMap<char, String> {
    let parts = body.split(|byte| *byte == 0).filter_map(<[u8]>::split_first);
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    parts.map(|(letter, value)| (char::from(*letter), text(value))).collect()
}

/// The reason and the event in the DETAIL of a refusal of the gate's own.
pub(crate) fn reason_and_event(detail: &str) -> (&str, &str) {
    let words = detail.strip_prefix("SECURITY_VIOLATION reason=");
    words.and_then(|words| words.split_once(" event=")).unwrap_or_else(|| panic!("`{detail}`"))
}

/// A start-up packet of protocol 3 with this minor version.
pub(crate) fn start_up(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = message::start_up(parameters);
    packet[6..8].copy_from_slice(&minor.to_be_bytes());
    packet
}

/// Connects, says `packet` and reads up to ReadyForQuery or an error.
pub(crate) fn greet(address: &Address, packet: &[u8]) -> (Client, Vec<Message>) {
    let mut client = Client::open(address).unwrap();
    client.send(packet).unwrap();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|message: &Message| !matches!(message.tag, b'E' | b'Z')) {
        heard.push(client.receive().unwrap());
    }
    (client, heard)
}

/// What is heard until so many times ReadyForQuery.
pub(crate) fn hear(client: &mut Client, times: usize) -> Vec<Message> {
    let mut heard: Vec<Message> = Vec::new();
    while heard.iter().filter(|message| message.tag == b'Z').count() < times {
        let message = client.receive();
        heard.push(message.unwrap_or_else(|error| panic!("{error} after {heard:?}")));
    }
    heard
}

/// The message of this type; there must be one.
pub(crate) fn only(heard: &[Message], tag: u8) -> &Message {
    let found: Vec<&Message> = heard.iter().filter(|message| message.tag == tag).collect();
    assert_eq!(found.len(), 1, "{}: {heard:?}", char::from(tag));
    found[0]
}

/// What asks for no password and is reached by its socket only.
pub(crate) fn trusting() -> ClusterOptions {
    let authentication = rowarden::demo::cluster::Authentication::Trust;
    ClusterOptions { authentication, ..ClusterOptions::default() }
}

/// Makes a role without powers, and a database of its own, under the same name.
pub(crate) fn add_owner(cluster: &Cluster, name: &str, password: &str) {
    let role = format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'");
    cluster.execute("postgres", &role).unwrap();
    cluster.execute("postgres", &format!("CREATE DATABASE {name} OWNER {name}")).unwrap();
}
