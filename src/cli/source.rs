//! Reads the configuration and the policy that a command was given, and tells the operator all that is wrong.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::cli::report::{self, Colours};
use crate::cli::{Exit, complain};
use crate::config::Config;
use crate::policy::document::Mistakes;
use crate::policy::file::Policy;
use crate::policy::jira::table::JiraPolicy;

/// The PostgreSQL half of a policy folder.
const POLICY_FILE: &str = "readonly.toml";

/// The JIRA half: the table of operations, in place of the one that is built in.
const JIRA_TABLE_FILE: &str = "jira.toml";

/// Operations that the operator adds to it.
const JIRA_RULES_FILE: &str = "jira-rules.toml";

/// How the mistakes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// On standard error, with a caret.
    People,
    /// On standard output, in JSON lines.
    Programs,
}

/// Reads a file and what it says.
///
/// # Errors
/// The outer one when `out` cannot be written; the inner one, after the operator has been told,
/// when the file cannot be read or has mistakes.
pub(super) fn read<T>(
    file: &Path,
    parse: impl FnOnce(&str) -> Result<T, Mistakes>,
    audience: Audience,
    out: &mut impl Write,
) -> io::Result<Result<T, Exit>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            match audience {
                Audience::People => complain(&format!("`{}` {message}", file.display())),
                Audience::Programs => report::whole_file_for_programs(file, &message, out)?,
            }
            return Ok(Err(Exit::BadConfiguration));
        }
    };
    match parse(&text) {
        Ok(meant) => Ok(Ok(meant)),
        Err(mistakes) => {
            tell(file, &text, &mistakes, audience, out)?;
            Ok(Err(Exit::BadConfiguration))
        }
    }
}

/// Reads a configuration; as [`read`].
pub(super) fn read_config(
    file: &Path,
    audience: Audience,
    out: &mut impl Write,
) -> io::Result<Result<Config, Exit>> {
    read(file, |text| Config::parse(text, file), audience, out)
}

/// Reads the rules for SQL that a configuration names, if it has a gate for it; as [`read`].
pub(super) fn read_policy(
    config: &Config,
    audience: Audience,
    out: &mut impl Write,
) -> io::Result<Result<Option<Policy>, Exit>> {
    if config.postgres.is_none() {
        return Ok(Ok(None));
    }
    Ok(read_policy_in(config.policy_dir.as_deref(), audience, out)?.map(Some))
}

/// Reads the policy in a folder, or the one that is built in; as [`read`]. A folder that holds no
/// policy is a mistake: the operator meant another one than the built-in.
pub(super) fn read_policy_in(
    folder: Option<&Path>,
    audience: Audience,
    out: &mut impl Write,
) -> io::Result<Result<Policy, Exit>> {
    match folder {
        Some(folder) => read(&folder.join(POLICY_FILE), Policy::parse, audience, out),
        None => match Policy::shipped() {
            Ok(policy) => Ok(Ok(policy)),
            Err(mistakes) => Err(io::Error::other(mistakes)),
        },
    }
}

/// Reads the rules for JIRA in a folder, each file in place of none or of the one that is built in; as
/// [`read`]. A folder that holds no policy at all is a mistake: the operator meant another one.
pub(super) fn read_jira_policy(
    folder: Option<&Path>,
    audience: Audience,
    out: &mut impl Write,
) -> io::Result<Result<JiraPolicy, Exit>> {
    let shipped = || JiraPolicy::shipped().map_err(io::Error::other);
    let Some(folder) = folder else { return shipped().map(Ok) };
    let [table, rules] = [JIRA_TABLE_FILE, JIRA_RULES_FILE].map(|name| folder.join(name));
    let has_policy =
        [&folder.join(POLICY_FILE), &table, &rules].into_iter().any(|file| file.exists());
    let policy = if table.exists() || !has_policy {
        match read(&table, JiraPolicy::parse, audience, out)? {
            Ok(policy) => policy,
            Err(exit) => return Ok(Err(exit)),
        }
    } else {
        shipped()?
    };
    if !rules.exists() {
        return Ok(Ok(policy));
    }
    read(&rules, |text| policy.with_rules(text), audience, out)
}

fn tell(
    file: &Path,
    text: &str,
    mistakes: &Mistakes,
    audience: Audience,
    out: &mut impl Write,
) -> io::Result<()> {
    match audience {
        Audience::Programs => report::for_programs(file, text, mistakes, out),
        Audience::People => {
            let mut stderr = io::stderr().lock();
            let colours = if stderr.is_terminal() { Colours::On } else { Colours::Off };
            report::for_people(file, text, mistakes, colours, &mut stderr)
        }
    }
}
