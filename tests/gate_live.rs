//! Logins through the gate to a real server: every way to authenticate, every kind of socket, both
//! protocol versions, and the server's own words where it says no.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::future::Future;

use rowarden::demo::client::reply::Message;
use rowarden::demo::client::{Client, ClientError, Login, message};
use rowarden::demo::cluster::{Authentication, Cluster, ClusterOptions};
use rowarden::listen::Address;
use rowarden::postgres::upstream::UpstreamAddress;
use support::gate::{GateSetup, LiveGate, SOCKET_PORT, Trail, socket_of};
use support::talk::{add_owner, greet, only, start_up, trusting};
use tokio_postgres::error::DbError;
use tokio_postgres::{Config, NoTls};

const PASSWORD: &str = "correct horse";

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work)
}

/// As a driver writes it; a unix socket by its folder and the number in its name.
fn driver_config(address: &Address, password: &str, database: &str) -> Config {
    let mut config = Config::new();
    config.user("ann").password(password).dbname(database);
    match address {
        Address::Tcp(address) => config.host(address.ip().to_string()).port(address.port()),
        Address::Unix(socket) => {
            let number = socket.extension().unwrap().to_str().unwrap().parse().unwrap();
            config.host_path(socket.parent().unwrap()).port(number)
        }
    };
    config
}

/// Logs a driver in and has it ask one question, with a parameter.
async fn ask_by_driver(config: &Config) -> Result<i32, DbError> {
    let connected = config.connect(NoTls).await;
    let (client, connection) = connected.map_err(|error| error.as_db_error().unwrap().clone())?;
    let answer =
        async move { client.query_one("SELECT $1::int + 2", &[&40]).await.unwrap().get(0) };
    let (answer, ended) = tokio::join!(answer, connection);
    ended.unwrap();
    Ok(answer)
}

fn cluster_asking_by(authentication: Authentication) -> Cluster {
    support::cluster_with(&ClusterOptions { authentication, ..ClusterOptions::default() })
}

/// What the auditor reads of a login that the server refused, and with which SQLSTATE.
fn refused_logins(trail: &Trail) -> Vec<String> {
    let failed = trail.of_kind("session.auth").into_iter();
    let failed = failed.filter(|line| line["decision"] == "error");
    let seen = failed.map(|line| {
        let state = line["db"]["response"]["status_code"].as_str().unwrap();
        format!("{} {state}", line["reason"].as_str().unwrap())
    });
    seen.collect()
}

/// Logs in rightly and wrongly, directly and through a gate, and compares every field of what the
/// server says.
fn logins_are_those_of_the_server(authentication: Authentication, wrong: &[(&str, &str, &str)]) {
    let cluster = cluster_asking_by(authentication);
    if authentication == Authentication::Md5 {
        make_owner_by_driver(&cluster);
        let by_our_own = Client::connect(&cluster.address(), &Login::new("ann", PASSWORD, "ann"));
        assert!(matches!(by_our_own, Err(ClientError::Authentication(5))), "it asks for MD5");
    } else {
        add_owner(&cluster, "ann", PASSWORD);
    }
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();

    let right = block_on(ask_by_driver(&driver_config(gate.address(), PASSWORD, "ann")));
    assert_eq!(right.unwrap(), 42);
    for (password, database, sqlstate) in wrong {
        let ask = |at| block_on(ask_by_driver(&driver_config(at, password, database))).unwrap_err();
        let (direct, guarded) = (ask(&cluster.address()), ask(gate.address()));
        assert_eq!(direct.code().code(), *sqlstate);
        assert_eq!(guarded, direct);
    }

    let trail = gate.stop();
    let expected: Vec<String> =
        wrong.iter().map(|(_, _, sqlstate)| format!("auth-failed {sqlstate}")).collect();
    assert_eq!(refused_logins(&trail), expected);
    let opened = trail.of_kind("session.open").len();
    assert_eq!((opened, trail.of_kind("session.close").len()), (1 + wrong.len(), opened));
}

/// Our own client does not speak MD5.
fn make_owner_by_driver(cluster: &Cluster) {
    let mut config = driver_config(&cluster.address(), cluster.password(), "postgres");
    config.user("postgres");
    block_on(async {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        let role = format!("CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'");
        let made = async move {
            client.simple_query(&role).await.unwrap();
            client.simple_query("CREATE DATABASE ann OWNER ann").await.unwrap();
        };
        tokio::join!(made, connection).1.unwrap();
    });
}

const WRONG: &[(&str, &str, &str)] = &[("wrong", "ann", "28P01"), (PASSWORD, "nowhere", "3D000")];

#[test]
fn a_login_by_trust_is_passed_on_and_so_is_its_refusal() {
    logins_are_those_of_the_server(Authentication::Trust, &WRONG[1..]);
}

#[test]
fn a_login_by_clear_password_is_passed_on_and_so_is_its_refusal() {
    logins_are_those_of_the_server(Authentication::Password, WRONG);
}

#[test]
fn a_login_by_md5_is_passed_on_and_so_is_its_refusal() {
    logins_are_those_of_the_server(Authentication::Md5, WRONG);
}

#[test]
fn a_login_by_scram_is_passed_on_and_so_is_its_refusal() {
    logins_are_those_of_the_server(Authentication::ScramSha256, WRONG);
}

/// What a client hears that sends a password in the clear.
fn say_password(address: &Address, password: &str, database: &str) -> Vec<Message> {
    let mut client = Client::open(address).unwrap();
    client.send(&message::start_up(&[("user", "ann"), ("database", database)])).unwrap();
    let mut heard = vec![client.receive().unwrap()];
    client.send(&message::password(password)).unwrap();
    while !matches!(heard.last().unwrap().tag, b'E' | b'Z') {
        heard.push(client.receive().unwrap());
    }
    assert!(heard.last().unwrap().tag == b'Z' || client.receive().is_err(), "closed behind it");
    heard
}

