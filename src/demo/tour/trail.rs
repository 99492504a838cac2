//! Looks events up in an audit log, as an auditor would: by reading the files.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use serde_json::Value;

/// The folder that holds `audit-*.jsonl`.
#[derive(Clone, Debug)]
pub struct Trail {
    folder: PathBuf,
}

/// A line that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailLine {
    /// The file's name.
    pub file: String,
    /// The line's number, from 1.
    pub number: usize,
    /// `deny`.
    pub decision: String,
    /// `sql-write-statement`.
    pub reason: String,
}

impl Trail {
    /// The log in this folder.
    #[must_use]
    pub const fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The line whose `id` is this event. A file that cannot be read holds no line.
    #[must_use]
    pub fn find(&self, event: &str) -> Option<TrailLine> {
        let files = fs::read_dir(&self.folder).ok()?.flatten();
        let mut names: Vec<String> =
            files.filter_map(|file| file.file_name().into_string().ok()).collect();
        names.retain(|name| {
            name.strip_suffix(".jsonl").is_some_and(|name| name.starts_with("audit-"))
        });
        // The newest first: their names sort by time.
        names.sort_unstable_by(|one, other| other.cmp(one));
        names.into_iter().find_map(|name| self.find_in(name, event).ok().flatten())
    }

    fn find_in(&self, file: String, event: &str) -> io::Result<Option<TrailLine>> {
        let lines = BufReader::new(fs::File::open(self.folder.join(&file))?).lines();
        for (index, line) in lines.enumerate() {
            let line = line?;
            if !line.contains(event) {
                continue;
            }
            let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
            let text = |key| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if text("id") == event {
                let (decision, reason) = (text("decision"), text("reason"));
                return Ok(Some(TrailLine { file, number: index + 1, decision, reason }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Trail;

    #[test]
    fn an_event_is_found_by_its_id_and_not_by_a_mention_of_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("audit-1.jsonl"),
            concat!(
                "{\"id\":\"a\",\"about\":\"b-1\",\"decision\":\"allow\"}\n",
                "{\"id\":\"b-1\",\"decision\":\"deny\",\"reason\":\"sql-lock\"}\n",
                "{\"id\":\"b-1"
            ),
        )
        .unwrap();
        fs::write(folder.path().join("notes.txt"), "{\"id\":\"c\"}\n").unwrap();
        let trail = Trail::in_folder(folder.path().to_owned());

        let line = trail.find("b-1").unwrap();

        assert_eq!((line.file.as_str(), line.number), ("audit-1.jsonl", 2));
        assert_eq!((line.decision.as_str(), line.reason.as_str()), ("deny", "sql-lock"));
        assert_eq!(trail.find("c"), None);
    }
}
