//! What happened in a period, on one page: for people who do not read logs.
//!
//! The page is made of tables, and the tables of what is in the lines. Whatever a client has sent
//! stays text in every form of the page.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// Most names that are told apart in one table while counting; the rest is counted as one.
const MAX_NAMES: usize = 50_000;

/// Most rows that a table shows.
const ROWS: usize = 20;

/// Examples of each reason.
const EXAMPLES: usize = 3;

const OTHERS: &str = "(others)";

/// The form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One page that needs nothing else.
    Html,
    /// An object of tables.
    Json,
    /// For a wiki or a ticket.
    Markdown,
}

/// What has been counted.
#[derive(Debug, Default)]
pub struct Report {
    lines: u64,
    first: Option<String>,
    last: Option<String>,
    kinds: HashMap<String, u64>,
    principals: HashMap<String, Count>,
    operations: HashMap<String, Count>,
    tables: HashMap<String, Count>,
    talkers: HashMap<String, Talk>,
    reasons: HashMap<String, Refused>,
    statements: HashMap<String, Seen>,
    slowest: Vec<Slow>,
}

#[derive(Debug, Default)]
struct Count {
    allowed: u64,
    refused: u64,
    failed: u64,
}

#[derive(Debug, Default)]
struct Talk {
    statements: u64,
    rows: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Refused {
    count: u64,
    examples: Vec<String>,
}

#[derive(Debug)]
struct Seen {
    first: String,
    count: u64,
    summary: String,
    user: String,
}

#[derive(Debug)]
struct Slow {
    micros: u64,
    time: String,
    user: String,
    about: String,
}

impl Report {
    /// Counts a line.
    pub fn add(&mut self, line: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return };
        let time = text(&event, "time").to_owned();
        self.lines += 1;
        self.first.get_or_insert_with(|| time.clone());
        *slot(&mut self.kinds, text(&event, "kind")) += 1;
        match text(&event, "kind") {
            "db.response" | "http.response" => self.add_result(&event, &time),
            "db.statement" | "http.request" | "mcp.call" => self.add_decision(&event, &time),
            _ => {}
        }
        if matches!(text(&event, "decision"), "deny" | "error") {
            self.add_refusal(&event, &time);
        }
        self.last = Some(time);
    }

    fn add_decision(&mut self, event: &Value, time: &str) {
        let user = principal(event);
        count(slot(&mut self.principals, user), event);
        count(slot(&mut self.operations, operation(event)), event);
        slot(&mut self.talkers, text(event, "client.address")).statements += 1;
        let tables = get(event, "db.collections").and_then(Value::as_array);
        for table in tables.into_iter().flatten().filter_map(Value::as_str) {
            count(slot(&mut self.tables, table), event);
        }
        let fingerprint = text(event, "db.query.fingerprint");
        if !fingerprint.is_empty() && self.statements.len() < MAX_NAMES {
            let summary = text(event, "db.query.summary").to_owned();
            let fresh = Seen { first: time.to_owned(), count: 0, summary, user: user.to_owned() };
            self.statements.entry(fingerprint.to_owned()).or_insert(fresh).count += 1;
        }
    }

    fn add_result(&mut self, event: &Value, time: &str) {
        let talker = slot(&mut self.talkers, text(event, "client.address"));
        talker.rows += number(event, "db.response.returned_rows");
        talker.bytes += number(event, "bytes.out");
        let micros = number(event, "timing.total_us");
        let is_slow = self.slowest.len() < ROWS
            || self.slowest.last().is_some_and(|fastest| micros > fastest.micros);
        if micros > 0 && is_slow {
            let (user, about) = (principal(event).to_owned(), about(event).to_owned());
            let at = self.slowest.partition_point(|slow| slow.micros >= micros);
            self.slowest.insert(at, Slow { micros, time: time.to_owned(), user, about });
            self.slowest.truncate(ROWS);
        }
    }

    fn add_refusal(&mut self, event: &Value, time: &str) {
        let refused = slot(&mut self.reasons, text(event, "reason"));
        refused.count += 1;
        if refused.examples.len() < EXAMPLES {
            let example = [time, principal(event), about(event), text(event, "id")].join("  ");
            refused.examples.push(example);
        }
    }

    /// The page; `chain` is what a verification of the log has found.
    #[must_use]
    pub fn page(&self, chain: &str, form: Form) -> String {
        let tables = self.tables(chain);
        match form {
            Form::Html => html(&tables),
            Form::Json => {
                let tables = tables.iter().map(Table::as_json);
                json!({ "tables": tables.collect::<Vec<_>>() }).to_string() + "\n"
            }
            Form::Markdown => markdown(&tables),
        }
    }

