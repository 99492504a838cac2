//! What the stand-in remembers: projects, people, issues and all that hangs on them, and how often it
//! was changed.
//!
//! The issues are those of the regression data (`lab.known_issue` in `seed.sql`), so that a tour can go
//! from a failure to its issue.

use std::collections::{BTreeMap, BTreeSet};

/// Somebody with an account.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// Name, key and account id in one.
    pub(super) name: &'static str,
    pub(super) display_name: &'static str,
}

/// Everybody. The first one is whom every valid credential belongs to.
pub(super) const USERS: [User; 3] = [
    User { name: "ann", display_name: "Ann Arbor" },
    User { name: "ben", display_name: "Ben Bow" },
    User { name: "cem", display_name: "Cem Cay" },
];

/// A named thing with a number: a project, a status, a priority, a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: u64,
    pub(super) name: &'static str,
    /// Key of a project, key of a status's category; else empty.
    pub(super) key: &'static str,
}

const fn named(id: u64, name: &'static str, key: &'static str) -> Named {
    Named { id, name, key }
}

pub(super) const PROJECTS: [Named; 2] =
    [named(10_000, "Compiler", "COMP"), named(10_001, "Test farm", "FARM")];
pub(super) const STATUSES: [Named; 3] =
    [named(1, "Open", "new"), named(3, "In Progress", "indeterminate"), named(6, "Closed", "done")];
/// From where it leads does not matter; `key` is the name of the status that it leads to.
pub(super) const TRANSITIONS: [Named; 3] =
    [named(11, "Start", "In Progress"), named(21, "Close", "Closed"), named(31, "Reopen", "Open")];
pub(super) const PRIORITIES: [Named; 3] =
    [named(2, "High", ""), named(3, "Medium", ""), named(4, "Low", "")];
pub(super) const TYPES: [Named; 4] =
    [named(1, "Bug", ""), named(3, "Task", ""), named(5, "Sub-task", ""), named(10, "Epic", "")];
pub(super) const RESOLUTIONS: [Named; 2] = [named(1, "Fixed", ""), named(2, "Won't Fix", "")];
pub(super) const LINK_TYPES: [Named; 2] = [named(100, "Blocks", ""), named(101, "Relates", "")];
pub(super) const COMPONENTS: [Named; 2] = [named(500, "optimiser", ""), named(501, "runtime", "")];
pub(super) const VERSIONS: [Named; 2] = [named(700, "4.0", ""), named(701, "4.1", "")];

/// A text by somebody: a comment, or a worklog with the seconds that it tells of.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) author: String,
    pub(super) body: String,
    pub(super) at: String,
    pub(super) seconds: u64,
}

/// A file on an issue.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub(super) id: u64,
    pub(super) file_name: String,
    pub(super) media_type: String,
    pub(super) content: Vec<u8>,
}

/// A link from this issue to another one.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) kind: Named,
    pub(super) to: String,
}

/// One field that was changed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) id: u64,
    pub(super) at: String,
    pub(super) field: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// An issue.
#[derive(Clone, Debug)]
pub(super) struct Issue {
    pub(super) id: u64,
    pub(super) key: String,
    pub(super) project: Named,
    pub(super) kind: Named,
    pub(super) summary: String,
    pub(super) description: String,
    pub(super) status: Named,
    pub(super) priority: Named,
    pub(super) resolution: Option<Named>,
    pub(super) assignee: Option<String>,
    pub(super) reporter: String,
    pub(super) parent: Option<String>,
    pub(super) labels: Vec<String>,
    pub(super) created: String,
    pub(super) updated: String,
    pub(super) comments: Vec<Note>,
    pub(super) worklogs: Vec<Note>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) links: Vec<Link>,
    pub(super) votes: BTreeSet<String>,
    pub(super) watchers: BTreeSet<String>,
    pub(super) history: Vec<Change>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Store {
    /// By number, so in the order in which they were made.
    pub(super) issues: BTreeMap<u64, Issue>,
    /// How often anything was changed.
    pub(super) writes: u64,
    next: u64,
}

/// When everything was made that was there from the start.
const BEGINNING: &str = "2026-10-02T08:00:00.000+0000";

