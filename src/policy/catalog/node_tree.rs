//! Which objects an expression uses that the server keeps as a tree: the body of a view, the
//! condition of a policy, an index expression.
//!
//! The server has resolved every name in it to a number, so nothing is guessed here. The format is
//! that of PostgreSQL's `outfuncs.c`: `{NODE :field value …}`, lists in parentheses, and in names every
//! white space, brace and parenthesis behind a backslash. A name can therefore look like a field, but
//! never hide one; what does not read as expected makes the tree unreadable, and with it refused.

use crate::policy::catalog::facts::{Item, Oid, Runs};

/// A tree that does not say what it uses, or that does more than read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What the number behind a field stands for.
fn item_of(field: &str, oid: Oid) -> Option<Item> {
    match field {
        ":funcid" | ":aggfnoid" | ":winfnoid" => Some(Item::Function(oid)),
        ":opfuncid" | ":hashfuncid" | ":negfuncid" | ":startInRangeFunc" | ":endInRangeFunc" => {
            Some(Item::Support(oid))
        }
        // Those that come with the server are no functions for SQL, but they only sample.
        ":tsmhandler" if !oid.is_builtin() => Some(Item::Function(oid)),
        ":opno" | ":eqop" | ":sortop" | ":cycle_mark_neop" => Some(Item::Operator(oid)),
        ":relid" => Some(Item::Relation(oid)),
        ":resulttype" => Some(Item::Input(oid)),
        ":consttype" | ":vartype" | ":array_typeid" | ":row_typeid" | ":minmaxtype" => {
            Some(Item::Output(oid))
        }
        _ => None,
    }
}

/// What a field must say for the tree to be a read.
fn expected(field: &str) -> Option<&'static [&'static str]> {
    match field {
        // CMD_SELECT
        ":commandType" => Some(&["1"]),
        ":utilityStmt" | ":rowMarks" => Some(&["<>"]),
        ":hasModifyingCTE" | ":hasForUpdate" => Some(&["false"]),
        _ => None,
    }
}

/// The objects that a tree uses.
///
/// # Errors
/// A tree that is not understood, or that writes, locks or takes a number from a sequence.
pub fn references(tree: &str, runs: Runs) -> Result<Vec<Item>, Unreadable> {
    let mut found = Vec::new();
    // For each node that is open: where its function stands in `found`, if it is a call.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut words = tree.split_ascii_whitespace().flat_map(split_brackets).peekable();
    while let Some(word) = words.next() {
        match word {
            "{" => open.push((words.peek() == Some(&"FUNCEXPR")).then_some(found.len())),
            "}" => drop(open.pop()),
            "NEXTVALUEEXPR" => return Err(Unreadable),
            // Whatever stands around a column is not folded.
            "VAR" if runs == Runs::FoldedOnly => {
                for call in open.iter().flatten() {
                    found.get_mut(*call).into_iter().for_each(inline);
                }
            }
            _ => {}
        }
        if let Some(allowed) = expected(word) {
            let value = words.peek().ok_or(Unreadable)?;
            if !allowed.contains(value) {
                return Err(Unreadable);
            }
        }
        if word == ":opnos" {
            // `(o 96 98)`
            if (words.next(), words.next()) != (Some("("), Some("o")) {
                return Err(Unreadable);
            }
            loop {
                match words.next().ok_or(Unreadable)? {
                    ")" => break,
                    number => found.push(Item::Operator(read_oid(number)?)),
                }
            }
        } else if item_of(word, Oid(u32::MAX)).is_some() {
            let oid = read_oid(words.peek().ok_or(Unreadable)?)?;
            if oid != Oid::NONE {
                found.extend(item_of(word, oid));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// `{FUNCEXPR :funcid 7 …`: the function comes first in its node, before its arguments.
fn inline(item: &mut Item) {
    if let Item::Function(oid) = *item {
        *item = Item::Inlined(oid);
    }
}

fn read_oid(word: &str) -> Result<Oid, Unreadable> {
    word.parse().map(Oid).map_err(|_| Unreadable)
}

/// Cuts brackets off a word; those behind a backslash belong to it.
fn split_brackets(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_bracket = |character: char| matches!(character, '(' | ')' | '{' | '}');
        let mut behind_backslash = false;
        let bracket = rest.char_indices().find(|(_, character)| {
            let escaped = std::mem::take(&mut behind_backslash);
            behind_backslash = *character == '\\' && !escaped;
            is_bracket(*character) && !escaped
        });
        let end = match bracket {
            Some((0, _)) => 1,
            Some((place, _)) => place,
            None => rest.len(),
        };
        let (word, behind) = rest.split_at_checked(end)?;
        rest = behind;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::{Unreadable, references};
    use crate::policy::catalog::facts::{Item, Oid, Runs};

    #[test]
    fn numbers_behind_fields_are_found_wherever_they_stand() {
        let tree = "({QUERY :commandType 1 :utilityStmt <> :rowMarks <> :rtable ({RANGETBLENTRY \
            :relid 16400 :eref {ALIAS :aliasname v :colnames (\"a\" \"b\")}}) :targetList \
            ({TARGETENTRY :expr {OPEXPR :opno 96 :opfuncid 65 :args ({FUNCEXPR :funcid 16500 \
            :funcresulttype 23})}}) :x {ROWCOMPAREEXPR :opnos (o 97 16999)}})";

        let found = references(tree, Runs::Entirely).unwrap();

        let expected = [
            Item::Function(Oid(16_500)),
            Item::Operator(Oid(96)),
            Item::Operator(Oid(97)),
            Item::Operator(Oid(16_999)),
            Item::Relation(Oid(16_400)),
            Item::Support(Oid(65)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_tree_that_does_more_than_read_is_unreadable() {
        for tree in [
            "{QUERY :commandType 3 :rowMarks <>}",
            "{QUERY :commandType 1 :rowMarks ({ROWMARKCLAUSE :rti 1})}",
            "{QUERY :commandType 1 :utilityStmt {LOCKSTMT}}",
            "{QUERY :commandType 1 :hasModifyingCTE true}",
            "{FUNCEXPR :args ({NEXTVALUEEXPR :seqid 16400})}",
        ] {
            assert_eq!(references(tree, Runs::Entirely), Err(Unreadable), "{tree}");
        }
    }

    #[test]
    fn what_has_a_column_in_it_is_not_folded() {
        let tree = "{BOOLEXPR :args ({FUNCEXPR :funcid 16501 :args ({CONST :constvalue 4})} \
            {FUNCEXPR :funcid 16500 :args ({VAR :varno 1})})}";

        let folded = references(tree, Runs::FoldedOnly).unwrap();

        let [column, constant] = [16_500, 16_501].map(Oid);
        assert!(folded.contains(&Item::Inlined(column)), "{folded:?}");
        assert!(folded.contains(&Item::Function(constant)), "{folded:?}");
        assert!(references(tree, Runs::Entirely).unwrap().contains(&Item::Function(column)));
    }

    #[test]
    fn a_name_cannot_hide_a_field_nor_pass_for_one() {
        let hidden = "{ALIAS :aliasname a\\ :funcid\\ 7\\)} {FUNCEXPR :funcid 16500}";
        assert_eq!(references(hidden, Runs::Entirely), Ok(vec![Item::Function(Oid(16_500))]));
        for broken in ["{ALIAS :aliasname :funcid :colnames <>}", "{FUNCEXPR :funcid"] {
            assert_eq!(references(broken, Runs::Entirely), Err(Unreadable), "{broken}");
        }
    }
}
