//! How a database is asked for its catalog, and what is made of the answer.
//!
//! Two questions. The first is cheap and asked at each login: has anything changed? The second reads
//! all of it in one transaction, once for each state of the database. Both name everything with its
//! schema, so that no `search_path` can redirect them, and bound their time by themselves.

use crate::policy::catalog::facts::{
    CastContext, CastFact, ColumnFact, Facts, FunctionFact, Item, Oid, OperatorFact, Owner,
    RelationFact, Rights, Runs, TreeFact, TypeFact,
};
use crate::postgres::handshake::message;
use crate::postgres::posture::read_row;

const REVISION: &str = include_str!("revision.sql");
const FACTS: &str = include_str!("facts.sql");

/// Time for either question, in the server's words: 60 s for a statement, whatever the client has
/// asked for in its start-up packet.
const PATIENCE: &str = "SET LOCAL statement_timeout TO 60000";

/// The first question, as it goes to the server.
#[must_use]
pub fn revision_question() -> Vec<u8> {
    let question = without_comments(REVISION);
    let who = ", session_user, pg_catalog.current_setting('search_path')";
    query(&format!("BEGIN READ ONLY; {PATIENCE}; {question}{who}; COMMIT"))
}

/// The second question, as it goes to the server.
#[must_use]
pub fn facts_question() -> Vec<u8> {
    let question = without_comments(FACTS);
    query(&question.replacen("READ ONLY;", &format!("READ ONLY; {PATIENCE};"), 1))
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"].concat())
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The answer to the first question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Changes whenever something of the catalog does.
    pub revision: String,
    /// The role that logged in, for `"$user"` in a `search_path`.
    pub user: String,
    /// The `search_path` in force.
    pub search_path: String,
}

impl Standing {
    /// Reads the body of the `DataRow`; `None` if it is not the answer.
    #[must_use]
    pub fn read(row: &[u8]) -> Option<Self> {
        let mut values = read_row(row)?.into_iter();
        let mut next = || values.next();
        let standing = Self { revision: next()??, user: next()??, search_path: next()?? };
        values.next().is_none().then_some(standing)
    }
}

/// A row that says nothing that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFact;

/// Adds what a `DataRow` of the second answer says.
///
/// # Errors
/// A row that is not one of the answer's.
pub fn learn(facts: &mut Facts, row: &[u8]) -> Result<(), UnknownFact> {
    let values = read_row(row).ok_or(UnknownFact)?;
    let mut row = Row { values: values.into_iter() };
    match row.text()?.as_str() {
        "type" => facts.types.push(row.of_type()?),
        "builtin" => facts.functions.push(row.function()?),
        "function" => {
            let function = row.function()?;
            facts.functions.push(row.user_function(function)?);
        }
        "operator" => facts.operators.push(row.operator()?),
        "cast" => facts.casts.push(row.cast()?),
        "relation" => facts.relations.push(RelationFact {
            oid: row.oid()?,
            schema: row.text()?,
            name: row.text()?,
            kind: row.letter()?,
        }),
        "column" => facts.columns.push(ColumnFact {
            relation: row.oid()?,
            name: row.text()?,
            of: row.oid()?,
        }),
        "tree" => facts.trees.push(row.tree(Runs::Entirely)?),
        "planned" => facts.trees.push(row.tree(Runs::FoldedOnly)?),
        "uses" => facts.uses.push((row.item()?, row.item()?)),
        _ => return Err(UnknownFact),
    }
    if row.values.next().is_none() { Ok(()) } else { Err(UnknownFact) }
}

struct Row {
    values: std::vec::IntoIter<Option<String>>,
}

impl Row {
    fn optional(&mut self) -> Result<Option<String>, UnknownFact> {
        self.values.next().ok_or(UnknownFact)
    }

    fn text(&mut self) -> Result<String, UnknownFact> {
        self.optional()?.ok_or(UnknownFact)
    }

    fn number<N: std::str::FromStr>(&mut self) -> Result<N, UnknownFact> {
        self.text()?.parse().map_err(|_| UnknownFact)
    }

    fn oid(&mut self) -> Result<Oid, UnknownFact> {
        self.number().map(Oid)
    }

