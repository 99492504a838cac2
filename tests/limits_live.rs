//! What there is too much of: clients, power, names. Who is not let in although the password is
//! right, and what a session cannot pile up.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use rowarden::demo::client::reply::{Message, ServerError};
use rowarden::demo::client::{Client, ClientError, Login, message};
use rowarden::demo::cluster::Cluster;
use rowarden::listen::Address;
use rowarden::postgres::prepared::MAX_NAMES;
use rowarden::postgres::upstream::UpstreamAddress;
use serde_json::Value;
use support::gate::{GateSetup, LiveGate, Trail, socket_of};
use support::talk::{add_owner, fields, hear, only, reason_and_event};
use tokio::net::TcpSocket;

fn ann() -> Login {
    Login::new("ann", "secret", "ann")
}

fn cluster_with_ann() -> Cluster {
    let cluster = support::cluster();
    add_owner(&cluster, "ann", "secret");
    cluster
}

fn turned_away(address: &Address, login: &Login) -> ServerError {
    match Client::connect(address, login) {
        Err(ClientError::Refused(error)) => error,
        Err(other) => panic!("no word of refusal: {other}"),
        Ok(_) => panic!("let in"),
    }
}

/// The line of the refusal, after a check that it says the same.
fn recorded(trail: &Trail, error: &ServerError) -> Value {
    let (reason, event) = reason_and_event(error.detail.as_deref().unwrap());
    let line = trail.event(event);
    assert_eq!(line["reason"], reason);
    assert_eq!(error.severity, "FATAL");
    line.clone()
}

#[test]
fn a_client_beyond_the_limit_is_told_so_and_the_next_one_gets_the_place_of_one_who_left() {
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).with_room_for(2).start();
    let mut first = Client::connect(gate.address(), &ann()).unwrap();
    let second = Client::connect(gate.address(), &ann()).unwrap();

    let error = turned_away(gate.address(), &ann());

    assert_eq!(error.sqlstate, "53300");
    let line = recorded(&gate.trail(), &error);
    assert_eq!(line["reason"], "limit-connections");
    assert_eq!((&line["kind"], &line["decision"]), (&"session.open".into(), &"deny".into()));
    assert_eq!(line["upstream"]["contacted"], false);
    assert_eq!(line["actor"]["user"], "ann");
    assert_eq!(first.query("SELECT 42").unwrap().value(), Some("42"));
    drop(second);
    let mut next =
        support::wait_for("the place of the one who left", || connect_if_there_is_room(&gate));
    assert_eq!(next.query("SELECT 42").unwrap().value(), Some("42"));
}

fn connect_if_there_is_room(gate: &LiveGate) -> Option<Client> {
    match Client::connect(gate.address(), &ann()) {
        Ok(client) => Some(client),
        Err(ClientError::Refused(error)) if error.sqlstate == "53300" => None,
        Err(other) => panic!("{other}"),
    }
}

/// A port that nobody answers on, and that nobody else can take as long as the socket is there: it
/// is bound and does not listen.
fn dead_port() -> (UpstreamAddress, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (UpstreamAddress::Tcp("127.0.0.1".to_owned(), port), socket)
}

#[test]
fn a_server_that_cannot_be_reached_is_told_without_its_address() {
    let (dead, _kept) = dead_port();
    let nowhere = UpstreamAddress::Unix("/nowhere/.s.PGSQL.5432".into());
    let secrets = [dead.to_string(), nowhere.to_string(), "nowhere".to_owned()];
    let gate = GateSetup::before(&[dead, nowhere]).start();

    let error = turned_away(gate.address(), &ann());

    assert_eq!(error.sqlstate, "57P03");
    for secret in secrets {
        assert!(!format!("{error:?}").contains(&secret), "{error:?}");
    }
    let line = recorded(&gate.trail(), &error);
    assert_eq!(line["reason"], "upstream-down");
    assert_eq!((&line["kind"], &line["decision"]), (&"session.auth".into(), &"error".into()));
    let outline = gate.stop().outline();
    assert_eq!(
        outline,
        ["session.open allow ok", "session.auth error upstream-down", "session.close none ok",]
    );
}

#[test]
fn places_of_the_server_are_tried_in_their_order_until_one_answers() {
    let cluster = cluster_with_ann();
    let (dead, _kept) = dead_port();
    let gate = GateSetup::before(&[dead, socket_of(&cluster)]).start();

    let mut client = Client::connect(gate.address(), &ann()).unwrap();

    assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"));
}