/// A picture of one pixel.
const PIXEL: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
\0\0\0\rIDATx\x9cc\xf8\xff\xff?\0\x05\xfe\x02\xfe\xa75\x81\x84\0\0\0\0IEND\xaeB`\x82";

impl Store {
    /// The issues of the regression data.
    pub(super) fn seeded() -> Self {
        let mut store = Self { issues: BTreeMap::new(), writes: 0, next: 20_000 };
        let [open, busy, closed] = STATUSES;
        for (key, kind, status, summary) in [
            ("COMP-90", TYPES[3], busy, "Loop optimisations of release 4"),
            ("COMP-98", TYPES[0], closed, "Update of the flags register is dropped"),
            ("COMP-101", TYPES[0], busy, "Dominance is lost after loop rotation"),
            ("COMP-117", TYPES[0], open, "Farm machine 2 is slow"),
            ("COMP-123", TYPES[0], open, "Delete of arrays with cookies leaks"),
            ("COMP-124", TYPES[2], open, "Reduce the example of the leak"),
            ("FARM-7", TYPES[1], open, "Replace the disk of farm machine 2"),
        ] {
            store.add_seed(key, kind, status, summary);
        }
        store.hang_on_details();
        store
    }

    fn add_seed(&mut self, key: &str, kind: Named, status: Named, summary: &str) {
        let project = PROJECTS.into_iter().find(|project| key.starts_with(project.key));
        let id = 10_001 + self.issues.len() as u64;
        let mut issue = Issue::new(id, key, project.unwrap_or(PROJECTS[0]), summary, BEGINNING);
        issue.kind = kind;
        issue.status = status;
        issue.description = format!("{summary}.\nSeen in the nightly runs; see the log.");
        issue.labels = vec!["regression".to_owned(), key.to_ascii_lowercase()];
        issue.resolution = (status.key == "done").then_some(RESOLUTIONS[0]);
        issue.assignee = (status.key != "new").then(|| "ben".to_owned());
        issue.watchers.insert("cem".to_owned());
        self.issues.insert(id, issue);
    }

    fn hang_on_details(&mut self) {
        let [note, work, log, picture, link, change] = std::array::from_fn(|_| self.next_id());
        if let Some(issue) = self.find_mut("COMP-101") {
            issue.parent = Some("COMP-90".to_owned());
            let body = "Bisected to the rotation of loops with two exits. Do not delete the test.";
            issue.comments.push(Note::new(note, "ben", body, BEGINNING, 0));
            issue.worklogs.push(Note::new(work, "ben", "Bisecting", BEGINNING, 5_400));
            issue.votes.insert("cem".to_owned());
            issue.attachments = vec![
                Attachment::new(log, "night 14.log", "text/plain", b"use is not dominated\n"),
                Attachment::new(picture, "graph.png", "image/png", PIXEL),
            ];
            issue.links.push(Link { id: link, kind: LINK_TYPES[0], to: "FARM-7".to_owned() });
            issue.history.push(Change {
                id: change,
                at: BEGINNING.to_owned(),
                field: "status".to_owned(),
                from: "Open".to_owned(),
                to: "In Progress".to_owned(),
            });
        }
        if let Some(issue) = self.find_mut("COMP-124") {
            issue.parent = Some("COMP-123".to_owned());
        }
    }

    /// A number that nothing has yet.
    pub(super) const fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// An issue by key or number.
    pub(super) fn find(&self, key_or_id: &str) -> Option<&Issue> {
        self.issues.values().find(|issue| issue.is_called(key_or_id))
    }

    /// The same, to be changed.
    pub(super) fn find_mut(&mut self, key_or_id: &str) -> Option<&mut Issue> {
        self.issues.values_mut().find(|issue| issue.is_called(key_or_id))
    }

    /// A new issue of a project, with the next key of it.
    pub(super) fn create(&mut self, project: Named, summary: &str) -> &mut Issue {
        let numbers = self.issues.values().filter(|issue| issue.project == project);
        let last = numbers.filter_map(|issue| issue.key.rsplit_once('-')?.1.parse().ok()).max();
        let key = format!("{}-{}", project.key, last.unwrap_or(0_u64) + 1);
        let id = self.next_id();
        let issue = Issue::new(id, &key, project, summary, &now());
        self.issues.entry(id).or_insert(issue)
    }

    /// The attachment with this number.
    pub(super) fn attachment(&self, id: u64) -> Option<&Attachment> {
        self.issues.values().flat_map(|issue| &issue.attachments).find(|file| file.id == id)
    }
}

impl Issue {
    pub(super) fn new(id: u64, key: &str, project: Named, summary: &str, at: &str) -> Self {
        Self {
            id,
            key: key.to_owned(),
            project,
            kind: TYPES[0],
            summary: summary.to_owned(),
            description: String::new(),
            status: STATUSES[0],
            priority: PRIORITIES[1],
            resolution: None,
            assignee: None,
            reporter: "ann".to_owned(),
            parent: None,
            labels: Vec::new(),
            created: at.to_owned(),
            updated: at.to_owned(),
            comments: Vec::new(),
            worklogs: Vec::new(),
            attachments: Vec::new(),
            links: Vec::new(),
            votes: BTreeSet::new(),
            watchers: BTreeSet::new(),
            history: Vec::new(),
        }
    }

    fn is_called(&self, key_or_id: &str) -> bool {
        self.key == key_or_id || self.id.to_string() == key_or_id
    }
}

impl Note {
    pub(super) fn new(id: u64, author: &str, body: &str, at: &str, seconds: u64) -> Self {
        let (author, body, at) = (author.to_owned(), body.to_owned(), at.to_owned());
        Self { id, author, body, at, seconds }
    }
}

impl Attachment {
    pub(super) fn new(id: u64, file_name: &str, media_type: &str, content: &[u8]) -> Self {
        let (file_name, media_type) = (file_name.to_owned(), media_type.to_owned());
        Self { id, file_name, media_type, content: content.to_vec() }
    }
}

/// The present time as JIRA writes it.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}
