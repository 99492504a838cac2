//! A27: password exchanges that are bound to a TLS channel, with libpq before and PostgreSQL behind
//! the gate, in clear and encrypted on either side.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use rowarden::demo::client::Client;
use rowarden::demo::cluster::{Authentication, Cluster, ClusterOptions};
use rowarden::dial::{ServerTls, TlsDialer, Trust};
use rowarden::listen::Address;
use rowarden::listen::tls::TlsDemand;
use rowarden::postgres::upstream::UpstreamAddress;

use crate::support::gate::{GateSetup, LiveGate};
use crate::support::talk::add_owner;
use crate::support::tls::{Certificates, Shows, secure};
use crate::support::users::{UsersFile, line};
use crate::support::{self, wait_for};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Clear,
    Tls,
    /// With the same certificate on both hops.
    TlsOfServer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auth {
    Passthrough,
    Users,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A row.
    Served,
    /// libpq itself gives up: it was asked to bind and could not.
    GivenUp,
    /// The gate says what to do.
    Advised,
}

/// What must come of it.
fn expected(client: Hop, server: Hop, binding: &str, auth: Auth) -> Outcome {
    match (auth, client, server, binding) {
        (_, Hop::Clear, _, "require") => Outcome::GivenUp,
        (_, _, _, "disable")
        | (_, Hop::Clear, _, _)
        | (Auth::Users, _, _, _)
        | (_, _, Hop::TlsOfServer, _)
        | (Auth::Passthrough, _, Hop::Clear, "prefer") => Outcome::Served,
        (Auth::Passthrough, _, Hop::Tls, "prefer") => Outcome::Advised,
        (Auth::Passthrough, _, Hop::Clear | Hop::Tls, _) => Outcome::GivenUp,
    }
}

/// A PostgreSQL that encrypts with this certificate.
fn encrypting_cluster(certificates: &Certificates) -> Cluster {
    let options = ClusterOptions {
        authentication: Authentication::ScramSha256,
        tcp: true,
        ..ClusterOptions::default()
    };
    let cluster = support::cluster_with(&options);
    let data = cluster.socket_folder().join("data");
    let owner = fs::metadata(&data).unwrap();
    for (name, mode) in [("server.crt", 0o644), ("server.key", 0o600), ("ca.crt", 0o644)] {
        let file = data.join(name);
        fs::copy(certificates.file(name), &file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    cluster.execute("postgres", "ALTER SYSTEM SET ssl_ca_file = 'ca.crt'").unwrap();
    cluster.execute("postgres", "ALTER SYSTEM SET ssl = on").unwrap();
    reload(&cluster, "SHOW ssl", "on");
    cluster
}

fn reload(cluster: &Cluster, question: &str, answer: &str) {
    cluster.execute("postgres", "SELECT pg_reload_conf()").unwrap();
    wait_for("the server to read its configuration", || {
        let shown = cluster.execute("postgres", question).unwrap();
        (shown.value() == Some(answer)).then_some(())
    });
}

fn upstream(cluster: &Cluster) -> UpstreamAddress {
    let address = cluster.tcp_address().unwrap();
    UpstreamAddress::Tcp(address.ip().to_string(), address.port())
}

fn dialer(certificates: &Certificates) -> TlsDialer {
    let trust = Trust::Authorities(certificates.file("ca.crt"));
    TlsDialer::open(&ServerTls { trust, identity: None }).unwrap()
}

/// Asks by psql; what it printed and what it complained of.
fn psql(gate: &LiveGate, client: Hop, shown: &Certificates, binding: &str) -> (String, String) {
    let Address::Tcp(address) = gate.address() else { panic!("a loopback port") };
    let mode = if client == Hop::Clear { "disable" } else { "verify-full" };
    let root = shown.file("ca.crt");
    let target = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=ann dbname=ann sslmode={mode} sslrootcert={} channel_binding={binding}",
        address.port(),
        root.display()
    );
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-w", "-c", "SELECT 42", &target])
        .env("PGPASSWORD", "secret")
        .output()
        .unwrap();
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).into()
}

#[test]
fn a27_binding_is_taken_out_between_two_channels_and_a_client_that_notices_is_told_what_to_do() {
    let (own, of_server) = (Certificates::new(), Certificates::new());
    let cluster = encrypting_cluster(&of_server);
    add_owner(&cluster, "ann", "secret");
    let users = UsersFile::with(&line("ann", "secret"));

    let servers = [Hop::Clear, Hop::Tls, Hop::TlsOfServer];
    let hops = servers.into_iter().flat_map(|server| [(Hop::Clear, server), (Hop::Tls, server)]);
    for (client, server) in hops {
        let shown = if server == Hop::TlsOfServer { &of_server } else { &own };
        for auth in [Auth::Passthrough, Auth::Users] {
            let mut setup = GateSetup::before(&[upstream(&cluster)]);
            if client != Hop::Clear {
                setup = setup.entered_by(shown.entrance(TlsDemand::Require));
            }
            if server != Hop::Clear {
                setup = setup.dialing_by(dialer(&of_server));
            }
            if auth == Auth::Users {
                setup = setup.checking_by(users.auth("ann", Some("secret")));
            }
            let gate = setup.start();
            for binding in ["prefer", "disable", "require"] {
                let place = format!("{client:?} {server:?} {binding} {auth:?}");
                let (row, complaint) = psql(&gate, client, shown, binding);
                let wanted = expected(client, server, binding, auth);
                assert_eq!(outcome(&row, &complaint), wanted, "{place}: {complaint}");
            }
        }
    }
}