#[test]
fn a_session_that_the_server_ends_is_ended_in_its_words_and_without_a_server_later_clients_are_told()
 {
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    let mut client = Client::connect(gate.address(), &ann()).unwrap();

    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ann'";
    cluster.execute("postgres", end).unwrap();
    let told = client.receive().unwrap();
    drop(cluster);
    let error = turned_away(gate.address(), &ann());

    let fields = support::talk::fields(&told.body);
    assert_eq!((told.tag, fields[&'V'].as_str(), fields[&'C'].as_str()), (b'E', "FATAL", "57P01"));
    assert_eq!(fields.get(&'D'), None, "the server's own");
    assert!(matches!(client.receive(), Err(ClientError::Io(_))), "closed behind it");
    assert_eq!(error.sqlstate, "57P03");
}

#[test]
fn a_role_with_powers_is_turned_away_where_the_policy_says_so() {
    let cluster = cluster_with_ann();
    cluster
        .execute("postgres", "CREATE ROLE bob LOGIN PASSWORD 'b' IN ROLE pg_read_server_files")
        .unwrap();
    cluster.execute("postgres", "CREATE ROLE eve LOGIN PASSWORD 'e' REPLICATION").unwrap();
    let gate = GateSetup::before(&[socket_of(&cluster)]).refusing_powers().start();

    for (login, power) in [
        (cluster.superuser("postgres"), "superuser"),
        (Login::new("bob", "b", "postgres"), "pg_read_server_files"),
        (Login::new("eve", "e", "postgres"), "replication"),
    ] {
        let error = turned_away(gate.address(), &login);
        assert_eq!(error.sqlstate, "28000");
        let line = recorded(&gate.trail(), &error);
        assert_eq!(line["reason"], "posture");
        assert_eq!((&line["kind"], &line["decision"]), (&"session.auth".into(), &"deny".into()));
        assert!(line["message"].as_str().unwrap().contains(power), "{line}");
    }
    let mut plain = Client::connect(gate.address(), &ann()).unwrap();
    assert_eq!(plain.query("SELECT 42").unwrap().value(), Some("42"));
}

#[test]
fn a_role_with_powers_is_noted_where_the_policy_only_warns() {
    let cluster = support::cluster();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();

    let mut client = Client::connect(gate.address(), &cluster.superuser("postgres")).unwrap();
    assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"));

    let trail = gate.trail();
    let lines = trail.of_kind("session.auth");
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["decision"], &lines[0]["reason"]), (&"allow".into(), &"posture".into()));
    assert!(lines[0]["message"].as_str().unwrap().contains("superuser"), "{}", lines[0]);
}

#[test]
fn a_role_whose_search_path_hides_the_catalog_is_turned_away() {
    let cluster = cluster_with_ann();
    cluster.execute("postgres", "ALTER ROLE ann SET search_path = public, pg_catalog").unwrap();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();

    let by_role = turned_away(gate.address(), &ann());
    let by_client =
        turned_away(gate.address(), &ann().with("options", "-c search_path=a,pg_catalog"));

    assert_eq!(recorded(&gate.trail(), &by_role)["reason"], "posture");
    assert_eq!(recorded(&gate.trail(), &by_client)["reason"], "proto-startup");
}

/// Whatever makes a name: PREPARE, DECLARE, Parse or Bind.
#[test]
fn a_session_holds_so_many_names_and_the_unnamed_ones_always_fit() {
    type Maker = fn(usize) -> Vec<u8>;
    let makers: [(&str, Maker); 4] = [
        ("PREPARE", |at| message::query(&format!("PREPARE p{at} AS SELECT 1"))),
        ("DECLARE", |at| message::query(&format!("DECLARE c{at} CURSOR FOR SELECT 1"))),
        ("Parse", |at| [message::parse(&format!("s{at}"), "SELECT 1"), message::sync()].concat()),
        ("Bind", |at| {
            let bind = message::bind(&format!("b{at}"), "", &[]);
            [message::parse("", "SELECT 1"), bind, message::sync()].concat()
        }),
    ];
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    for (what, make) in makers {
        let mut client = Client::connect(gate.address(), &ann()).unwrap();
        client.query("BEGIN").unwrap();

        let all: Vec<u8> = (0..MAX_NAMES).flat_map(make).collect();
        let heard = ask_many(&mut client, &all, MAX_NAMES);
        assert!(heard.iter().all(|message| message.tag != b'E'), "{what}: {heard:?}");

        client.query("SAVEPOINT before").unwrap();
        let heard = ask_many(&mut client, &make(MAX_NAMES), 1);
        let error = fields(&only(&heard, b'E').body);
        assert_eq!(error[&'C'], "53400", "{what}: {error:?}");

        client.query("ROLLBACK TO before").unwrap();
        let unnamed = [message::parse("", "SELECT 42"), message::bind("", "", &[])].concat();
        let run = [unnamed, message::execute(""), message::sync()].concat();
        let heard = ask_many(&mut client, &run, 1);
        assert_eq!(heard.iter().filter(|message| message.tag == b'D').count(), 1, "{what}");
    }
}

fn ask_many(client: &mut Client, bytes: &[u8], times: usize) -> Vec<Message> {
    client.send(bytes).unwrap();
    hear(client, times)
}
