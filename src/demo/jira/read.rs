//! What the stand-in answers to reads.

use serde_json::{Value, json};

use crate::demo::jira::jql::Search;
use crate::demo::jira::store::{
    COMPONENTS, Issue, LINK_TYPES, Named, PRIORITIES, PROJECTS, RESOLUTIONS, STATUSES, TYPES,
    VERSIONS,
};
use crate::demo::jira::view::{View, fields};
use crate::demo::jira::wire::{Answer, Asked};

impl View<'_> {
    /// Answers a read; `None` if there is no such resource.
    pub(super) fn read(&self, asked: &Asked) -> Option<Answer> {
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["rest", "api", _, rest @ ..] => self.platform(rest, asked),
            ["rest", "agile", _, rest @ ..] => self.agile(rest, asked),
            ["rest", "servicedeskapi", rest @ ..] => self.service_desk(rest, asked),
            ["rest", "dev-status", "1.0", "issue", what] => Some(dev_status(what)),
            ["secure", "attachment" | "thumbnail", id, _] => self.file(id),
            ["browse", key] => self.store.find(key).map(|issue| {
                Answer::bytes("text/html", format!("<title>{}</title>", issue.key).into_bytes())
            }),
            _ => None,
        }
    }

    fn platform(&self, path: &[&str], asked: &Asked) -> Option<Answer> {
        if let ["issue", rest @ ..] = path
            && let Some(answer) = self.of_issues(rest, asked)
        {
            return Some(answer);
        }
        if let ["project", key, rest @ ..] = path
            && let Some(project) = find_project(key)
        {
            return self.of_project_path(project, rest, asked);
        }
        let shown = match path {
            ["serverInfo"] => self.server_info(),
            ["myself"] => self.user("ann"),
            ["user"] => self.user(asked.first(&["accountId", "username", "key"])?),
            ["user", "search" | "picker"] => {
                self.users(asked.first(&["query", "username"]).unwrap_or_default())
            }
            ["user", "assignable", "search" | "multiProjectSearch"] => self.users(""),
            ["field"] => fields(),
            ["field", "search"] => page("values", fields().as_array().cloned()?, asked),
            ["field", _, "context"] => page(
                "values",
                vec![
                    json!({"id": "10100", "name": "Default", "isGlobalContext": true, "isAnyIssueType": true}),
                ],
                asked,
            ),
            ["field", _, "context", _, "option"] => {
                page("values", vec![json!({"id": "1", "value": "none", "disabled": false})], asked)
            }
            ["priority"] => self.all("priority", &PRIORITIES),
            ["priority", id] => self.named("priority", find(&PRIORITIES, id)?),
            ["resolution"] => self.all("resolution", &RESOLUTIONS),
            ["resolution", id] => self.named("resolution", find(&RESOLUTIONS, id)?),
            ["status"] => self.statuses(),
            ["status", id] => self.status(find(&STATUSES, id)?),
            ["statuscategory"] => {
                ["new", "indeterminate", "done"].iter().map(|key| self.category(key)).collect()
            }
            ["issuetype"] => self.kinds(),
            ["issuetype", id] => self.kind(find(&TYPES, id)?),
            ["issueLinkType"] => self.link_types(),
            ["issueLinkType", id] => self.link_type(find(&LINK_TYPES, id)?),
            ["component", id] => self.of_project("component", PROJECTS[0], find(&COMPONENTS, id)?),
            ["version", id] => self.of_project("version", PROJECTS[0], find(&VERSIONS, id)?),
            ["project"] => self.projects(),
            ["project", "search"] => page("values", self.projects().as_array().cloned()?, asked),
            ["projects", "picker"] => {
                json!({"projects": self.projects(), "header": "Showing 2 of 2"})
            }
            ["dashboard"] => page("dashboards", vec![self.dashboard()], asked),
            ["dashboard", "10000"] => self.dashboard(),
            ["filter", "favourite" | "my"] => json!([self.filter()]),
            ["filter", "search"] => page("values", vec![self.filter()], asked),
            ["filter", "10000"] => self.filter(),
            ["groups", "picker"] => {
                json!({"header": "Showing 1 of 1 matching groups", "total": 1, "groups": [{"name": "developers", "html": "developers", "labels": []}]})
            }
            ["applicationrole"] => {
                json!([{"key": "jira-software", "name": "JIRA Software", "groups": ["developers"], "defaultGroups": [], "numberOfSeats": 10}])
            }
            ["mypermissions"] => {
                json!({"permissions": {"BROWSE_PROJECTS": {"id": "10", "key": "BROWSE_PROJECTS", "name": "Browse Projects", "type": "PROJECT", "havePermission": true}}})
            }
            ["configuration"] => {
                json!({"votingEnabled": true, "watchingEnabled": true, "attachmentsEnabled": true, "timeTrackingEnabled": true, "issueLinkingEnabled": true, "subTasksEnabled": true})
            }
            ["attachment", "meta"] => json!({"enabled": true, "uploadLimit": 10_485_760}),
            ["attachment", "content" | "thumbnail", id] => return self.file(id),
            ["attachment", id] => self.attachment(self.store.attachment(id.parse().ok()?)?),
            ["search"] => return Some(self.search(asked)),
            ["search", "jql"] => return Some(self.enhanced_search(asked)),
            ["search", "approximate-count"] => return Some(self.count(asked)),
            ["changelog", "bulkfetch"] => self.changelogs(asked),
            _ => return None,
        };
        Some(Answer::json(&shown))
    }

    fn server_info(&self) -> Value {
        json!({
            "baseUrl": self.base, "version": "10.3.0", "versionNumbers": [10, 3, 0], "deploymentType": "Server",
            "buildNumber": 1_003_000, "serverTitle": "JIRA (stand-in of rowarden)",
            "serverTime": "2026-11-01T00:00:00.000+0000",
        })
    }

    fn dashboard(&self) -> Value {
        json!({"id": "10000", "name": "Nightly runs", "self": format!("{}/rest/api/2/dashboard/10000", self.base), "view": format!("{}/secure/Dashboard.jspa?selectPageId=10000", self.base)})
    }

    fn filter(&self) -> Value {
        json!({"id": "10000", "name": "Open regressions", "jql": "project = COMP AND status = Open", "favourite": true, "owner": self.user("ann"), "self": format!("{}/rest/api/2/filter/10000", self.base)})
    }

    fn of_issues(&self, path: &[&str], asked: &Asked) -> Option<Answer> {
        let meta = |items: Vec<Value>, name: &str| Some(Answer::json(&page(name, items, asked)));
        match path {
            ["createmeta"] => {
                let projects: Vec<Value> = PROJECTS.iter().map(|it| json!({"id": it.id.to_string(), "key": it.key, "name": it.name, "issuetypes": self.kinds()})).collect();
                return Some(Answer::json(&json!({"expand": "projects", "projects": projects})));
            }
            ["createmeta", _, "issuetypes"] => {
                return meta(self.kinds().as_array().cloned()?, "values");
            }
            ["createmeta", _, "issuetypes", _] => return meta(self.field_meta(), "values"),
            ["picker"] => return Some(Answer::json(&json!({"sections": []}))),
            _ => {}
        }
        let (key, rest) = path.split_first()?;
        let issue = self.store.find(key)?;
        let shown = match rest {
            [] => {
                let (fields, expand) = (asked.list("fields"), asked.list("expand"));
                self.issue(issue, &fields, &expand)
            }
            ["comment"] => {
                let comments =
                    issue.comments.iter().map(|note| self.comment(issue, note)).collect();
                page("comments", comments, asked)
            }
            ["comment", id] => {
                self.comment(issue, issue.comments.iter().find(|note| note.id.to_string() == *id)?)
            }
            ["worklog"] => {
                let worklogs =
                    issue.worklogs.iter().map(|note| self.worklog(issue, note)).collect();
                page("worklogs", worklogs, asked)
            }
            ["worklog", id] => {
                self.worklog(issue, issue.worklogs.iter().find(|note| note.id.to_string() == *id)?)
            }
            ["votes"] => self.votes(issue),
            ["watchers"] => self.watchers(issue),
            ["transitions"] => self.transitions(issue),
            ["changelog"] => page("values", self.changelog(issue).as_array().cloned()?, asked),
            ["editmeta"] => {
                let fields = self.field_meta().into_iter();
                let named = fields
                    .filter_map(|field| Some((field.get("fieldId")?.as_str()?.to_owned(), field)));
                json!({"fields": named.collect::<serde_json::Map<_, _>>()})
            }
            ["remotelink" | "pinned-comments" | "subtask"] => json!([]),
            ["properties"] => json!({"keys": []}),
            _ => return None,
        };
        Some(Answer::json(&shown))
    }

    fn of_project_path(&self, project: Named, path: &[&str], asked: &Asked) -> Option<Answer> {
        let each = |what: &str, all: &[Named]| -> Vec<Value> {
            all.iter().map(|one| self.of_project(what, project, *one)).collect()
        };
        let shown = match path {
            [] => self.project(project),
            ["components"] => json!(each("component", &COMPONENTS)),
            ["versions"] => json!(each("version", &VERSIONS)),
            ["version"] => page("values", each("version", &VERSIONS), asked),
            ["statuses"] => TYPES.iter().map(|kind| {
                json!({"id": kind.id.to_string(), "name": kind.name, "subtask": false, "statuses": self.statuses()})
            }).collect(),
            ["role"] => json!({"Developers": format!("{}/rest/api/2/project/{}/role/10001", self.base, project.id)}),
            ["role", "10001"] => json!({"id": 10_001, "name": "Developers", "actors": []}),
            ["avatars"] => json!({"system": [], "custom": []}),
            _ => return None,
        };
        Some(Answer::json(&shown))
    }

    fn file(&self, id: &str) -> Option<Answer> {
        let file = self.store.attachment(id.parse().ok()?)?;
        Some(Answer::bytes(&file.media_type, file.content.clone()))
    }

    fn found(&self, asked: &Asked) -> Result<Vec<&Issue>, Answer> {
        let search = Search::parse(asked.first(&["jql"]).unwrap_or_default());
        let search = search.map_err(|fault| Answer::error(400, &fault.0))?;
        Ok(search.find(self.store.issues.values()))
    }

    fn search(&self, asked: &Asked) -> Answer {
        match self.found(asked) {
            Ok(found) => Answer::json(&page("issues", self.issues(&found, asked), asked)),
            Err(refusal) => refusal,
        }
    }

    fn enhanced_search(&self, asked: &Asked) -> Answer {
        match self.found(asked) {
            Ok(found) => {
                Answer::json(&json!({"issues": self.issues(&found, asked), "isLast": true}))
            }
            Err(refusal) => refusal,
        }
    }

    fn count(&self, asked: &Asked) -> Answer {
        match self.found(asked) {
            Ok(found) => Answer::json(&json!({"count": found.len()})),
            Err(refusal) => refusal,
        }
    }

    fn issues(&self, found: &[&Issue], asked: &Asked) -> Vec<Value> {
        let (fields, expand) = (asked.list("fields"), asked.list("expand"));
        found.iter().map(|issue| self.issue(issue, &fields, &expand)).collect()
    }

    fn changelogs(&self, asked: &Asked) -> Value {
        let wanted = asked.list("issueIdsOrKeys");
        let found = wanted.split(',').filter_map(|key| self.store.find(key));
        let logs = found.map(|issue| json!({"issueId": issue.id.to_string(), "changeHistories": self.changelog(issue)}));
        json!({"issueChangeLogs": logs.collect::<Vec<_>>()})
    }

    fn agile(&self, path: &[&str], asked: &Asked) -> Option<Answer> {
        let place = |path: &str| format!("{}/rest/agile/1.0/{path}", self.base);
        let board = json!({"id": 1, "name": "Compiler board", "type": "scrum", "self": place("board/1"), "location": {"projectKey": "COMP", "projectId": 10_000}});
        let sprint = json!({"id": 1, "name": "Nights 1 to 30", "state": "active", "originBoardId": 1, "self": place("sprint/1"), "startDate": "2026-10-01T00:00:00.000Z", "endDate": "2026-10-31T00:00:00.000Z", "goal": ""});
        let shown = match path {
            ["board"] => page("values", vec![board], asked),
            ["board", "1"] => board,
            ["board", "1", "configuration"] => {
                json!({"id": 1, "name": "Compiler board", "columnConfig": {"columns": []}})
            }
            ["board", "1", "sprint"] => page("values", vec![sprint], asked),
            ["sprint", "1"] => sprint,
            ["board", "1", "epic"] => page(
                "values",
                vec![json!({"id": 10_001, "key": "COMP-90", "name": "Loops", "done": false})],
                asked,
            ),
            ["issue", key] => {
                self.issue(self.store.find(key)?, &asked.list("fields"), &asked.list("expand"))
            }
            ["board", "1", "issue" | "backlog"]
            | ["sprint", "1", "issue"]
            | ["board", "1", "sprint", "1", "issue"] => {
                return Some(self.search(asked));
            }
            _ => return None,
        };
        Some(Answer::json(&shown))
    }

    fn service_desk(&self, path: &[&str], asked: &Asked) -> Option<Answer> {
        let desk = json!({"id": "1", "projectId": "10000", "projectKey": "COMP", "projectName": "Compiler"});
        let queue = json!({"id": "1", "name": "All open", "jql": "status = Open", "fields": ["summary"], "issueCount": 4});
        let kind = json!({"id": "10", "name": "Report a miscompile", "description": "", "issueTypeId": "1", "serviceDeskId": "1", "groupIds": []});
        let many = |values: Vec<Value>| json!({"size": values.len(), "start": 0, "limit": 50, "isLastPage": true, "values": values});
        let shown = match path {
            ["info"] => json!({"version": "10.3.0", "isLicensedForUse": true}),
            ["servicedesk"] => many(vec![desk]),
            ["servicedesk", "1"] => desk,
            ["servicedesk", "1", "queue"] => many(vec![queue]),
            ["servicedesk", "1", "queue", "1"] => queue,
            ["servicedesk", "1", "queue", "1", "issue"] => {
                let open = self.store.issues.values().filter(|issue| issue.status.key == "new");
                many(open.map(|issue| self.issue(issue, &asked.list("fields"), "")).collect())
            }
            ["servicedesk", "1", "requesttype"] => many(vec![kind]),
            ["servicedesk", "1", "requesttype", "10"] => kind,
            ["servicedesk", "1", "requesttype", "10", "field"] => json!({
                "requestTypeFields": [{"fieldId": "summary", "name": "What happens?", "required": true, "validValues": [], "jiraSchema": {"type": "string", "system": "summary"}}],
                "canRaiseOnBehalfOf": false, "canAddRequestParticipants": false,
            }),
            ["request", key, "sla"] => self.store.find(key).map(|_| many(Vec::new()))?,
            _ => return None,
        };
        Some(Answer::json(&shown))
    }
}

