//! What the stand-in remembers, as JIRA shows it: version 2 with texts, version 3 with documents.

use serde_json::{Map, Value, json};

use crate::demo::jira::store::{
    Attachment, COMPONENTS, Issue, LINK_TYPES, Named, Note, PRIORITIES, PROJECTS, RESOLUTIONS,
    STATUSES, Store, TRANSITIONS, TYPES, USERS, VERSIONS,
};

/// How texts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// As documents (version 3).
    Documents,
    /// As plain text (version 2).
    Plain,
}

/// Shows things under the site's own address, which it writes into them.
#[derive(Clone, Debug)]
pub(super) struct View<'s> {
    pub(super) store: &'s Store,
    /// `http://127.0.0.1:8080`
    pub(super) base: &'s str,
    /// As the client has asked for: `2`, `3` or `latest`.
    pub(super) version: &'s str,
}

impl View<'_> {
    fn texts(&self) -> Texts {
        if self.version == "3" { Texts::Documents } else { Texts::Plain }
    }

    fn at(&self, path: &str) -> String {
        format!("{}/rest/api/{}/{path}", self.base, self.version)
    }

    fn text(&self, text: &str) -> Value {
        match self.texts() {
            Texts::Plain => json!(text),
            Texts::Documents => {
                let lines = text.lines().map(|line| {
                    json!({"type": "paragraph", "content": [{"type": "text", "text": line}]})
                });
                json!({"type": "doc", "version": 1, "content": lines.collect::<Vec<_>>()})
            }
        }
    }

    /// A person; whoever has no account is shown by name alone.
    pub(super) fn user(&self, name: &str) -> Value {
        let known = USERS.iter().find(|user| user.name == name);
        json!({
            "self": self.at(&format!("user?username={name}")), "name": name, "key": name, "accountId": name,
            "accountType": "atlassian", "emailAddress": format!("{name}@lab.example"),
            "displayName": known.map_or(name, |user| user.display_name), "active": true,
            "timeZone": "Etc/UTC", "locale": "en_US",
            "avatarUrls": {"48x48": format!("{}/secure/useravatar?ownerId={name}", self.base)},
        })
    }

    pub(super) fn users(&self, query: &str) -> Value {
        let query = query.to_lowercase();
        let fits = |name: &str| name.to_lowercase().contains(&query);
        let found = USERS.iter().filter(|user| fits(user.name) || fits(user.display_name));
        found.map(|user| self.user(user.name)).collect()
    }

    pub(super) fn named(&self, path: &str, named: Named) -> Value {
        json!({
            "self": self.at(&format!("{path}/{}", named.id)), "id": named.id.to_string(), "name": named.name,
            "description": "",
        })
    }

    pub(super) fn all(&self, path: &str, all: &[Named]) -> Value {
        all.iter().map(|one| self.named(path, *one)).collect()
    }

    pub(super) fn status(&self, status: Named) -> Value {
        let mut shown = self.named("status", status);
        set(&mut shown, "statusCategory", self.category(status.key));
        shown
    }

    pub(super) fn statuses(&self) -> Value {
        STATUSES.iter().map(|status| self.status(*status)).collect()
    }

    pub(super) fn category(&self, key: &str) -> Value {
        let (id, name) = match key {
            "new" => (2, "To Do"),
            "done" => (3, "Done"),
            _ => (4, "In Progress"),
        };
        let place = self.at(&format!("statuscategory/{id}"));
        json!({"self": place, "id": id, "key": key, "name": name, "colorName": "blue-gray"})
    }

    pub(super) fn kind(&self, kind: Named) -> Value {
        let mut shown = self.named("issuetype", kind);
        set(&mut shown, "subtask", json!(kind.name == "Sub-task"));
        set(&mut shown, "iconUrl", json!(format!("{}/images/icons/{}.svg", self.base, kind.id)));
        shown
    }

    pub(super) fn kinds(&self) -> Value {
        TYPES.iter().map(|kind| self.kind(*kind)).collect()
    }

    pub(super) fn project(&self, project: Named) -> Value {
        let with = |path: &str, all: &[Named]| -> Value {
            all.iter().map(|one| self.of_project(path, project, *one)).collect()
        };
        json!({
            "self": self.at(&format!("project/{}", project.id)), "id": project.id.to_string(),
            "key": project.key, "name": project.name, "projectTypeKey": "software", "simplified": false,
            "description": "What the demo is about", "lead": self.user("ann"), "archived": false,
            "assigneeType": "UNASSIGNED", "issueTypes": self.kinds(), "style": "classic",
            "components": with("component", &COMPONENTS), "versions": with("version", &VERSIONS),
            "roles": {"Developers": self.at(&format!("project/{}/role/10001", project.id))},
            "avatarUrls": {"48x48": format!("{}/secure/projectavatar?pid={}", self.base, project.id)},
        })
    }

    pub(super) fn projects(&self) -> Value {
        PROJECTS.iter().map(|project| self.project(*project)).collect()
    }

    /// A component or version.
    pub(super) fn of_project(&self, path: &str, project: Named, named: Named) -> Value {
        let mut shown = self.named(path, named);
        set(&mut shown, "project", json!(project.key));
        set(&mut shown, "projectId", json!(project.id));
        if path == "version" {
            set(&mut shown, "released", json!(named.name == "4.0"));
            set(&mut shown, "archived", json!(false));
        }
        shown
    }

    pub(super) fn comment(&self, issue: &Issue, note: &Note) -> Value {
        json!({
            "self": self.at(&format!("issue/{}/comment/{}", issue.id, note.id)), "id": note.id.to_string(),
            "author": self.user(&note.author), "updateAuthor": self.user(&note.author),
            "body": self.text(&note.body), "created": note.at, "updated": note.at, "jsdPublic": true,
        })
    }

    pub(super) fn worklog(&self, issue: &Issue, note: &Note) -> Value {
        let (hours, minutes) = (note.seconds / 3_600, note.seconds % 3_600 / 60);
        json!({
            "self": self.at(&format!("issue/{}/worklog/{}", issue.id, note.id)), "id": note.id.to_string(),
            "issueId": issue.id.to_string(), "author": self.user(&note.author), "updateAuthor": self.user(&note.author),
            "comment": self.text(&note.body), "created": note.at, "updated": note.at, "started": note.at,
            "timeSpent": format!("{hours}h {minutes}m"), "timeSpentSeconds": note.seconds,
        })
    }

    pub(super) fn attachment(&self, file: &Attachment) -> Value {
        let name: String = file.file_name.bytes().map(escaped).collect();
        let mut shown = json!({
            "self": self.at(&format!("attachment/{}", file.id)), "id": file.id.to_string(),
            "filename": file.file_name, "author": self.user("ben"), "created": "2026-10-02T08:00:00.000+0000",
            "size": file.content.len(), "mimeType": file.media_type,
            "content": format!("{}/secure/attachment/{}/{name}", self.base, file.id),
        });
        if file.media_type.starts_with("image/") {
            let thumbnail = format!("{}/secure/thumbnail/{}/{name}", self.base, file.id);
            set(&mut shown, "thumbnail", json!(thumbnail));
        }
        shown
    }

    pub(super) fn votes(&self, issue: &Issue) -> Value {
        json!({
            "self": self.at(&format!("issue/{}/votes", issue.key)), "votes": issue.votes.len(), "hasVoted": false,
            "voters": issue.votes.iter().map(|name| self.user(name)).collect::<Vec<_>>(),
        })
    }

    pub(super) fn watchers(&self, issue: &Issue) -> Value {
        json!({
            "self": self.at(&format!("issue/{}/watchers", issue.key)), "isWatching": false,
            "watchCount": issue.watchers.len(),
            "watchers": issue.watchers.iter().map(|name| self.user(name)).collect::<Vec<_>>(),
        })
    }

    pub(super) fn transitions(&self, issue: &Issue) -> Value {
        let open = TRANSITIONS.iter().filter(|transition| transition.key != issue.status.name);
        let shown = open.filter_map(|transition| {
            let to = STATUSES.iter().find(|status| status.name == transition.key)?;
            let id = transition.id.to_string();
            Some(json!({"id": id, "name": transition.name, "to": self.status(*to), "hasScreen": false, "fields": {}}))
        });
        json!({"expand": "transitions", "transitions": shown.collect::<Vec<_>>()})
    }

    pub(super) fn link_type(&self, kind: Named) -> Value {
        let (inward, outward) =
            if kind.id == 100 { ("is blocked by", "blocks") } else { ("relates to", "relates to") };
        let mut shown = self.named("issueLinkType", kind);
        set(&mut shown, "inward", json!(inward));
        set(&mut shown, "outward", json!(outward));
        shown
    }

    pub(super) fn link_types(&self) -> Value {
        let all: Vec<_> = LINK_TYPES.iter().map(|kind| self.link_type(*kind)).collect();
        json!({"issueLinkTypes": all})
    }

    fn links(&self, issue: &Issue) -> Value {
        let shown = issue.links.iter().filter_map(|link| {
            let other = self.store.find(&link.to)?;
            Some(json!({
                "self": self.at(&format!("issueLink/{}", link.id)), "id": link.id.to_string(),
                "type": self.link_type(link.kind), "outwardIssue": self.short(other),
            }))
        });
        shown.collect()
    }

    /// As much of an issue as others show of it.
    fn short(&self, issue: &Issue) -> Value {
        json!({
            "self": self.at(&format!("issue/{}", issue.id)), "id": issue.id.to_string(), "key": issue.key,
            "fields": {
                "summary": issue.summary, "status": self.status(issue.status),
                "priority": self.named("priority", issue.priority), "issuetype": self.kind(issue.kind),
            },
        })
    }

    pub(super) fn changelog(&self, issue: &Issue) -> Value {
        let entry = |change: &crate::demo::jira::store::Change| {
            json!({
                "id": change.id.to_string(), "author": self.user("ben"), "created": change.at,
                "items": [{
                    "field": change.field, "fieldtype": "jira", "fieldId": change.field,
                    "from": null, "fromString": change.from, "to": null, "toString": change.to,
                }],
            })
        };
        issue.history.iter().map(entry).collect()
    }

    /// An issue with the fields that are wanted (`*all`, names, `-name`), and the changelog if it is.
    pub(super) fn issue(&self, issue: &Issue, wanted: &str, expand: &str) -> Value {
        let mut shown = json!({
            "expand": "renderedFields,names,schema,operations,editmeta,changelog",
            "self": self.at(&format!("issue/{}", issue.id)), "id": issue.id.to_string(), "key": issue.key,
        });
        let mut fields = self.all_fields(issue);
        let names: Vec<&str> =
            wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let all = names.is_empty() || names.iter().any(|name| name.starts_with(['*', '-']));
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|name, _| {
                names.contains(&name.as_str())
                    || all && !names.contains(&format!("-{name}").as_str())
            });
        }
        set(&mut shown, "fields", fields);
        if expand.split(',').any(|part| part == "changelog") {
            let histories = self.changelog(issue);
            let total = issue.history.len();
            set(
                &mut shown,
                "changelog",
                json!({"startAt": 0, "maxResults": total, "total": total, "histories": histories}),
            );
        }
        shown
    }

    fn all_fields(&self, issue: &Issue) -> Value {
        let user = |name: &Option<String>| name.as_ref().map(|name| self.user(name));
        let page = |name: &str, items: Vec<Value>| json!({name: items, "maxResults": items.len(), "total": items.len(), "startAt": 0});
        let mut fields = json!({
            "summary": issue.summary, "description": self.text(&issue.description), "labels": issue.labels,
            "status": self.status(issue.status), "issuetype": self.kind(issue.kind),
            "priority": self.named("priority", issue.priority),
            "resolution": issue.resolution.map(|it| self.named("resolution", it)),
            "resolutiondate": issue.resolution.map(|_| issue.updated.clone()), "duedate": null,
            "assignee": user(&issue.assignee), "reporter": self.user(&issue.reporter), "creator": self.user(&issue.reporter),
            "created": issue.created, "updated": issue.updated, "components": [], "fixVersions": [], "versions": [],
            "customfield_10014": issue.parent, "customfield_10020": null,
            "votes": {"votes": issue.votes.len(), "hasVoted": false},
            "watches": {"watchCount": issue.watchers.len(), "isWatching": false},
            "issuelinks": self.links(issue),
            "attachment": issue.attachments.iter().map(|file| self.attachment(file)).collect::<Vec<_>>(),
            "comment": page("comments", issue.comments.iter().map(|note| self.comment(issue, note)).collect()),
            "worklog": page("worklogs", issue.worklogs.iter().map(|note| self.worklog(issue, note)).collect()),
        });
        let project = issue.project;
        set(
            &mut fields,
            "project",
            json!({
                "self": self.at(&format!("project/{}", project.id)), "id": project.id.to_string(), "key": project.key,
                "name": project.name,
            }),
        );
        if let Some(parent) = issue.parent.as_deref().and_then(|key| self.store.find(key)) {
            set(&mut fields, "parent", self.short(parent));
        }
        let below =
            self.store.issues.values().filter(|other| other.parent.as_ref() == Some(&issue.key));
        set(&mut fields, "subtasks", below.map(|other| self.short(other)).collect());
        fields
    }

    /// The field values that an issue of a project may have, for those who want to make one.
    pub(super) fn field_meta(&self) -> Vec<Value> {
        let named = |path: &str, all: &[Named]| self.all(path, all);
        let meta = |id: &str, name: &str, allowed: Value| {
            json!({
                "fieldId": id, "key": id, "name": name, "required": id == "summary", "hasDefaultValue": false,
                "operations": ["set"], "schema": {"type": "string", "system": id}, "allowedValues": allowed,
            })
        };
        vec![
            meta("summary", "Summary", json!([])),
            meta("description", "Description", json!([])),
            meta("priority", "Priority", named("priority", &PRIORITIES)),
            meta("resolution", "Resolution", named("resolution", &RESOLUTIONS)),
        ]
    }
}

