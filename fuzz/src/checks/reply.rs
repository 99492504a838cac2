//! The rewriter of answers: it changes the URLs that it must, and no other byte; where the answer is cut
//! into pieces makes no difference.

use std::sync::Arc;

use rowarden::jira::rewrite::{Rewriter, SiteNames, holds_a_url};
use serde_json::Value;

/// Rewrites `data`, of which the first byte says where it is cut.
///
/// # Panics
/// When more or less is changed than a parser would change.
pub fn check(data: &[u8]) {
    let Some((cut, document)) = data.split_first() else { return };
    let names = names();
    let whole = rewritten(&names, &[document]);
    let cut = usize::from(*cut).min(document.len());
    let (first, second) = document.split_at(cut);
    assert_eq!(rewritten(&names, &[first, second]), whole);
    let bytes: Vec<&[u8]> = document.chunks(1).collect();
    assert_eq!(rewritten(&names, &bytes), whole);

    let Ok(before) = serde_json::from_slice::<Value>(document) else { return };
    let after: Value = serde_json::from_slice(&whole).expect("JSON stays JSON");
    assert_eq!(after, expected(&names, before));
}

fn names() -> Arc<SiteNames> {
    let site = ["https://jira.internal", "http://jira.example:8080/jira"];
    let site = site.map(|site| site.parse().expect("a site")).to_vec();
    Arc::new(SiteNames::new(site, &"http://gate.test".parse().expect("a site")))
}

fn rewritten(names: &Arc<SiteNames>, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rewriter = Rewriter::new(Arc::clone(names));
    for piece in pieces {
        rewriter.feed(piece, &mut out);
    }
    rewriter.finish(&mut out);
    out
}

/// What a parser would make of it.
fn expected(names: &SiteNames, value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| expected(names, item)).collect(),
        Value::Object(members) => {
            let turn = |(name, value): (String, Value)| {
                let value = match value {
                    Value::String(text) if holds_a_url(&name) => {
                        Value::String(names.at_the_gate(&text).unwrap_or(text))
                    }
                    other => expected(names, other),
                };
                (name, value)
            };
            Value::Object(members.into_iter().map(turn).collect())
        }
        other => other,
    }
}