    fn letter(&mut self) -> Result<char, UnknownFact> {
        let text = self.text()?;
        let mut letters = text.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => Ok(letter),
            _ => Err(UnknownFact),
        }
    }

    fn item(&mut self) -> Result<Item, UnknownFact> {
        let kind = self.text()?;
        let oid = self.oid()?;
        Ok(match kind.as_str() {
            "function" => Item::Function(oid),
            "input" => Item::Input(oid),
            "operator" => Item::Operator(oid),
            "output" => Item::Output(oid),
            "relation" => Item::Relation(oid),
            "support" => Item::Support(oid),
            _ => return Err(UnknownFact),
        })
    }

    fn tree(&mut self, runs: Runs) -> Result<TreeFact, UnknownFact> {
        Ok(TreeFact { item: self.item()?, runs, tree: self.text()? })
    }

    fn of_type(&mut self) -> Result<TypeFact, UnknownFact> {
        Ok(TypeFact {
            oid: self.oid()?,
            schema: self.text()?,
            name: self.text()?,
            kind: self.letter()?,
            category: self.letter()?,
            element: self.oid()?,
            base: self.oid()?,
            relation: self.oid()?,
        })
    }

    /// What is asked of every function.
    fn function(&mut self) -> Result<FunctionFact, UnknownFact> {
        Ok(FunctionFact {
            oid: self.number()?,
            schema: self.text()?,
            name: self.text()?,
            kind: self.letter()?,
            result: self.number()?,
            arguments: {
                let arguments = self.text()?;
                let numbers = arguments.split_ascii_whitespace().map(str::parse);
                numbers.collect::<Result<_, _>>().map_err(|_| UnknownFact)?
            },
            defaults: self.number()?,
            variadic: self.number()?,
            ..FunctionFact::default()
        })
    }

    /// What is asked of those that did not come with the server.
    fn user_function(&mut self, function: FunctionFact) -> Result<FunctionFact, UnknownFact> {
        Ok(FunctionFact {
            language: self.text()?,
            extension: self.optional()?,
            library: self.optional()?,
            owner: match self.optional()?.as_deref() {
                Some("t") => Owner::Superuser,
                _ => Owner::Ordinary,
            },
            rights: match self.text()?.as_str() {
                "f" => Rights::Caller,
                _ => Rights::Definer,
            },
            body: self.optional()?,
            settings: {
                let settings = self.optional()?.unwrap_or_default();
                settings.lines().map(ToOwned::to_owned).collect()
            },
            signature: self.text()?,
            ..function
        })
    }

    fn operator(&mut self) -> Result<OperatorFact, UnknownFact> {
        Ok(OperatorFact {
            oid: self.oid()?,
            schema: self.text()?,
            name: self.text()?,
            left: self.oid()?,
            right: self.oid()?,
            result: self.oid()?,
        })
    }

    fn cast(&mut self) -> Result<CastFact, UnknownFact> {
        Ok(CastFact {
            source: self.oid()?,
            target: self.oid()?,
            function: self.oid()?,
            context: match self.letter()? {
                'e' => CastContext::Explicit,
                'a' => CastContext::Assignment,
                'i' => CastContext::Implicit,
                _ => return Err(UnknownFact),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, UnknownFact, facts_question, learn, revision_question};
    use crate::policy::catalog::facts::{Item, Oid};

    fn row(values: &[&str]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            body.extend_from_slice(&i32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body
    }

    #[test]
    fn the_questions_bound_their_own_time_and_hold_no_comment() {
        for question in [revision_question(), facts_question()] {
            let text = String::from_utf8_lossy(&question);
            assert_eq!(text.matches("SET LOCAL statement_timeout").count(), 1, "{text}");
            assert!(!text.contains("--"), "{text}");
            assert!(text.contains("READ ONLY"), "{text}");
        }
    }

    #[test]
    fn a_row_is_learned_whole_or_refused() {
        let mut facts = Facts::default();
        let uses = ["uses", "operator", "16400", "support", "16399"];

        assert_eq!(learn(&mut facts, &row(&uses)), Ok(()));

        assert_eq!(facts.uses, [(Item::Operator(Oid(16_400)), Item::Support(Oid(16_399)))]);
        assert_eq!(learn(&mut facts, &row(&uses[..4])), Err(UnknownFact));
        assert_eq!(learn(&mut facts, &row(&["uses", "a", "1", "b", "2"])), Err(UnknownFact));
        assert_eq!(learn(&mut facts, &row(&["else"])), Err(UnknownFact));
        let longer = [&uses[..], &["more"]].concat();
        assert_eq!(learn(&mut facts, &row(&longer)), Err(UnknownFact));
    }
}
