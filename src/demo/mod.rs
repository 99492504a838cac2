//! The whole thing in one command, on a real PostgreSQL: find one, make a cluster, start a stand-in for
//! JIRA, put the gates in front of both, take the tour, prove that nothing changed.
//!
//! Everything but JIRA is real: a server that asks for passwords, tables with an owner, our own program
//! as the gate. Nothing is left behind, however this ends ([`scratch`]). The exit code is the verdict.

pub mod client;
pub mod cluster;
pub mod finder;
pub mod gate;
pub mod jira;
pub mod scratch;
pub mod tour;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use uuid::Uuid;

use crate::demo::client::{Client, ClientError, Login};
use crate::demo::cluster::{Cluster, ClusterError, ClusterOptions};
use crate::demo::finder::{FinderError, Search};
use crate::demo::gate::{Behind, Gate, GateError};
use crate::demo::jira::JiraSite;
use crate::demo::tour::jira::JiraTour;
use crate::demo::tour::report::Report;
use crate::demo::tour::{Tour, Trail};

/// Regression runs, results, failures and known issues.
const SEED: &str = include_str!("seed.sql");

/// The role that owns all of them.
const OWNER: &str = "analyst";

/// The database that they are in.
const DATABASE: &str = "regressions";

/// The same as it was loaded, from which the control takes a fresh copy for each attack.
const TEMPLATE: &str = "regressions_seed";

/// Exit code: everything held.
const GOOD: u8 = 0;
/// Exit code: something did not hold, or a step failed.
const FAILED: u8 = 1;
/// Exit code: there is no PostgreSQL here; the message says how to install one.
const PROGRAM_MISSING: u8 = 3;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    /// Stay up after the tour and print how to connect.
    pub keep: bool,
    /// Print the tour's tables and summary only.
    pub tour_only: bool,
    /// Where PostgreSQL is.
    pub pg_bin: Option<PathBuf>,
    /// The program that is started as the gate; this one if `None`.
    pub gate_program: Option<PathBuf>,
    /// The control: no gate at all. Every attack must then be seen to get through, or the tour
    /// would prove nothing.
    pub without_gate: bool,
}

/// Why there was no tour, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The server's.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No PostgreSQL.
    #[error(transparent)]
    Finder(#[from] FinderError),
    /// The gate's.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The gate ended while it was kept up.
    #[error("the gate ended; it said:\n{log}")]
    GateEnded {
        /// The end of its log.
        log: String,
    },
    /// The stand-in for JIRA.
    #[error("cannot start the stand-in for JIRA: {0}")]
    Jira(#[source] io::Error),
    /// Nobody takes the output.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
    /// A connection broke, or the seed was refused.
    #[error("the tour broke off: {0}")]
    Tour(#[from] ClientError),
}

impl DemoError {
    /// The exit code that goes with it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Finder(_) => PROGRAM_MISSING,
            _ => FAILED,
        }
    }
}

/// Runs the demo, printing to standard output; what goes wrong goes to standard error. Returns the
/// exit code: 0 everything held, 1 something did not, 3 no PostgreSQL.
#[must_use]
pub fn run(options: &DemoOptions) -> u8 {
    let outcome = run_to(options, &mut io::stdout().lock());
    match outcome {
        Ok(report) if report.is_good() => GOOD,
        Ok(_) => FAILED,
        Err(error) => {
            // If standard error is closed, the exit code still tells.
            let _ = writeln!(io::stderr(), "rowarden demo: {error}");
            error.exit_code()
        }
    }
}

/// Runs the demo, printing to `out`. With `keep` it returns only when the gate ends or the process
/// is told to stop, which cleans up by itself.
///
/// # Errors
/// When a step before or during the tour fails; what the tour finds is in the report.
pub fn run_to(options: &DemoOptions, out: &mut dyn Write) -> Result<Report, DemoError> {
    let mut steps = Steps { quiet: options.tour_only, begun: Instant::now(), out };
    let installation = Search::here(options.pg_bin.clone()).find()?;
    let (version, bin) = (&installation.version, installation.bin.display());
    steps.done(&format!("found PostgreSQL {version} in {bin}"))?;

    let cluster = Cluster::start(&installation, &cluster_options())?;
    steps.done("made a throw-away cluster, on a unix socket in a private folder only")?;

    let owner = seed(&cluster)?;
    steps.done(&format!("loaded regression runs; role {OWNER} owns them all"))?;

    let site_token = Uuid::new_v4().simple().to_string();
    let site = JiraSite::start(0, &site_token).map_err(DemoError::Jira)?;
    steps.done(&format!(
        "started a stand-in for JIRA on {}, with the issues of these runs",
        site.url()
    ))?;

    let mut gate = None;
    if !options.without_gate {
        let behind = Behind {
            socket_folder: cluster.socket_folder(),
            site: site.url(),
            site_token: &site_token,
        };
        gate = Some(Gate::start(options.gate_program.as_deref(), behind, &owner.login())?);
    }
    let way = gate.as_ref().map_or("NO GATE: this is the control".to_owned(), |gate| {
        format!("started the gates on {} and http://{}", gate.socket_address(), gate.jira_address())
    });
    steps.done(&way)?;

    let jira = JiraTour {
        site: &site,
        site_token: &site_token,
        gate: gate.as_ref().map(|gate| (gate.jira_address(), gate.jira_token())),
        trail: gate.as_ref().map(|gate| Trail::in_folder(gate.audit_folder())),
    };
    let report = take_tour(&cluster, gate.as_ref(), owner.login(), jira)?;
    steps.done("took the tour, looking at the data on a direct connection after each attack")?;
    report.print_tables(steps.out)?;
    report.print_summary(steps.out)?;

    match &mut gate {
        Some(gate) if options.keep => Err(keep(gate, &owner, steps.out)?),
        _ => Ok(report),
    }
}

