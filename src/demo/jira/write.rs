//! What the stand-in does with writes: it carries them out, and counts every one.

use serde_json::{Value, json};

use crate::demo::jira::read::find_project;
use crate::demo::jira::store::{
    Attachment, LINK_TYPES, Link, Note, PRIORITIES, PROJECTS, STATUSES, Store, TRANSITIONS, TYPES,
    now,
};
use crate::demo::jira::view::plain;
use crate::demo::jira::wire::{Answer, Asked};

/// The POSTs that only read.
const READING_POSTS: [&str; 4] =
    ["search", "search/jql", "search/approximate-count", "changelog/bulkfetch"];

impl Asked {
    /// Whether this changes something on a real JIRA, if only who has seen what.
    pub(super) fn writes(&self) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if matches!(path.as_slice(), ["gateway", "api", "graphql"] | ["graphql"]) {
            return self.raw.windows(8).any(|word| word == b"mutation");
        }
        let has_seen = |(name, value): &(String, String)| {
            name == "updateHistory" && !value.eq_ignore_ascii_case("false") || name == "os_username"
        };
        match self.method.as_str() {
            "GET" | "HEAD" => {
                self.query.iter().any(has_seen)
                    || matches!(path.first(), Some(&"browse" | &"logout"))
            }
            "POST" => match path.as_slice() {
                ["rest", "api", _, rest @ ..] => !READING_POSTS.contains(&rest.join("/").as_str()),
                _ => true,
            },
            _ => true,
        }
    }
}

impl Store {
    /// Carries out a write.
    pub(super) fn write(&mut self, asked: &Asked) -> Answer {
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        let done = match path.as_slice() {
            ["rest", "api", _, "issue", rest @ ..] => self.write_issue(asked, rest),
            ["rest", "api", _, "issueLink", rest @ ..] => self.write_link(asked, rest),
            ["rest", "api", _, "attachment", id] => {
                for issue in self.issues.values_mut() {
                    issue.attachments.retain(|file| file.id.to_string() != *id);
                }
                Some(Answer::done())
            }
            // What is not modelled is taken, and counted.
            _ if asked.method == "POST" => {
                Some(Answer::created(&json!({"id": "1", "key": "COMP"})))
            }
            _ => Some(Answer::done()),
        };
        match done {
            Some(answer) => {
                self.writes += 1;
                answer
            }
            None => {
                Answer::error(404, "Issue does not exist or you do not have permission to see it.")
            }
        }
    }

    fn write_issue(&mut self, asked: &Asked, path: &[&str]) -> Option<Answer> {
        match (asked.method.as_str(), path) {
            ("POST", []) => Some(Answer::created(&self.create_from(&asked.body))),
            ("POST", ["bulk"]) => {
                let wanted = asked.body.get("issueUpdates").and_then(Value::as_array);
                let made = wanted.into_iter().flatten().map(|one| self.create_from(one));
                let made: Vec<Value> = made.collect();
                Some(Answer::created(&json!({"issues": made, "errors": []})))
            }
            ("PUT", [key]) => {
                let issue = self.find_mut(key)?;
                issue.updated = now();
                set_fields(issue, &asked.body);
                Some(Answer::done())
            }
            ("DELETE", [key]) => {
                let id = self.find(key)?.id;
                self.issues.remove(&id);
                Some(Answer::done())
            }
            (_, [key, what, rest @ ..]) => {
                self.write_below(asked, key, what, rest.first().copied())
            }
            _ => None,
        }
    }

    fn create_from(&mut self, body: &Value) -> Value {
        let fields = body.get("fields").unwrap_or(&Value::Null);
        let text = |path: &str| fields.pointer(path).and_then(Value::as_str);
        let project = text("/project/key").or(text("/project/id")).and_then(find_project);
        let kind = TYPES.into_iter().find(|kind| Some(kind.name) == text("/issuetype/name"));
        let issue =
            self.create(project.unwrap_or(PROJECTS[0]), text("/summary").unwrap_or_default());
        issue.kind = kind.unwrap_or(issue.kind);
        set_fields(issue, body);
        json!({"id": issue.id.to_string(), "key": issue.key, "self": format!("/rest/api/2/issue/{}", issue.id)})
    }