fn outcome(row: &str, complaint: &str) -> Outcome {
    if row == "42\n" {
        return Outcome::Served;
    }
    if complaint.contains("HINT:  Connect with channel_binding=disable") {
        assert!(complaint.contains("auth-channel-binding"), "{complaint}");
        return Outcome::Advised;
    }
    assert!(complaint.contains("channel binding"), "{complaint}");
    Outcome::GivenUp
}

#[test]
fn rows_by_the_megabyte_pass_encrypted_on_both_sides() {
    let certificates = Certificates::new();
    let cluster = encrypting_cluster(&certificates);
    add_owner(&cluster, "ann", "secret");
    let setup = GateSetup::before(&[upstream(&cluster)]).dialing_by(dialer(&certificates));
    let gate = setup.entered_by(certificates.entrance(TlsDemand::Require)).start();
    let config = certificates.client(Shows::Nothing, &["postgresql"]);
    let login = rowarden::demo::client::Login::new("ann", "secret", "ann");
    let mut client = Client::over(secure(gate.address(), &config).unwrap()).enter(&login).unwrap();

    // Far more than all buffers on the way hold, to a client that begins to read late.
    let sql = "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n";
    client.send(&rowarden::demo::client::message::query(sql)).unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    wait_for("the server to be held up", || {
        let held = cluster.execute("postgres", waits).unwrap();
        (held.value() == Some("1")).then_some(())
    });
    let mut bytes = 0;
    let mut rows = 0;
    loop {
        let message = client.receive().unwrap();
        bytes += message.body.len();
        rows += usize::from(message.tag == b'D');
        if message.tag == b'Z' {
            break;
        }
    }

    assert_eq!(rows, 20_000);
    assert!(bytes > 20_000_000);
    // And the other way: a statement of a megabyte.
    let long = format!("SELECT length('{}')", "y".repeat(1_000_000));
    assert_eq!(client.query(&long).unwrap().value(), Some("1000000"));
}

#[test]
fn a_server_with_another_name_or_authority_is_not_believed() {
    let (of_server, stranger) = (Certificates::new(), Certificates::new());
    let cluster = encrypting_cluster(&of_server);
    add_owner(&cluster, "ann", "secret");
    let port = cluster.tcp_address().unwrap().port();
    // The same machine by an address that is not in the certificate.
    let elsewhere = UpstreamAddress::Tcp("127.0.0.2".to_owned(), port);
    let anybody = TlsDialer::open(&ServerTls { trust: Trust::Anybody, identity: None }).unwrap();
    cluster.execute("postgres", "SELECT 1").unwrap();

    for (dialer, address, served) in [
        (dialer(&of_server), upstream(&cluster), true),
        (anybody, upstream(&cluster), true),
        (dialer(&stranger), upstream(&cluster), false),
        (dialer(&of_server), elsewhere, false),
    ] {
        let gate = GateSetup::before(&[address]).dialing_by(dialer).start();
        let (row, complaint) = psql(&gate, Hop::Clear, &of_server, "prefer");
        assert_eq!(row == "42\n", served, "{complaint}");
        assert!(served || complaint.contains("cannot be reached"), "{complaint}");
    }
}

#[test]
fn the_gate_is_known_to_the_server_by_its_certificate_and_can_cancel_there() {
    let certificates = Certificates::new();
    let cluster = encrypting_cluster(&certificates);
    add_owner(&cluster, "ann", "secret");
    let rules = cluster.socket_folder().join("data/pg_hba.conf");
    let old = fs::read_to_string(&rules).unwrap();
    let new = "hostssl all ann 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 reject\n";
    fs::write(&rules, format!("{new}{old}")).unwrap();
    let count = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'cert'";
    reload(&cluster, count, "1");
    let trust = Trust::Authorities(certificates.file("ca.crt"));
    let identity = Some((certificates.file("client.crt"), certificates.file("client.key")));
    let dialer = TlsDialer::open(&ServerTls { trust, identity }).unwrap();
    let users = UsersFile::with(&line("ann", "secret"));
    let setup = GateSetup::before(&[upstream(&cluster)]).dialing_by(dialer);
    let gate = setup.checking_by(users.auth("ann", None)).start();

    let (row, complaint) = psql(&gate, Hop::Clear, &certificates, "prefer");
    assert_eq!(row, "42\n", "{complaint}");
    let login = rowarden::demo::client::Login::new("ann", "secret", "ann");
    let mut client = Client::connect(gate.address(), &login).unwrap();
    let endless = "SELECT count(*) FROM pg_proc a, pg_proc b, pg_proc c, pg_proc d";
    client.send(&rowarden::demo::client::message::query(endless)).unwrap();
    let at_work = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_proc d%' AND pid <> pg_backend_pid()";
    let shows = |count| {
        let seen = cluster.execute("postgres", at_work).unwrap();
        (seen.value() == Some(count)).then_some(())
    };
    wait_for("the query to run", || shows("1"));
    drop(client);
    wait_for("the query to be cancelled", || shows("0"));
}