/// What fields an issue has.
pub(super) fn fields() -> Value {
    let known = [
        ("summary", "Summary", "string"),
        ("description", "Description", "string"),
        ("status", "Status", "status"),
        ("assignee", "Assignee", "user"),
        ("reporter", "Reporter", "user"),
        ("priority", "Priority", "priority"),
        ("issuetype", "Issue Type", "issuetype"),
        ("labels", "Labels", "array"),
        ("created", "Created", "datetime"),
        ("updated", "Updated", "datetime"),
        ("comment", "Comment", "comments-page"),
        ("attachment", "Attachment", "array"),
        ("customfield_10014", "Epic Link", "any"),
        ("customfield_10020", "Sprint", "array"),
    ];
    let field = |(id, name, kind): (&str, &str, &str)| {
        json!({
            "id": id, "key": id, "name": name, "custom": id.starts_with("custom"), "orderable": true,
            "navigable": true, "searchable": true, "clauseNames": [id],
            "schema": {"type": kind, "system": id},
        })
    };
    known.into_iter().map(field).collect()
}

/// Sets a member of an object.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// The text of a plain text or of a document.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join("\n"),
        Value::Object(node) => {
            let own: Option<&Map<String, Value>> = Some(node);
            let part = own.and_then(|node| node.get("text").or(node.get("content")));
            part.map(plain).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}
