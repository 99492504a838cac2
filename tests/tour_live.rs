//! The tour without a gate: the control. Every attack must be seen to do what it is there for, or
//! its refusal behind the gate would prove nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in what it shares")]

use rowarden::demo::gate::GateError;
use rowarden::demo::tour::{Layer, Unguarded};
use rowarden::demo::{DemoError, DemoOptions, run_to};

#[test]
fn without_a_gate_every_attack_does_what_it_is_there_for() {
    let options = DemoOptions { without_gate: true, ..DemoOptions::default() };
    let mut output = Vec::new();

    let report = run_to(&options, &mut output).unwrap();

    println!("{}", String::from_utf8(output).unwrap());
    assert!(!report.is_good());
    assert!(report.reads.len() >= 10 && report.attacks.len() >= 30);
    for outcome in &report.reads {
        assert_eq!(outcome.difference, None, "{}", outcome.read.title);
    }
    for outcome in &report.attacks {
        let found = match (&outcome.layer, outcome.changed) {
            (Layer::Open, true) => Unguarded::Changes,
            (Layer::Open, false) => Unguarded::Runs,
            _ => Unguarded::Refused,
        };
        assert_eq!(found, outcome.attack.unguarded, "{}: {outcome:?}", outcome.attack.title);
    }
    assert!(report.jira.reads.len() >= 10 && report.jira.attacks.len() >= 20);
    for outcome in &report.jira.reads {
        assert_eq!(outcome.difference, None, "{}", outcome.read.title);
    }
    for outcome in &report.jira.attacks {
        assert_eq!(outcome.layer, Layer::Open, "{}: {outcome:?}", outcome.attack.title);
        assert_ne!(outcome.arrived, 0, "{}: {outcome:?}", outcome.attack.title);
    }
}

#[test]
fn a_gate_that_ends_at_once_is_a_failure_and_never_a_tour() {
    let options = DemoOptions { gate_program: Some("/bin/false".into()), ..DemoOptions::default() };

    let error = run_to(&options, &mut Vec::new()).unwrap_err();

    assert_eq!(error.exit_code(), 1);
    assert!(matches!(error, DemoError::Gate(GateError::Unusable { .. })), "{error}");
}