fn dev_status(what: &str) -> Answer {
    let counts = json!({"overall": {"count": 1, "lastUpdated": null}, "byInstanceType": {}});
    Answer::json(&if what == "summary" {
        json!({"errors": [], "configErrors": [], "summary": {"repository": counts, "branch": counts, "pullrequest": counts}})
    } else {
        json!({"errors": [], "detail": [{"repositories": [{"name": "compiler", "url": "https://git.lab.example/compiler", "commits": []}], "branches": [], "pullRequests": []}]})
    })
}

/// One page of a list.
fn page(name: &str, items: Vec<Value>, asked: &Asked) -> Value {
    let total = items.len();
    let start: usize = asked.number("startAt").unwrap_or(0);
    let most = asked.number("maxResults").unwrap_or(50).min(1_000);
    let items: Vec<Value> = items.into_iter().skip(start).take(most).collect();
    let is_last = start + items.len() >= total;
    json!({"startAt": start, "maxResults": most, "total": total, "isLast": is_last, name: items})
}

fn find(all: &[Named], id_or_name: &str) -> Option<Named> {
    all.iter().find(|one| one.id.to_string() == id_or_name || one.name == id_or_name).copied()
}

/// A project by key or number.
pub(super) fn find_project(key_or_id: &str) -> Option<Named> {
    PROJECTS
        .into_iter()
        .find(|project| project.key == key_or_id || project.id.to_string() == key_or_id)
}
