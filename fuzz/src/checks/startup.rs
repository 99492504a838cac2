//! The first packets: whatever is accepted goes up rebuilt, with the pins last, each name once, and
//! nothing outside the allow list.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use rowarden::postgres::session::PINNED;
use rowarden::postgres::startup::{
    FirstPacket, MAX_STARTUP_BYTES, Opening, PinnedStartup, StartupMessage, first_packet_bytes,
};

use super::policy;
use super::wire::Reader;

/// Settings that the gate handles itself, beside those that the policy lists.
const BUILT_IN: [&str; 3] = ["application_name", "search_path", "transaction_read_only"];

/// Reads `data` as the packets with which a connection opens, each sent when the one before it has
/// been answered.
///
/// # Panics
/// When a packet goes up that must not.
pub fn check(data: &[u8]) {
    let mut opening = Opening::default();
    let mut rest = data;
    while let Ok(Some(length)) = first_packet_bytes(rest) {
        let Some((packet, behind)) = rest.split_at_checked(length) else { return };
        if !behind.is_empty()
            && let Ok((_, first)) = opening.on_packet(packet, behind.len())
        {
            assert!(matches!(first, FirstPacket::Startup(_)), "bytes behind {first:?}");
        }
        let Ok((next, first)) = opening.on_packet(packet, 0) else { return };
        if let FirstPacket::Startup(message) = first {
            check_rebuilt(&message);
            return;
        }
        opening = next;
        rest = behind;
    }
}

fn check_rebuilt(message: &StartupMessage) {
    let Ok(pinned) = PinnedStartup::rebuild(message, &*policy()) else { return };
    let packet = pinned.encode();
    let parameters = read_as_server(&packet).expect("a packet that the server reads to its end");

    let names: BTreeSet<&str> = parameters.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), parameters.len(), "a name twice: {parameters:?}");
    assert_eq!(parameters[0], ("user", pinned.user.as_str()));
    assert_eq!(parameters[1], ("database", pinned.database.as_str()));
    assert!(!pinned.user.is_empty() && !pinned.database.is_empty());
    let (settings, pins) = parameters[2..].split_at(parameters.len() - 2 - PINNED.len());
    assert_eq!(pins, PINNED, "the pins come last");
    for (name, _) in settings {
        assert!(ALLOWED.contains(*name), "outside the allow list: {name}");
    }
    check_again(&packet, &pinned);
}

/// A rebuilt packet is one that the gate would take itself, and make nothing else of.
fn check_again(packet: &[u8], pinned: &PinnedStartup) {
    if packet.len() > MAX_STARTUP_BYTES {
        return;
    }
    let (_, first) = Opening::default().on_packet(packet, 0).expect("taken again");
    let FirstPacket::Startup(message) = first else { panic!("no start-up packet: {first:?}") };
    let again = PinnedStartup::rebuild(&message, &*policy()).expect("rebuilt again");
    assert_eq!(again.encode(), pinned.encode());
}

/// Names and values, read as PostgreSQL's `ProcessStartupPacket` reads them; names as its settings
/// are looked up, without regard to ASCII case.
fn read_as_server(packet: &[u8]) -> Option<Vec<(&str, &str)>> {
    let mut reader = Reader(packet);
    assert_eq!(reader.int4()? as usize, packet.len());
    assert_eq!(reader.int2()?, 3);
    assert!(reader.int2()? <= 2);
    let mut parameters = Vec::new();
    loop {
        let name = str::from_utf8(reader.text()?).ok()?;
        if name.is_empty() {
            return reader.0.is_empty().then_some(parameters);
        }
        assert!(!name.contains(|letter: char| letter.is_ascii_uppercase()), "{name}");
        parameters.push((name, str::from_utf8(reader.text()?).ok()?));
    }
}

/// The names that may go up, read from the shipped policy without the gate's own reader.
static ALLOWED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let text = include_str!("../../../policy/readonly.toml");
    let document: toml::Table = text.parse().expect("TOML");
    let settings = document["settings"].as_table().expect("a table");
    let lists =
        ["any", "bounds"].into_iter().flat_map(|key| settings[key].as_array().expect("a list"));
    let listed = lists.map(|name| name.as_str().expect("a name").to_owned());
    let by_value = settings["values"].as_table().expect("a table").keys().cloned();
    listed.chain(by_value).chain(BUILT_IN.map(str::to_owned)).collect()
});