#[test]
fn a_refused_login_is_the_server_s_own_byte_for_byte() {
    let cluster = cluster_asking_by(Authentication::Password);
    add_owner(&cluster, "ann", PASSWORD);
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();

    for (password, database, _) in WRONG {
        let direct = say_password(&cluster.address(), password, database);
        let guarded = say_password(gate.address(), password, database);
        assert_eq!(only(&direct, b'E'), guarded.last().unwrap());
        assert_eq!(direct, guarded);
    }
    let mut direct = say_password(&cluster.address(), PASSWORD, "ann");
    let mut guarded = say_password(gate.address(), PASSWORD, "ann");
    for heard in [&mut direct, &mut guarded] {
        // The key is each session's own; the pin is what the gate is for.
        heard.retain(|message| message.tag != b'K' && !message.body.starts_with(b"default_tr"));
    }
    assert_eq!(direct, guarded);
}

#[test]
fn tcp_and_unix_sockets_serve_on_both_sides() {
    let cluster = support::cluster_with(&ClusterOptions { tcp: true, ..ClusterOptions::default() });
    add_owner(&cluster, "ann", PASSWORD);
    let tcp = cluster.tcp_address().unwrap();
    let by_tcp = UpstreamAddress::Tcp(tcp.ip().to_string(), tcp.port());
    let login = Login::new("ann", PASSWORD, "ann");

    for upstream in [socket_of(&cluster), by_tcp] {
        let setups = [
            GateSetup::before(std::slice::from_ref(&upstream)),
            GateSetup::before(std::slice::from_ref(&upstream)).on_a_unix_socket(),
        ];
        for gate in setups.map(GateSetup::start) {
            let answer = Client::connect(gate.address(), &login).unwrap().query("SELECT 42");
            assert_eq!(answer.unwrap().value(), Some("42"), "{upstream}");
            let config = driver_config(gate.address(), PASSWORD, "ann");
            assert_eq!(block_on(ask_by_driver(&config)).unwrap(), 42, "{upstream}");
            check_peers(gate, &upstream);
        }
    }
}

/// The log says where each side was; a socket file of the gate's goes with the gate.
fn check_peers(gate: LiveGate, upstream: &UpstreamAddress) {
    let address = gate.address().clone();
    for line in gate.stop().of_kind("session.auth") {
        let server = line["server"]["address"].as_str().unwrap();
        assert!(upstream.to_string().starts_with(server), "{line}");
        let client = line["client"]["address"].as_str().unwrap();
        match &address {
            Address::Tcp(_) => assert_eq!(client, "127.0.0.1"),
            Address::Unix(_) => assert_eq!(client, "[local]"),
        }
    }
    if let Address::Unix(socket) = address {
        assert!(socket.ends_with(format!(".s.PGSQL.{SOCKET_PORT}")) && !socket.exists());
    }
}

#[test]
fn what_protocol_is_spoken_the_client_hears_as_from_the_server() {
    let cluster = support::cluster_with(&trusting());
    add_owner(&cluster, "ann", PASSWORD);
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    let option = ("_pq_.command_tag_length", "1");

    for (minor, options, told) in
        [(0, &[][..], 0), (0, &[option], 1), (2, &[], 1), (2, &[option], 1), (9999, &[option], 1)]
    {
        let parameters = [&[("user", "ann")], options].concat();
        let packet = start_up(minor, &parameters);
        let (mut client, guarded) = greet(gate.address(), &packet);
        let direct = greet(&cluster.address(), &packet).1;

        let version = |heard: &[Message]| {
            heard.iter().take_while(|message| message.tag == b'v').cloned().collect::<Vec<_>>()
        };
        assert_eq!(version(&guarded), version(&direct), "3.{minor}");
        assert_eq!(version(&guarded).len(), told, "3.{minor}");
        // A process id and four bytes: the key of protocol 3.0, which is what both sides speak.
        assert_eq!(only(&guarded, b'K').body.len(), 8, "3.{minor}");
        assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"));
    }
}

#[test]
fn a_session_is_pinned_whatever_its_start_up_packet_asks_for() {
    let cluster = support::cluster();
    add_owner(&cluster, "ann", PASSWORD);
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    let login = Login::new("ann", PASSWORD, "ann");

    for (name, value) in [
        ("options", "-c default_transaction_read_only=off"),
        ("default_transaction_read_only", "off"),
        ("client_encoding", "LATIN1"),
        ("replication", "database"),
        ("role", "postgres"),
    ] {
        let refused = Client::connect(gate.address(), &login.clone().with(name, value));
        let Err(ClientError::Refused(error)) = refused else { panic!("{name} lets in") };
        let detail = error.detail.unwrap();
        let (_, event) = support::talk::reason_and_event(&detail);
        let trail = gate.trail();
        assert_eq!(trail.event(event)["kind"], "session.open");
        assert_eq!(trail.event(event)["decision"], "deny");
    }
    let mut client = Client::connect(gate.address(), &login).unwrap();
    for (setting, value) in [
        ("default_transaction_read_only", "on"),
        ("transaction_read_only", "on"),
        ("standard_conforming_strings", "on"),
        ("client_encoding", "UTF8"),
    ] {
        let shown = client.query(&format!("SHOW {setting}")).unwrap();
        assert_eq!(shown.value(), Some(value), "{setting}");
    }
}