    fn tables(&self, chain: &str) -> Vec<Table> {
        let unknown = || "(no lines)".to_owned();
        let period = vec![
            vec!["from".to_owned(), self.first.clone().unwrap_or_else(unknown)],
            vec!["to".to_owned(), self.last.clone().unwrap_or_else(unknown)],
            vec!["lines".to_owned(), self.lines.to_string()],
            vec!["log".to_owned(), chain.to_owned()],
        ];
        vec![
            Table { title: "Period", columns: &["", ""], rows: period },
            by_count("Kinds of events", &["kind", "lines"], &self.kinds, |count| {
                (*count, vec![count.to_string()])
            }),
            by_count("Principals", &COUNTED[0], &self.principals, Count::row),
            by_count("Operations", &COUNTED[1], &self.operations, Count::row),
            by_count("Tables and views", &COUNTED[2], &self.tables, Count::row),
            by_count("Refusals by reason", &["reason", "count", "examples"], &self.reasons, |it| {
                (it.count, vec![it.count.to_string(), it.examples.join("\n")])
            }),
            by_count(
                "Top talkers",
                &["address", "statements", "rows", "bytes"],
                &self.talkers,
                |it| {
                    let cells = [it.statements, it.rows, it.bytes].map(|number| number.to_string());
                    (it.statements, cells.to_vec())
                },
            ),
            self.first_seen(),
            self.slow(),
        ]
    }

    fn first_seen(&self) -> Table {
        let mut seen: Vec<(&String, &Seen)> = self.statements.iter().collect();
        seen.sort_by(|one, other| other.1.first.cmp(&one.1.first).then(one.0.cmp(other.0)));
        let row = |(fingerprint, seen): (&String, &Seen)| {
            let count = seen.count.to_string();
            vec![
                seen.first.clone(),
                seen.user.clone(),
                seen.summary.clone(),
                count,
                fingerprint.clone(),
            ]
        };
        let columns = &["first seen", "principal", "statement", "count", "fingerprint"];
        Table {
            title: "Newest statements",
            columns,
            rows: seen.into_iter().take(ROWS).map(row).collect(),
        }
    }

    fn slow(&self) -> Table {
        let row = |slow: &Slow| {
            let millis = format!("{}.{:03}", slow.micros / 1000, slow.micros % 1000);
            vec![millis, slow.time.clone(), slow.user.clone(), slow.about.clone()]
        };
        let columns = &["ms", "time", "principal", "statement"];
        Table { title: "Slowest", columns, rows: self.slowest.iter().map(row).collect() }
    }
}

const COUNTED: [[&str; 4]; 3] = [
    ["principal", "let through", "refused", "failed"],
    ["operation", "let through", "refused", "failed"],
    ["name", "let through", "refused", "failed"],
];

impl Count {
    fn row(&self) -> (u64, Vec<String>) {
        let cells = [self.allowed, self.refused, self.failed];
        (cells.iter().sum(), cells.map(|count| count.to_string()).to_vec())
    }
}

fn count(count: &mut Count, event: &Value) {
    match text(event, "decision") {
        "allow" => count.allowed += 1,
        "deny" | "observe" => count.refused += 1,
        _ => count.failed += 1,
    }
}

fn slot<'a, T: Default>(map: &'a mut HashMap<String, T>, name: &str) -> &'a mut T {
    let name = if map.len() < MAX_NAMES || map.contains_key(name) { name } else { OTHERS };
    match map.entry(name.to_owned()) {
        Entry::Occupied(found) => found.into_mut(),
        Entry::Vacant(place) => place.insert(T::default()),
    }
}

fn get<'a>(event: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(event, |value, key| value.get(key))
}

fn text<'a>(event: &'a Value, path: &str) -> &'a str {
    get(event, path).and_then(Value::as_str).unwrap_or_default()
}

fn number(event: &Value, path: &str) -> u64 {
    get(event, path).and_then(Value::as_u64).unwrap_or(0)
}

fn first_of<'a>(event: &'a Value, paths: &[&str]) -> &'a str {
    paths.iter().map(|path| text(event, path)).find(|text| !text.is_empty()).unwrap_or("(none)")
}

fn principal(event: &Value) -> &str {
    first_of(event, &["actor.user", "db.user"])
}

fn operation(event: &Value) -> &str {
    first_of(event, &["jira.operation", "mcp.tool", "db.operation.name"])
}

fn about(event: &Value) -> &str {
    first_of(event, &["db.query.text", "db.query.summary", "jira.operation", "url.path", "message"])
}

/// A table of texts.
struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    fn as_json(&self) -> Value {
        json!({ "title": self.title, "columns": self.columns, "rows": self.rows })
    }
}

