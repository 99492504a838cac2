//! One operation of JIRA: what it is called, how it is asked for, and what it does.

use crate::policy::jira::query::Parameter;
use crate::policy::jira::router::Method;
use crate::policy::jira::template::Template;

/// Reads that show more than issues need. Each group is closed until the operator opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Settings, schemes, permissions and jobs of the site.
    AdminReads,
    /// Branches, commits and builds of an issue; an interface without documents.
    DevStatus,
    /// Expressions that the client brings and the site computes.
    Expressions,
    /// Who people are: addresses, group members, the directory.
    PersonalData,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 4] =
        [Self::AdminReads, Self::DevStatus, Self::Expressions, Self::PersonalData];

    /// Its name in the configuration and in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminReads => "admin-reads",
            Self::DevStatus => "dev-status",
            Self::Expressions => "expressions",
            Self::PersonalData => "personal-data",
        }
    }

    /// The rule that refuses while it is closed.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::AdminReads => "groups.admin-reads",
            Self::DevStatus => "groups.dev-status",
            Self::Expressions => "groups.expressions",
            Self::PersonalData => "groups.personal-data",
        }
    }

    /// The group of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It reads.
    Read,
    /// It reads what only an opened group shows.
    Sensitive(Group),
    /// It changes something, if only who has seen what.
    Write,
}

/// How the answer to a read is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyRule {
    /// The bytes of an attachment: JIRA Cloud sends a redirect to a host of its own for files, which
    /// the gate follows without the credential.
    Attachment,
    /// Everything else. URLs in JSON are rewritten, redirects are not followed.
    Plain,
}

/// One entry of the table.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// As users of the `jira` library know it: `search_issues`.
    pub(super) name: String,
    pub(super) method: Method,
    pub(super) template: Template,
    pub(super) class: Class,
    pub(super) query: Vec<Parameter>,
    /// The members that its JSON body may have; `None` if it takes no body.
    pub(super) body: Option<Vec<String>>,
    pub(super) reply: ReplyRule,
}
