//! A24 and A28 to A30: a gate that keeps its own users.

use std::io::{Read, Write};

use rowarden::demo::client::message::{self, frame};
use rowarden::demo::client::{Client, ClientError, Login};
use rowarden::demo::cluster::{Authentication, ClusterOptions};
use rowarden::listen::tls::TlsDemand;

use crate::support::gate::{GateSetup, socket_of};
use crate::support::recorder::Recorder;
use crate::support::talk::{add_owner, fields, trusting};
use crate::support::tap::holds;
use crate::support::tls::{Certificates, Shows, secure};
use crate::support::users::{UsersFile, line};
use crate::{Scene, read_to_close, support};

fn users() -> UsersFile {
    UsersFile::with(&(line("ann", "anns secret") + &line("bob", "bobs secret")))
}

fn guarded() -> (UsersFile, Scene) {
    let users = users();
    let auth = users.auth("gate", Some("zqsecret"));
    (users, Scene::new(|setup| setup.checking_by(auth)))
}

/// What a client reads, by fields, that answers the offer with this and then, if it gets as far, the
/// challenge with that.
fn answer(scene: &Scene, user: &str, first: &[u8], last: &[u8]) -> Vec<u8> {
    let mut stream = scene.connect();
    stream.write_all(&message::start_up(&[("user", user), ("database", "app")])).unwrap();
    stream.read_exact(&mut [0; 24]).unwrap();
    stream.write_all(first).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    if head[0] == b'E' {
        return body;
    }
    let last = String::from_utf8_lossy(last);
    let nonce = String::from_utf8_lossy(&body[4..]).into_owned();
    let nonce = nonce.split(',').next().unwrap().strip_prefix("r=").unwrap().to_owned();
    let last = last.replace("NONCE", &nonce);
    stream.write_all(&frame(b'p', last.as_bytes())).unwrap();
    read_to_close(&mut stream)[5..].to_vec()
}

fn first(data: &str) -> Vec<u8> {
    message::sasl_initial("SCRAM-SHA-256", data)
}

#[test]
fn a24_scram_that_is_not_to_the_letter_is_refused_and_the_server_hears_nothing() {
    let (_users, scene) = guarded();
    let long = format!("n,,n=,r={}", "x".repeat(5_000));
    let overrun = [b"SCRAM-SHA-256\0".as_slice(), &u32::MAX.to_be_bytes(), b"n,,n=,r=x"].concat();
    let negative = [b"SCRAM-SHA-256\0".as_slice(), &[0, 0, 0, 200], b"n,,n=,r=x"].concat();

    for begin in [
        first("n,,n=,r="),
        first("n,,n="),
        first("n,,r=x"),
        first("n,a=bob,n=,r=x"),
        first("p=tls-server-end-point,,n=,r=x"),
        first("n,,n=,r=a,b"),
        first(""),
        first(&long),
        frame(b'p', b""),
        frame(b'p', b"SCRAM-SHA-256"),
        frame(b'p', b"SCRAM-SHA-256\0"),
        frame(b'p', &overrun),
        frame(b'p', &negative),
        message::sasl_initial("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=x"),
    ] {
        let said = fields(&answer(&scene, "ann", &begin, b""));
        assert_eq!(said[&'C'], "08P01", "{}", String::from_utf8_lossy(&begin));
    }
    let proof = format!("{}=", "A".repeat(43));
    for (last, sqlstate) in [
        ("c=biws,r=NONCE".to_owned(), "08P01"),
        (format!("c=biws,r=NONCEx,p={proof}"), "08P01"),
        (format!("c=biws,r=,p={proof}"), "08P01"),
        (format!("c=eSws,r=NONCE,p={proof}"), "28000"),
        ("c=biws,r=NONCE,p=".to_owned(), "08P01"),
        (format!("c=biws,r=NONCE,p={proof}{proof}"), "08P01"),
        (format!("c=biws,r=NONCE,p={proof}"), "28P01"),
    ] {
        let said = fields(&answer(&scene, "ann", &first("n,,n=,r=x"), last.as_bytes()));
        assert_eq!(said[&'C'], sqlstate, "{last}");
    }

    scene.end();
}