fn by_count<T>(
    title: &'static str,
    columns: &'static [&'static str],
    names: &HashMap<String, T>,
    cells: impl Fn(&T) -> (u64, Vec<String>),
) -> Table {
    let mut rows: Vec<(u64, &String, Vec<String>)> = names
        .iter()
        .map(|(name, counted)| {
            let (weight, cells) = cells(counted);
            (weight, name, cells)
        })
        .collect();
    rows.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
    let row = |(_, name, cells): (u64, &String, Vec<String>)| {
        std::iter::once(name.clone()).chain(cells).collect()
    };
    Table { title, columns, rows: rows.into_iter().take(ROWS).map(row).collect() }
}

fn markdown(tables: &[Table]) -> String {
    let mut page = "# Audit report\n".to_owned();
    for table in tables.iter().filter(|table| !table.rows.is_empty()) {
        let _ = write!(page, "\n## {}\n\n", table.title);
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        page += &line(table.columns.iter().map(|column| (*column).to_owned()).collect());
        page += &line(table.columns.iter().map(|_| "---".to_owned()).collect());
        for row in &table.rows {
            page += &line(row.iter().map(|cell| escape_markdown(cell)).collect());
        }
    }
    page
}

/// Nothing in a cell is markup, ends the cell, or is HTML.
fn escape_markdown(cell: &str) -> String {
    let mut safe = String::with_capacity(cell.len());
    for character in cell.chars() {
        match character {
            '\n' => safe.push_str("<br>"),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '!' | '#' | '~' => {
                safe.extend(['\\', character]);
            }
            other => safe.push(other),
        }
    }
    safe
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;\
padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem;border-bottom:1px solid #8886;\
white-space:pre-wrap;overflow-wrap:anywhere}h2{margin-top:2rem}.wide{overflow-x:auto}";

fn html(tables: &[Table]) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Audit report</title><style>{STYLE}</style></head><body>\n<h1>Audit report</h1>\n"
    );
    for table in tables.iter().filter(|table| !table.rows.is_empty()) {
        let _ = write!(page, "<h2>{}</h2>\n<div class=\"wide\"><table><tr>", table.title);
        for column in table.columns {
            let _ = write!(page, "<th>{column}</th>");
        }
        page += "</tr>\n";
        for row in &table.rows {
            let cells = row.iter().map(|cell| format!("<td>{}</td>", escape_html(cell)));
            let _ = writeln!(page, "<tr>{}</tr>", cells.collect::<String>());
        }
        page += "</table></div>\n";
    }
    page + "</body></html>\n"
}

fn escape_html(cell: &str) -> String {
    let mut safe = String::with_capacity(cell.len());
    for character in cell.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{Form, Report};

    const CANARY: &str = "<script>alert(1)</script>|[x](javascript:y)";

    fn report() -> Report {
        let mut report = Report::default();
        for (number, decision) in ["allow", "deny", "deny"].iter().enumerate() {
            let line = serde_json::json!({
                "v": 1, "seq": number, "time": format!("2026-11-24T10:00:0{number}.000000Z"),
                "kind": "db.statement", "decision": decision, "id": "event",
                "reason": if *decision == "deny" { "sql-write-statement" } else { "ok" },
                "actor": { "user": CANARY }, "client": { "address": "127.0.0.1" },
                "db": { "operation": { "name": "DELETE" }, "collections": ["t"],
                        "query": { "summary": "DELETE t", "fingerprint": "00ff" } },
            });
            report.add(line.to_string().as_bytes());
        }
        report.add(
            br#"{"kind":"db.response","time":"2026-11-24T10:00:09.000000Z","client":{"address":"127.0.0.1"},"db":{"response":{"returned_rows":7}},"timing":{"total_us":1234},"bytes":{"out":90}}"#,
        );
        report
    }

    #[test]
    fn the_numbers_are_those_of_the_lines() {
        let page = report().page("whole", Form::Json);

        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let rows = |title: &str| {
            let tables = page["tables"].as_array().unwrap();
            tables.iter().find(|table| table["title"] == title).unwrap()["rows"].clone()
        };
        assert_eq!(rows("Principals"), serde_json::json!([[CANARY, "1", "2", "0"]]));
        assert_eq!(rows("Operations"), serde_json::json!([["DELETE", "1", "2", "0"]]));
        assert_eq!(rows("Top talkers"), serde_json::json!([["127.0.0.1", "3", "7", "90"]]));
        assert_eq!(rows("Refusals by reason")[0][1], "2");
        assert_eq!(rows("Slowest")[0][0], "1.234");
        assert_eq!(rows("Newest statements")[0][3], "3");
        assert_eq!(rows("Period")[3], serde_json::json!(["log", "whole"]));
    }

    #[test]
    fn what_a_client_has_sent_stays_text() {
        let report = report();

        let html = report.page("whole", Form::Html);
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        let markdown = report.page("whole", Form::Markdown);
        assert!(!markdown.contains("<script") && !markdown.contains("[x]("), "{markdown}");
    }
}
