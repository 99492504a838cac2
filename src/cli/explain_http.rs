//! `rowarden explain http`: the verdict on a request to JIRA offline.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::{Deserialize, Serialize};

use crate::cli::source::{self, Audience};
use crate::cli::{Exit, complain};
use crate::policy::jira::judge::{JiraDenial, JiraRead, route};
use crate::policy::jira::operation::Group;
use crate::policy::jira::table::JiraPolicy;
use crate::policy::jira::target::origin_form;

/// The verdict on an HTTP request to JIRA
#[derive(Args, Debug)]
pub(super) struct Http {
    /// The method
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    method: Option<String>,
    /// Path and query, as on the wire; a URL with http:// will do as well
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    target: Option<std::ffi::OsString>,
    /// The body, JSON; without it the request is judged up to the body
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    body: Option<String>,
    /// Judge each line of a file, an object with `method`, `target` and, if there is one, `body` and
    /// `content_type`; prints one JSON object a line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Judge as if these groups of sensitive reads were open
    #[arg(long, value_name = "GROUP", value_delimiter = ',', value_parser = group_parser())]
    open: Vec<Group>,
    /// Judge by the policy of this configuration, with the groups that it opens
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    config: Option<PathBuf>,
    /// Judge by the policy in this folder
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn group_parser() -> impl TypedValueParser<Value = Group> {
    PossibleValuesParser::new(Group::ALL.map(Group::name))
        .try_map(|name| Group::from_name(&name).ok_or("no such group"))
}

/// A request on one line of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    target: String,
    body: Option<String>,
    #[serde(default = "json_type")]
    content_type: String,
}

fn json_type() -> String {
    "application/json".to_owned()
}

/// The verdict, as programs read it. Keys that a verdict has nothing for are null.
#[derive(Serialize)]
struct Answer {
    decision: &'static str,
    reason: &'static str,
    operation: String,
    rule: Option<&'static str>,
    status: Option<u16>,
    message: Option<String>,
    hint: Option<&'static str>,
    note: Option<String>,
    /// What goes up.
    target: Option<String>,
}

pub(super) fn run(http: &Http, out: &mut impl Write) -> io::Result<Exit> {
    let policy = match policy_for(http, out)? {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    if let Some(file) = &http.file {
        return match File::open(file) {
            Ok(lines) => judge_lines(BufReader::new(lines), &policy, out),
            Err(error) => {
                complain(&format!("`{}` cannot be read: {error}", file.display()));
                Ok(Exit::BadConfiguration)
            }
        };
    }
    let (method, target) = (http.method.as_deref(), http.target.as_deref());
    let target = target.unwrap_or_default().as_bytes();
    let body = http.body.as_deref();
    let answer = Answer::of(judge(&policy, method.unwrap_or_default(), target, body, &json_type()));
    if http.json {
        answer.print_json(out)?;
    } else {
        answer.print(out)?;
    }
    Ok(Exit::Good)
}

fn policy_for(http: &Http, out: &mut impl Write) -> io::Result<Result<JiraPolicy, Exit>> {
    let config = match &http.config {
        Some(file) => match source::read_config(file, Audience::People, out)? {
            Ok(config) => Some(config),
            Err(exit) => return Ok(Err(exit)),
        },
        None => None,
    };
    let folder = config.as_ref().and_then(|config| config.policy_dir.as_deref());
    let policy =
        source::read_jira_policy(http.policy.as_deref().or(folder), Audience::People, out)?;
    let groups = config.and_then(|config| config.jira).map(|jira| jira.groups).unwrap_or_default();
    Ok(policy.map(|policy| policy.open(groups).open(http.open.iter().copied())))
}

/// Judges a request as the gate does, the body only if it is known.
fn judge(
    policy: &JiraPolicy,
    method: &str,
    target: &[u8],
    body: Option<&str>,
    content_type: &str,
) -> Result<JiraRead, JiraDenial> {
    let routed = route(policy, method, origin_form(target).unwrap_or(target))?;
    match body {
        None => Ok(routed.before_body()),
        Some(body) => {
            let cleared = routed.clear(Some(body.as_bytes().to_vec()), Some(content_type))?;
            Ok(cleared.request().clone())
        }
    }
}

/// Judges one request a line. A line that holds none ends it: a request that was skipped would look
/// like one that was judged.
fn judge_lines(lines: impl BufRead, policy: &JiraPolicy, out: &mut impl Write) -> io::Result<Exit> {
    for (index, line) in lines.lines().enumerate() {
        let Ok(request) = serde_json::from_str::<Request>(&line?) else {
            let number = index + 1;
            complain(&format!("line {number}: not an object with `method` and `target`"));
            return Ok(Exit::BadConfiguration);
        };
        let Request { method, target, body, content_type } = request;
        let verdict = judge(policy, &method, target.as_bytes(), body.as_deref(), &content_type);
        Answer::of(verdict).print_json(out)?;
    }
    Ok(Exit::Good)
}

impl Answer {
    fn of(verdict: Result<JiraRead, JiraDenial>) -> Self {
        match verdict {
            Ok(read) => Self {
                decision: "allow",
                reason: "ok",
                operation: read.operation,
                rule: None,
                status: None,
                message: None,
                hint: None,
                note: None,
                target: Some(read.target),
            },
            Err(denial) => Self {
                decision: "deny",
                reason: denial.reason.code(),
                rule: Some(denial.rule),
                status: Some(denial.reason.http_status()),
                message: Some(denial.message()),
                hint: Some(denial.reason.hint()),
                note: Some(denial.note),
                operation: denial.operation,
                target: None,
            },
        }
    }

    fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{:<10}{}", self.decision, self.operation)?;
        let status = self.status.map(|status| status.to_string());
        let reason = self.message.is_some().then_some(self.reason);
        for (name, value) in [
            ("reason", reason),
            ("rule", self.rule),
            ("status", status.as_deref()),
            ("message", self.message.as_deref()),
            ("note", self.note.as_deref()),
            ("hint", self.hint),
            ("target", self.target.as_deref()),
        ] {
            if let Some(value) = value {
                writeln!(out, "  {name:<10}{value}")?;
            }
        }
        Ok(())
    }
}