#[test]
fn a29_a_wrong_password_is_refused_also_behind_a_right_one() {
    let cluster = support::cluster_with(&trusting());
    add_owner(&cluster, "gate", "");
    let users = users();
    let setup = GateSetup::before(&[socket_of(&cluster)]).checking_by(users.auth("gate", None));
    let gate = setup.start();
    let login = |user, password| {
        let login = Login::new(user, password, "gate");
        Client::connect(gate.address(), &login).map(|mut client| {
            client.query("SELECT current_user").unwrap().value().unwrap().to_owned()
        })
    };

    assert_eq!(login("ann", "anns secret").unwrap(), "gate");
    for (user, password) in [("ann", "wrong"), ("ann", "bobs secret"), ("bob", "anns secret")] {
        assert!(matches!(login(user, password), Err(ClientError::Refused(_))), "{user} {password}");
    }
    assert_eq!(login("bob", "bobs secret").unwrap(), "gate");

    let trail = gate.stop();
    let statements = trail.of_kind("db.statement");
    let actors: Vec<_> = statements
        .iter()
        .map(|it| ["user", "method"].map(|key| it["actor"][key].as_str().unwrap()))
        .collect();
    assert_eq!(actors, [["ann", "scram"], ["bob", "scram"]]);
    assert!(statements.iter().all(|it| it["db"]["user"] == "gate"));
}

#[test]
fn a28_whoever_is_taken_out_of_the_users_file_gets_in_no_more() {
    let server = Recorder::trusting();
    let users = users();
    let auth = users.auth("gate", None);
    let gate = GateSetup::before(&[server.upstream()]).checking_by(auth).start();
    let login = |user, password| {
        Client::connect(gate.address(), &Login::new(user, password, "app")).map(drop)
    };
    assert!(login("bob", "bobs secret").is_ok());

    // A file with a mistake in it changes nothing.
    users.write("bob\n");
    assert!(users.gatekeeper.reload().is_err());
    assert!(login("bob", "bobs secret").is_ok());
    users.write(&line("ann", "another secret"));
    users.gatekeeper.reload().unwrap();

    assert!(login("bob", "bobs secret").is_err());
    assert!(login("ann", "anns secret").is_err());
    assert!(login("ann", "another secret").is_ok());
}

#[test]
fn a28_a_role_that_may_not_log_in_is_refused_in_the_server_s_own_words() {
    let cluster = support::cluster();
    add_owner(&cluster, "ann", "secret");
    add_owner(&cluster, "bob", "secret");
    cluster.execute("postgres", "ALTER ROLE ann VALID UNTIL '2020-01-01'").unwrap();
    cluster.execute("postgres", "ALTER ROLE bob NOLOGIN").unwrap();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();

    for (user, sqlstate) in [("ann", "28P01"), ("bob", "28000")] {
        let login = Login::new(user, "secret", user);
        let [direct, guarded] = [&cluster.address(), gate.address()].map(|at| {
            let refused = Client::connect(at, &login).map(drop).unwrap_err();
            let ClientError::Refused(error) = refused else { panic!("{refused}") };
            error
        });
        assert_eq!(direct.sqlstate, sqlstate);
        assert_eq!(guarded.to_string(), direct.to_string());
    }
}

#[test]
fn a30_who_is_not_in_the_file_looks_like_who_has_a_wrong_password() {
    let (users, scene) = guarded();
    let proof = format!("c=biws,r=NONCE,p={}=", "A".repeat(43));
    let words = |user: &str| {
        let mut said = fields(&answer(&scene, user, &first("n,,n=,r=x"), proof.as_bytes()));
        let detail = said.remove(&'D').unwrap();
        assert!(detail.starts_with("SECURITY_VIOLATION reason=auth-failed event="), "{detail}");
        format!("{said:?}").replace(user, "USER")
    };

    assert_eq!(words("ann"), words("eve"));
    // The salt of nobody is as constant as anybody's.
    let salt = |user: &str| {
        let mut stream = scene.connect();
        stream.write_all(&message::start_up(&[("user", user)])).unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        stream.write_all(&first("n,,n=,r=x")).unwrap();
        let mut heard = [0; 90];
        let length = stream.read(&mut heard).unwrap();
        let heard = String::from_utf8_lossy(&heard[9..length]).into_owned();
        let (_, salt) = heard.split_once(",s=").unwrap();
        salt.to_owned()
    };
    assert_eq!(salt("eve"), salt("eve"));
    assert_eq!(salt("eve").len(), salt("ann").len());
    assert_ne!(salt("eve"), salt("mal"));
    drop(users);

    scene.end();
}

#[test]
fn a30_a_user_of_the_gate_s_own_never_becomes_the_role_of_that_name() {
    let (_users, scene) = guarded();
    for user in ["gate", "postgres", "ANN", "ann ", "*"] {
        let last = format!("c=biws,r=NONCE,p={}=", "A".repeat(43));
        let said = fields(&answer(&scene, user, &first("n,,n=,r=x"), last.as_bytes()));
        assert_eq!(said[&'C'], "28P01", "{user}");
    }
    scene.end();
}