/// Runs the stand-in for JIRA alone until the process is told to stop, and prints how to reach it.
///
/// # Errors
/// When it cannot be started, or nobody takes the output.
pub fn run_jira_only(out: &mut dyn Write) -> Result<(), DemoError> {
    let token = Uuid::new_v4().simple().to_string();
    let site = JiraSite::start(0, &token).map_err(DemoError::Jira)?;
    writeln!(out, "{} {token}", site.url())?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}

/// Prints what is done, each with its time.
struct Steps<'a> {
    quiet: bool,
    begun: Instant,
    out: &'a mut dyn Write,
}

impl Steps<'_> {
    fn done(&mut self, what: &str) -> io::Result<()> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.begun = Instant::now();
        if self.quiet {
            return Ok(());
        }
        writeln!(self.out, "{seconds:6.2} s  {what}")?;
        self.out.flush()
    }
}

fn cluster_options() -> ClusterOptions {
    let settings = [
        // Statistics that come and go by themselves would change the fingerprint.
        ("autovacuum", "off"),
        // Without this PREPARE TRANSACTION would be no attack.
        ("max_prepared_transactions", "4"),
        // Without this a replication slot would be none.
        ("wal_level", "logical"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    ClusterOptions { settings, ..ClusterOptions::default() }
}

/// The owner of the tables.
struct Owner {
    password: String,
}

impl Owner {
    fn login(&self) -> Login {
        Login::new(OWNER, &self.password, DATABASE)
    }
}

fn seed(cluster: &Cluster) -> Result<Owner, ClientError> {
    let owner = Owner { password: Uuid::new_v4().simple().to_string() };
    let role = format!("CREATE ROLE {OWNER} LOGIN PASSWORD '{}'", owner.password);
    cluster.execute("postgres", &role)?;
    cluster.execute("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {OWNER}"))?;
    Client::connect(&cluster.address(), &owner.login())?.query(SEED)?.into_result()?;
    Ok(owner)
}

fn take_tour(
    cluster: &Cluster,
    gate: Option<&Gate>,
    owner: Login,
    jira: JiraTour<'_>,
) -> Result<Report, DemoError> {
    let restore = || restore(cluster);
    if gate.is_none() {
        let copy = format!("CREATE DATABASE {TEMPLATE} TEMPLATE {DATABASE}");
        cluster.execute("postgres", &copy)?;
    }
    let tour = Tour {
        address: gate.map_or_else(|| cluster.address(), Gate::address),
        direct: cluster.address(),
        owner,
        examiner: cluster.superuser(DATABASE),
        trail: gate.map(|gate| Trail::in_folder(gate.audit_folder())),
        restore: if gate.is_some() { None } else { Some(&restore) },
        jira,
    };
    Ok(tour.walk()?)
}

/// Puts the database back, for the control: what one attack broke must not stop the next.
fn restore(cluster: &Cluster) -> Result<(), ClientError> {
    let pending = "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts";
    let pending = cluster.execute(DATABASE, pending)?;
    if let Some(rollback) = pending.value() {
        cluster.execute(DATABASE, rollback)?;
    }
    cluster.execute("postgres", &format!("DROP DATABASE {DATABASE} WITH (FORCE)"))?;
    let copy = format!("CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE} OWNER {OWNER}");
    cluster.execute("postgres", &copy)?;
    cluster.execute("postgres", &format!("ALTER ROLE {OWNER} RESET ALL"))?;
    Ok(())
}

/// Prints how to connect, then waits. A signal ends the process, and with it everything.
fn keep(gate: &mut Gate, owner: &Owner, out: &mut dyn Write) -> Result<DemoError, DemoError> {
    let (address, password) = (gate.socket_address(), &owner.password);
    let url = format!("postgresql://{OWNER}:{password}@{address}/{DATABASE}");
    writeln!(out, "\nThe gates stay up. The password is the owner's; try to write.\n")?;
    writeln!(out, "  psql '{url}' -c 'SELECT * FROM lab.flaky'")?;
    writeln!(
        out,
        "  python3 -c \"import psycopg; print(psycopg.connect('{url}').execute('SELECT * FROM lab.flaky').fetchall())\""
    )?;
    let (jira, token) = (gate.jira_address(), gate.jira_token());
    let bearer = format!("-H 'Authorization: Bearer {token}'");
    writeln!(out, "  curl {bearer} http://{jira}/rest/api/2/issue/COMP-101")?;
    writeln!(out, "  curl {bearer} -X DELETE http://{jira}/rest/api/2/issue/COMP-101")?;
    writeln!(out, "  tail -f {}/audit-*.jsonl", gate.audit_folder().display())?;
    writeln!(out, "\nCtrl-C stops everything and removes it.")?;
    out.flush()?;
    Ok(DemoError::GateEnded { log: gate.watch()? })
}

#[cfg(test)]
mod tests {
    use super::{DemoOptions, run};

    #[test]
    fn without_a_postgresql_the_exit_code_says_that_a_program_is_missing() {
        let options =
            DemoOptions { pg_bin: Some("/no/such/folder".into()), ..DemoOptions::default() };

        assert_eq!(run(&options), 3);
    }
}