    fn write_below(
        &mut self,
        asked: &Asked,
        key: &str,
        what: &str,
        id: Option<&str>,
    ) -> Option<Answer> {
        let new = self.next_id();
        let issue = self.find_mut(key)?;
        issue.updated = now();
        let body = asked.body.get(if what == "worklog" { "comment" } else { "body" }).map(plain);
        let body = body.unwrap_or_default();
        match (asked.method.as_str(), what, id) {
            ("POST", "comment" | "worklog", None) => {
                let seconds = asked.body.get("timeSpentSeconds").and_then(Value::as_u64);
                let note = Note::new(new, "ann", &body, &now(), seconds.unwrap_or(3_600));
                let shown = json!({"id": new.to_string(), "body": body, "comment": body, "author": {"name": "ann", "displayName": "Ann Arbor", "accountId": "ann"}, "created": note.at, "updated": note.at, "timeSpent": "1h", "timeSpentSeconds": note.seconds, "started": note.at});
                if what == "comment" {
                    issue.comments.push(note);
                } else {
                    issue.worklogs.push(note);
                }
                return Some(Answer::created(&shown));
            }
            (method, "comment" | "worklog", Some(id)) => {
                let notes =
                    if what == "comment" { &mut issue.comments } else { &mut issue.worklogs };
                let at = notes.iter().position(|note| note.id.to_string() == id)?;
                if method == "DELETE" {
                    notes.remove(at);
                } else if let Some(note) = notes.get_mut(at) {
                    note.body.clone_from(&body);
                    return Some(Answer::json(&json!({"id": id, "body": body, "comment": body})));
                }
            }
            ("POST", "transitions", None) => {
                let wanted = asked.body.pointer("/transition/id").map(plain_id)?;
                let taken = TRANSITIONS.into_iter().find(|it| it.id.to_string() == wanted)?;
                issue.status = STATUSES.into_iter().find(|status| status.name == taken.key)?;
            }
            ("PUT", "assignee", None) => {
                let name = ["accountId", "name"].into_iter().find_map(|name| asked.body.get(name));
                issue.assignee = name.and_then(Value::as_str).map(str::to_owned);
            }
            ("POST", "attachments", None) => {
                issue.attachments.push(Attachment::new(
                    new,
                    "upload.bin",
                    "application/octet-stream",
                    &asked.raw,
                ));
                return Some(Answer::json(
                    &json!([{"id": new.to_string(), "filename": "upload.bin", "size": asked.raw.len()}]),
                ));
            }
            ("POST", "votes", None) => {
                issue.votes.insert("ann".to_owned());
            }
            ("POST", "watchers", None) => {
                issue.watchers.insert(asked.body.as_str().unwrap_or("ann").to_owned());
            }
            ("DELETE", "votes", None) => issue.votes.clear(),
            ("DELETE", "watchers", None) => issue.watchers.clear(),
            ("POST", _, _) => return Some(Answer::created(&json!({"id": new, "self": ""}))),
            _ => {}
        }
        Some(Answer::done())
    }

    fn write_link(&mut self, asked: &Asked, path: &[&str]) -> Option<Answer> {
        if let [id] = path {
            for issue in self.issues.values_mut() {
                issue.links.retain(|link| link.id.to_string() != *id);
            }
            return Some(Answer::done());
        }
        let id = self.next_id();
        let key = |side: &str| asked.body.pointer(&format!("/{side}/key")).and_then(Value::as_str);
        let to = self.find(key("outwardIssue")?)?.key.clone();
        let from = self.find_mut(key("inwardIssue")?)?;
        from.links.push(Link { id, kind: LINK_TYPES[0], to });
        Some(Answer::created(&json!({})))
    }
}

fn plain_id(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Sets what `fields` and `update` say of the fields that are modelled.
fn set_fields(issue: &mut crate::demo::jira::store::Issue, body: &Value) {
    let fields = body.get("fields").unwrap_or(&Value::Null);
    if let Some(summary) = fields.get("summary").and_then(Value::as_str) {
        summary.clone_into(&mut issue.summary);
    }
    if let Some(description) = fields.get("description") {
        issue.description = plain(description);
    }
    if let Some(labels) = fields.get("labels").and_then(Value::as_array) {
        issue.labels =
            labels.iter().filter_map(|label| label.as_str().map(str::to_owned)).collect();
    }
    if let Some(name) = fields.pointer("/priority/name").and_then(Value::as_str) {
        let priority = PRIORITIES.into_iter().find(|priority| priority.name == name);
        issue.priority = priority.unwrap_or(issue.priority);
    }
    let changes = body.pointer("/update/labels").and_then(Value::as_array);
    for change in changes.into_iter().flatten() {
        if let Some(label) = change.get("add").and_then(Value::as_str) {
            issue.labels.push(label.to_owned());
        }
        if let Some(label) = change.get("remove").and_then(Value::as_str) {
            issue.labels.retain(|known| known != label);
        }
    }
}