#[test]
fn the_gate_logs_in_by_whatever_the_server_asks_for_and_its_password_stays_with_it() {
    for authentication in
        [Authentication::Md5, Authentication::Password, Authentication::ScramSha256]
    {
        let options = ClusterOptions { authentication, ..ClusterOptions::default() };
        let cluster = support::cluster_with(&options);
        let users = users();
        let auth = users.auth("postgres", Some(cluster.password()));
        let gate = GateSetup::before(&[socket_of(&cluster)]).checking_by(auth).start();

        // Twice: the second time what was hashed is remembered.
        for _ in 0..2 {
            let login = Login::new("ann", "anns secret", "postgres");
            let mut client = Client::connect(gate.address(), &login).unwrap();
            assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"));
        }
    }
}

#[test]
fn a_password_of_the_gate_s_own_can_change_under_way() {
    let cluster = support::cluster();
    let users = users();
    let auth = users.auth("postgres", Some(cluster.password()));
    let rowarden::postgres::identity::Auth::Users(_, credential) = &auth else {
        panic!("the gate checks")
    };
    let credential = std::sync::Arc::clone(credential);
    let gate = GateSetup::before(&[socket_of(&cluster)]).checking_by(auth).start();
    let login =
        || Client::connect(gate.address(), &Login::new("ann", "anns secret", "postgres")).map(drop);
    assert!(login().is_ok());

    let new = "ALTER ROLE postgres PASSWORD 'another'";
    let mut direct = cluster.connect("postgres").unwrap();
    direct.query(new).unwrap().into_result().unwrap();
    assert!(login().is_err(), "what was hashed for the old salt does not help");
    credential.replace_password(Some("another".into()));

    assert!(login().is_ok());
}

#[test]
fn a_login_of_the_gate_s_own_that_fails_is_not_told_in_the_server_s_words() {
    let cluster = support::cluster();
    let users = users();
    let auth = users.auth("zqrole", Some("zqwrong"));
    let gate = GateSetup::before(&[socket_of(&cluster)]).checking_by(auth).start();

    let login = Login::new("ann", "anns secret", "postgres");
    let refused = Client::connect(gate.address(), &login).map(drop).unwrap_err();

    let ClientError::Refused(error) = refused else { panic!("{refused}") };
    assert_eq!(error.sqlstate, "57P03");
    assert!(!error.to_string().contains("zq"), "{error}");
    let trail = gate.stop();
    let failed = trail.of_kind("session.auth");
    assert_eq!(failed[0]["db"]["response"]["status_code"], "28P01");
}

#[test]
fn a_certificate_is_the_proof_of_its_own_user_and_of_nobody_else() {
    let certificates = Certificates::new();
    let server = Recorder::trusting();
    let text = line("bob", "bobs secret") + "reader:certificate:ann\neve:certificate:eve\n";
    let users = UsersFile::with(&text);
    let gate = GateSetup::before(&[server.upstream()])
        .entered_by(certificates.entrance(TlsDemand::Mutual))
        .checking_by(users.auth("gate", None))
        .start();
    let config = certificates.client(Shows::Certificate, &["postgresql"]);
    let login = |user: &str, password: &str| {
        let stream = secure(gate.address(), &config).unwrap();
        Client::over(stream).enter(&Login::new(user, password, "app")).map(drop)
    };

    assert!(login("reader", "").is_ok());
    assert!(login("bob", "bobs secret").is_ok(), "a password counts as before");
    for user in ["ann", "eve", "bob"] {
        assert!(login(user, "").is_err(), "{user}");
    }

    let trail = gate.stop();
    let entered = trail.of_kind("session.auth");
    let entered = entered.iter().filter(|line| line["decision"] == "allow");
    let methods: Vec<_> = entered.map(|line| line["actor"]["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["cert", "scram"]);
}

#[test]
fn nothing_of_a_user_s_login_reaches_the_server() {
    let server = Recorder::trusting();
    let users = UsersFile::with(&line("zqann", "zqsecret"));
    let auth = users.auth("gate", None);
    let gate = GateSetup::before(&[server.upstream()]).checking_by(auth).start();

    Client::connect(gate.address(), &Login::new("zqann", "zqsecret", "app")).unwrap();

    let sent = server.heard();
    assert!(holds(&sent, "user\0gate\0database\0app\0"));
    assert!(!holds(&sent, "zq") && !holds(&sent, "SCRAM"));
}
