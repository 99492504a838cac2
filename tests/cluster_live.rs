//! The throw-away cluster: it answers, and nothing of it outlives us.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in what it shares")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rowarden::demo::client::{Client, ClientError, Login};
use rowarden::demo::cluster::{Authentication, Cluster, ClusterError, ClusterOptions};
use rowarden::listen::Address;

/// Makes the test program play the parent that is killed.
const PLAY_THE_PARENT: &str = "ROWARDEN_TEST_PLAYS_THE_PARENT";

fn is_running(process: u32) -> bool {
    // A process that has ended and was not reaped yet has no command line any more.
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|command| !command.is_empty())
}

/// Every process whose command line names this folder.
fn processes_in(folder: &Path) -> Vec<u32> {
    let name = folder.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| {
            fs::read(format!("/proc/{process}/cmdline"))
                .is_ok_and(|command| String::from_utf8_lossy(&command).contains(name))
        })
        .collect()
}

fn wait_until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_cluster_answers_on_its_socket_and_asks_for_the_password() {
    let cluster = support::cluster();

    let reply = cluster.execute("postgres", "SELECT 40 + 2, current_setting('fsync')").unwrap();
    let wrong = Client::connect(&cluster.address(), &Login::new("postgres", "wrong", "postgres"));

    assert_eq!(reply.value(), Some("42"));
    assert!(matches!(wrong, Err(ClientError::Refused(error)) if error.sqlstate == "28P01"));
    let mode = fs::metadata(cluster.socket_folder()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(cluster.tcp_address(), None);
}

#[test]
fn the_client_speaks_both_protocols_and_copy() {
    let cluster = support::cluster();
    let mut client = cluster.connect("postgres").unwrap();

    let made = client.query("CREATE TABLE t (n int); SELECT 'x' AS a, NULL AS b").unwrap();
    let copied_in = client.copy_in("COPY t FROM STDIN", b"7\n8\n").unwrap();
    let sum = client.extended("SELECT sum(n) + $1::int FROM t", &[Some("1")]).unwrap();
    let copied_out = client.query("COPY t TO STDOUT").unwrap();
    let failed = client.query("BEGIN; SELECT 1/0").unwrap();

    let tags: Vec<&str> = made.results.iter().map(|result| result.tag.as_str()).collect();
    assert_eq!(tags, ["CREATE TABLE", "SELECT 1"]);
    assert_eq!(made.results[1].rows, [[Some("x".to_owned()), None]]);
    assert_eq!(copied_in.results[0].tag, "COPY 2");
    assert_eq!(sum.value(), Some("16"));
    assert_eq!(copied_out.copied, b"7\n8\n");
    assert_eq!((failed.error.unwrap().sqlstate.as_str(), failed.status), ("22012", Some('E')));
    assert!(client.parameter("server_version").is_some());
}

#[test]
fn a_cluster_with_a_port_and_settings_is_reached_by_tcp() {
    for authentication in [Authentication::Password, Authentication::Trust] {
        let options = ClusterOptions {
            authentication,
            tcp: true,
            settings: vec![("max_prepared_transactions".to_owned(), "3".to_owned())],
        };
        let cluster = support::cluster_with(&options);
        let address = Address::Tcp(cluster.tcp_address().unwrap());

        let mut client = Client::connect(&address, &cluster.superuser("postgres")).unwrap();
        let reply = client.query("SHOW max_prepared_transactions").unwrap();

        assert_eq!(reply.value(), Some("3"), "{authentication:?}");
    }
}

#[test]
fn an_md5_cluster_starts_although_our_own_client_does_not_speak_md5() {
    let options =
        ClusterOptions { authentication: Authentication::Md5, ..ClusterOptions::default() };

    let cluster = support::cluster_with(&options);

    assert!(matches!(cluster.connect("postgres"), Err(ClientError::Authentication(5))));
}

#[test]
fn a_dropped_cluster_leaves_no_process_and_no_folder() {
    let cluster = support::cluster();
    let folder = cluster.socket_folder().to_owned();
    let server = cluster.process_id().unwrap();
    let _session = cluster.connect("postgres").unwrap();

    drop(cluster);

    assert!(!folder.exists());
    assert!(!is_running(server));
    assert!(wait_until(|| processes_in(&folder).is_empty()));
}

#[test]
fn a_cluster_outlives_the_thread_that_started_it() {
    let cluster = thread::spawn(support::cluster).join().unwrap();

    let reply = cluster.execute("postgres", "SELECT 1").unwrap();

    assert_eq!(reply.value(), Some("1"));
}

#[test]
fn a_setting_that_the_server_refuses_is_reported_with_its_own_words() {
    let options = ClusterOptions {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..ClusterOptions::default()
    };

    let error = Cluster::start(&support::installation(), &options).unwrap_err();

    let ClusterError::Server { log } = error else { panic!("{error}") };
    assert!(log.contains("no_such_setting"), "{log}");
}

/// A parent with a running cluster, to be killed. Its output names the server and the folder.
struct Parent {
    process: Child,
    _output: BufReader<ChildStdout>,
    server: u32,
    folder: PathBuf,
}

impl Parent {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_parent_that_is_killed", "--nocapture"])
            .env(PLAY_THE_PARENT, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ready ") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the parent ended early");
        }
        let mut words = line.split_whitespace().skip(1);
        let server = words.next().unwrap().parse().unwrap();
        let folder = PathBuf::from(words.next().unwrap());
        Self { process, _output: output, server, folder }
    }
}

#[test]
fn the_parent_that_is_killed() {
    if std::env::var_os(PLAY_THE_PARENT).is_none() {
        return;
    }
    let cluster = support::cluster();
    println!("\nready {} {}", cluster.process_id().unwrap(), cluster.socket_folder().display());
    loop {
        thread::park();
    }
}

/// Not by SIGINT and SIGHUP: `nohup make test` and `make test &` in a script start the tests with
/// those ignored, and the parent would live on.
#[test]
fn a_killed_parent_leaves_no_server_and_no_folder() {
    let mut parents = ["KILL", "TERM"].map(|signal| (signal, Parent::start()));

    for (signal, parent) in &mut parents {
        assert!(is_running(parent.server) && parent.folder.exists());
        let kill = format!("kill -s {signal} {}", parent.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        parent.process.wait().unwrap();
    }

    for (signal, parent) in &parents {
        assert!(wait_until(|| !parent.folder.exists()), "SIG{signal} leaves the folder");
        assert!(wait_until(|| !is_running(parent.server)), "SIG{signal} leaves the server");
        assert!(wait_until(|| processes_in(&parent.folder).is_empty()), "SIG{signal}");
    }
}
