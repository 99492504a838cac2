//! What names turn out to be in a real database: every way in which a statement that looks like a read
//! reaches the owner's code is refused before it runs, and what can be proved to read only passes.
//!
//! After each statement the data is looked at: the owner's code writes a row wherever it runs. The same
//! statement, sent directly, must leave that row, or the case shows nothing.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use rowarden::demo::client::{Client, Login, message};
use rowarden::demo::cluster::Cluster;
use rowarden::policy::limits::Limits;
use serde::Deserialize;
use support::gate::{GateSetup, LiveGate, socket_of};
use support::talk::{add_owner, fields, hear, only, reason_and_event};

/// Code that leaves a trace wherever it runs, also where only IMMUTABLE functions are taken.
const SEED: &str = "\
CREATE TABLE hits (n int);
CREATE TABLE ten AS SELECT n, 'n' || n AS name FROM generate_series(1, 10) n;
CREATE TABLE bools (b bool);
INSERT INTO bools VALUES (true);
CREATE FUNCTION touch() RETURNS int LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO public.hits VALUES (1); RETURN 1; END';
CREATE FUNCTION code(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN PERFORM public.touch(); RETURN n; END'";

#[derive(Deserialize)]
struct Cases {
    way: Vec<Way>,
    read: Vec<Read>,
}

#[derive(Deserialize)]
struct Way {
    name: String,
    #[serde(default)]
    setup: Vec<String>,
    sql: String,
    denied: String,
}

#[derive(Deserialize)]
struct Read {
    name: String,
    #[serde(default)]
    setup: Vec<String>,
    sql: String,
}

fn cases() -> Cases {
    toml::from_str(include_str!("ways.toml")).unwrap()
}

/// A server with a gate before it, and a fresh database for each case.
struct Bench {
    cluster: Cluster,
    gate: LiveGate,
    databases: usize,
}

/// A database of one case: its owner directly, and through the gate.
struct Case {
    direct: Client,
    guarded: Client,
}

impl Bench {
    fn set_up() -> Self {
        let cluster = support::cluster();
        add_owner(&cluster, "ann", "secret");
        let login = Login::new("ann", "secret", "ann");
        let mut owner = Client::connect(&cluster.address(), &login).unwrap();
        owner.query(SEED).unwrap().into_result().unwrap();
        drop(owner);
        let gate = GateSetup::before(&[socket_of(&cluster)]).start();
        Self { cluster, gate, databases: 0 }
    }

    fn case(&mut self, name: &str, setup: &[String]) -> Case {
        self.databases += 1;
        let database = format!("case_{}", self.databases);
        let make = format!("CREATE DATABASE {database} OWNER ann TEMPLATE ann");
        self.cluster.execute("postgres", &make).unwrap().into_result().unwrap();
        let login = Login::new("ann", "secret", &database);
        let mut direct = Client::connect(&self.cluster.address(), &login).unwrap();
        for sql in setup {
            let done = direct.query(sql).unwrap().into_result();
            done.unwrap_or_else(|error| panic!("{name}: `{sql}`: {error}"));
        }
        direct.query("DELETE FROM hits").unwrap().into_result().unwrap();
        let guarded = Client::connect(self.gate.address(), &login).unwrap();
        Case { direct, guarded }
    }
}

impl Case {
    fn hits(&mut self) -> String {
        let asked = self.direct.query("SELECT count(*) FROM public.hits").unwrap();
        asked.into_result().unwrap().value().unwrap().to_owned()
    }
}

#[test]
fn every_way_to_code_of_the_owner_is_refused_before_it_runs() {
    let mut bench = Bench::set_up();

    let mut wrong = Vec::new();
    for way in cases().way {
        let mut case = bench.case(&way.name, &way.setup);
        let refused = case.guarded.query(&way.sql).unwrap().into_result();
        let told = match refused {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        let operation = format!("Attempted operation: {}", way.denied);
        if !told.contains(&operation) {
            wrong.push(format!("{}: told `{told}`", way.name));
        }
        assert_eq!(case.hits(), "0", "{}: it ran", way.name);
        case.guarded.query("ROLLBACK").unwrap();
        let alive = case.guarded.query("SELECT 7").unwrap();
        assert_eq!(alive.value(), Some("7"), "{}", way.name);

        let direct = case.direct.query(&way.sql).unwrap().into_result();
        if let Err(error) = direct {
            wrong.push(format!("{}: directly `{error}`", way.name));
        } else if case.hits() == "0" {
            wrong.push(format!("{}: directly it reaches nothing", way.name));
        }
    }

    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_is_proved_to_read_only_passes_beside_code_that_is_not() {
    let mut bench = Bench::set_up();

    let mut wrong = Vec::new();
    for read in cases().read {
        let mut case = bench.case(&read.name, &read.setup);
        let direct = case.direct.query(&read.sql).unwrap().into_result();
        let guarded = case.guarded.query(&read.sql).unwrap().into_result();
        match (direct, guarded) {
            (Ok(direct), Ok(guarded)) => {
                assert_eq!(format!("{guarded:?}"), format!("{direct:?}"), "{}", read.name);
            }
            (direct, guarded) => {
                let told = [direct, guarded].map(|told| told.err().map(|error| error.to_string()));
                wrong.push(format!("{}: {told:?}", read.name));
            }
        }
        assert_eq!(case.hits(), "0", "{}", read.name);
    }

    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_parameter_of_a_type_that_runs_code_is_refused_by_its_number() {
    let mut bench = Bench::set_up();
    let domain = "CREATE DOMAIN dom AS int CHECK (public.code(VALUE) > 0)".to_owned();
    let mut case = bench.case("a parameter", &[domain]);
    let number = case.direct.query("SELECT 'dom'::regtype::oid").unwrap();
    let number: u32 = number.value().unwrap().parse().unwrap();

    let parse = |number: u32| {
        let mut body = b"\0SELECT $1\0\0\x01".to_vec();
        body.extend_from_slice(&number.to_be_bytes());
        message::frame(b'P', &body)
    };
    let run = [message::bind("", "", &[Some("1")]), message::execute(""), message::sync()].concat();
    // A smallint, as drivers send small numbers.
    let plain = case.guarded.ask(&[parse(21), run.clone()].concat()).unwrap();
    assert_eq!(plain.into_result().unwrap().value(), Some("1"));
    case.guarded.send(&[parse(number), run].concat()).unwrap();
    let heard = hear(&mut case.guarded, 1);

    let error = fields(&only(&heard, b'E').body);
    assert_eq!(reason_and_event(&error[&'D']).0, "sql-user-code", "{error:?}");
    assert!(error[&'M'].contains("type dom"), "{error:?}");
    assert_eq!(case.hits(), "0");
}

/// The server plans a prepared statement anew when the path has changed, and takes the other function.
#[test]
fn a_prepared_statement_is_judged_again_when_the_search_path_has_changed() {
    let setup = [
        "CREATE SCHEMA one",
        "CREATE SCHEMA two",
        "CREATE FUNCTION one.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION two.f() RETURNS int LANGUAGE sql AS 'SELECT public.code(2)'",
    ]
    .map(ToOwned::to_owned);
    let prepare = [message::parse("st", "SELECT f()"), message::sync()].concat();
    let run = [message::bind("", "st", &[]), message::execute(""), message::sync()].concat();
    let mut bench = Bench::set_up();
    let mut case = bench.case("a prepared statement", &setup);

    case.guarded.query("SET search_path = one").unwrap().into_result().unwrap();
    case.guarded.query("PREPARE sp AS SELECT f()").unwrap().into_result().unwrap();
    let parsed = case.guarded.ask(&prepare).unwrap().into_result();
    assert!(parsed.is_ok(), "{parsed:?}");
    let first = case.guarded.ask(&run).unwrap().into_result().unwrap();
    assert_eq!(first.value(), Some("1"));
    let first = case.guarded.query("EXECUTE sp").unwrap().into_result().unwrap();
    assert_eq!(first.value(), Some("1"));
    case.guarded.query("SET search_path = two").unwrap().into_result().unwrap();
    let bound = case.guarded.ask(&run).unwrap().into_result().unwrap_err().to_string();
    let executed = case.guarded.query("EXECUTE sp").unwrap().into_result().unwrap_err().to_string();

    assert!(bound.contains("function f"), "{bound}");
    assert!(executed.contains("function f"), "{executed}");
    assert_eq!(case.hits(), "0");
}

#[test]
fn a_session_that_lasts_learns_what_was_made_meanwhile_without_another_login() {
    let cluster = support::cluster();
    add_owner(&cluster, "ann", "secret");
    let login = Login::new("ann", "secret", "ann");
    let mut direct = Client::connect(&cluster.address(), &login).unwrap();
    direct.query(SEED).unwrap().into_result().unwrap();
    let limits = Limits { catalog_age: Duration::from_millis(10), ..Limits::default() };
    let gate = GateSetup::before(&[socket_of(&cluster)]).limited_to(limits).start();
    let mut guarded = Client::connect(gate.address(), &login).unwrap();

    direct.query("CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 5'").unwrap();
    let answer = support::wait_for("the new function to be known", || {
        guarded.query("SELECT harmless()").unwrap().into_result().ok()
    });

    assert_eq!(answer.value(), Some("5"));
    // What was proved may be replaced by what cannot be.
    let replace =
        "CREATE OR REPLACE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT code(1)'";
    direct.query(replace).unwrap().into_result().unwrap();
    support::wait_for("the other body to be known", || {
        let told = guarded.query("SELECT 7, harmless()").unwrap().into_result().err()?.to_string();
        told.contains("function harmless").then_some(())
    });
}

#[test]
fn what_was_made_since_the_last_login_is_known_at_the_next_one() {
    let mut bench = Bench::set_up();
    let mut case = bench.case("a change", &[]);
    let view = "CREATE VIEW later AS SELECT 1 AS n";
    case.direct.query(view).unwrap().into_result().unwrap();
    let login = Login::new("ann", "secret", "case_1");

    let mut next = Client::connect(bench.gate.address(), &login).unwrap();
    assert_eq!(next.query("TABLE later").unwrap().value(), Some("1"));
    let replace = "CREATE OR REPLACE VIEW later AS SELECT code(1) AS n";
    case.direct.query(replace).unwrap().into_result().unwrap();
    drop(Client::connect(bench.gate.address(), &login).unwrap());

    // The session that was open all the time knows it too.
    let told = next.query("TABLE later").unwrap().into_result().unwrap_err().to_string();
    assert!(told.contains("relation later"), "{told}");
    assert_eq!(case.hits(), "0");
}
