//! Our own program with `serve`, as an operator runs it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rowarden::listen::Address;

/// The program with these arguments and this configuration.
pub(crate) fn rowarden(arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowarden"));
    command.args(arguments).arg("--config").arg(file).env_remove("ROWARDEN_LOG");
    command
}

/// A running `rowarden serve`.
pub(crate) struct Serving {
    process: Child,
    address: Address,
}

impl Serving {
    /// Starts it and reads from its log on which port it listens.
    pub(crate) fn start(file: &Path) -> Self {
        let mut process = rowarden(&["serve"], file).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut serving = Self { process, address: Address::Tcp(([127, 0, 0, 1], 0).into()) };
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended early");
        }
        let (_, address) = line.split_once("listening on ").unwrap();
        let address = address.split_whitespace().next().unwrap().parse().unwrap();
        serving.address = Address::Tcp(address);
        // Read to its end: a process that cannot write its log would be another test.
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        serving
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Tells it to stop.
    pub(crate) fn tell_to_stop(&self) {
        let kill = format!("kill -s TERM {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end and returns its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// Tells it to stop and returns its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.tell_to_stop();
        self.wait()
    }

    /// Ends it by a signal that cannot be caught.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended long ago unless a test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
