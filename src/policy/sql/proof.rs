//! Which user code is known to read only: what the policy lists, and what can be proved.
//!
//! A view, a policy, an index expression is proved by what its tree reaches. A function in SQL whose
//! body is a text is proved by judging that text like a client's, under any `search_path`. How
//! volatile a function says it is proves nothing: an IMMUTABLE one that calls `set_config` runs under
//! EXPLAIN already.

use std::collections::{HashMap, HashSet};

use crate::policy::catalog::facts::{Facts, FunctionFact, Item, Oid, Owner, Rights};
use crate::policy::catalog::graph::Graph;
use crate::policy::catalog::{Catalog, Reach};
use crate::policy::file::{BuiltinFunction, Policy};
use crate::policy::sql::{PieceKind, World, judge_sql_in};
use crate::policy::verdict::Verdict;

/// How often functions in SQL are judged anew because others have been proved meanwhile: 16. Deeper
/// chains stay refused.
const ROUNDS: usize = 16;

/// What `CREATE TYPE … AS RANGE` makes by itself, in the words of PostgreSQL's `pg_proc.dat`.
const RANGE_CONSTRUCTORS: [&str; 5] = [
    "multirange_constructor0",
    "multirange_constructor1",
    "multirange_constructor2",
    "range_constructor2",
    "range_constructor3",
];

/// Reads what a database says about itself.
#[must_use]
pub fn prove(policy: &Policy, revision: String, facts: Facts) -> Catalog {
    let mut graph = Graph::of(&facts);
    let mut open = Vec::new();
    for function in &facts.functions {
        match standing(policy, function) {
            Proof::Done => {}
            Proof::Listed => graph.trust(Item::Function(function.id())),
            Proof::AsSupport => {
                graph.trust_support(function.id());
                graph.condemn(Item::Function(function.id()));
            }
            Proof::ByBody => {
                graph.condemn(Item::Function(function.id()));
                open.push(function.clone());
            }
            Proof::None => graph.condemn(Item::Function(function.id())),
        }
    }
    trust_types_of_c(&facts, &mut graph);
    for relation in &facts.relations {
        let hidden = policy.hides_relation(Some(&relation.schema), &relation.name)
            || policy.hidden_columns(Some(&relation.schema), &relation.name).is_some();
        let foreign = relation.kind == 'f';
        let listed = policy.lists_relation(&relation.schema, &relation.name);
        // What is built in is judged by name and column, where it is named.
        // What hides columns is judged column by column where a statement names it, and not to be
        // seen through a view.
        if (foreign && !listed) || hidden {
            graph.condemn(Item::Relation(relation.oid));
        }
        if listed {
            graph.trust(Item::Relation(relation.oid));
        }
    }
    let mut catalog = Catalog::new(revision, facts, graph.suspects());
    for _ in 0..ROUNDS {
        let before = open.len();
        open.retain(|function| {
            let proved = reads_only(policy, &catalog, function);
            if proved {
                graph.acquit(Item::Function(function.id()));
            }
            !proved
        });
        if open.len() == before {
            break;
        }
        catalog.suspect(graph.suspects());
    }
    catalog
}

/// How a function is proved.
enum Proof {
    /// Where it is called for an operator, a cast or a type, not by name.
    AsSupport,
    /// By its text.
    ByBody,
    /// It is.
    Done,
    /// The policy says so.
    Listed,
    /// It cannot be.
    None,
}

fn standing(policy: &Policy, function: &FunctionFact) -> Proof {
    if function.id().is_builtin() && function.schema == "information_schema" {
        // Written in SQL, for the views there.
        return Proof::Done;
    }
    if function.id().is_builtin() {
        return match policy.builtin_function(&function.name) {
            BuiltinFunction::Reads => Proof::Done,
            BuiltinFunction::Refused(_) | BuiltinFunction::Unknown => Proof::None,
        };
    }
    if policy.lists_signature(&function.schema, &function.name, &function.signature) {
        return Proof::Listed;
    }
    let in_c = matches!(function.language.as_str(), "c" | "internal")
        && function.library.as_deref().is_none_or(|library| library.starts_with("$libdir/"));
    // Only a superuser makes functions in C; whatever else an extension brings may be replaced by
    // whoever owns it.
    let genuine = in_c || function.owner == Owner::Superuser;
    if let Some(extension) = function.extension.as_deref().filter(|_| genuine) {
        if policy.lists_extension_function(extension, &function.name) {
            return Proof::Done;
        }
        if in_c && policy.lists_extension(extension) {
            return Proof::AsSupport;
        }
    }
    let internal = function.body.as_deref().filter(|_| function.language == "internal");
    if internal.is_some_and(|symbol| RANGE_CONSTRUCTORS.contains(&symbol)) {
        return Proof::Done;
    }
    let plain = function.rights == Rights::Caller
        && function.language == "sql"
        && matches!(function.kind, 'f' | 'w')
        && function.settings.iter().all(|setting| is_harmless(policy, setting));
    match (function.kind, plain, &function.body) {
        (_, true, Some(_)) => Proof::ByBody,
        // What an aggregate runs, its edges say, and so does the tree of a body that was parsed when
        // the function was made.
        ('a', ..) | (_, true, None) => Proof::Done,
        _ => Proof::None,
    }
}

/// A setting that a function makes for the time of a call.
fn is_harmless(policy: &Policy, setting: &str) -> bool {
    setting.split_once('=').is_some_and(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name == "search_path" || policy.any_value_passes(&name)
    })
}

/// What a type in C reads and writes values with runs whenever a column of it is shown; only a
/// superuser makes such a type. So it is trusted even if its extension is not listed.
fn trust_types_of_c(facts: &Facts, graph: &mut Graph) {
    let by_oid: HashMap<Oid, &FunctionFact> =
        facts.functions.iter().map(|function| (function.id(), function)).collect();
    let made_by_types: HashSet<Oid> = facts
        .uses
        .iter()
        .filter_map(|(user, used)| match (user, used) {
            (Item::Input(_) | Item::Output(_), Item::Support(function)) => Some(*function),
            _ => None,
        })
        .collect();
    let made_elsewhere: HashSet<Oid> = facts
        .uses
        .iter()
        .filter_map(|(user, used)| match (user, used) {
            (Item::Operator(_) | Item::Function(_), Item::Support(function)) => Some(*function),
            _ => None,
        })
        .collect();
    for function in made_by_types.difference(&made_elsewhere) {
        if by_oid.get(function).is_some_and(|function| function.language == "c") {
            graph.trust_support(*function);
        }
    }
}

fn reads_only(policy: &Policy, catalog: &Catalog, function: &FunctionFact) -> bool {
    let Some(body) = &function.body else { return false };
    let world = World::Database { catalog, reach: &Reach::Everywhere, stamp: 0 };
    match judge_sql_in(policy, world, body.as_bytes()).verdict {
        Verdict::Allow(cleared) => {
            let pieces = &cleared.request().pieces;
            let queries = pieces.iter().all(|piece| piece.kind == PieceKind::Query);
            // A query is called a read by what it is, whatever settings it names.
            queries
                && pieces.iter().all(|piece| piece.habit.is_none())
                && !cleared.request().digest.functions.iter().any(|name| name == "set_config")
        }
        Verdict::Deny(_) | Verdict::Fault(_) => false,
    }
}
