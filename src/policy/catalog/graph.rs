//! Which items are suspect: those from which an unproved one can be reached.
//!
//! One pass over the edges, backwards from what is bad. A circle of views or functions is as good as
//! what else it reaches.

use std::collections::{HashMap, HashSet};

use crate::policy::catalog::facts::{Facts, Item, Oid};
use crate::policy::catalog::node_tree::references;

/// What uses what in a database, and what is bad by itself.
#[derive(Debug, Default)]
pub struct Graph {
    users: HashMap<Item, Vec<Item>>,
    bad: HashSet<Item>,
    trusted: HashSet<Item>,
}

impl Graph {
    /// The edges of a database. What no tree or table says, such as the body of a function, the caller
    /// settles by [`Graph::condemn`].
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let mut graph = Self::default();
        for (user, used) in &facts.uses {
            graph.add(*user, *used);
        }
        for fact in &facts.trees {
            match references(&fact.tree, fact.runs) {
                Ok(used) => used.into_iter().for_each(|used| graph.add(fact.item, used)),
                Err(_) => graph.condemn(fact.item),
            }
        }
        for fact in &facts.types {
            // What is made of a type is handled as one, and so are its parts.
            graph.add(Item::Input(fact.oid), Item::Output(fact.oid));
            for part in [fact.element, fact.base] {
                graph.add(Item::Input(fact.oid), Item::Input(part));
                graph.add(Item::Output(fact.oid), Item::Output(part));
            }
        }
        let row_types: HashMap<Oid, Oid> =
            facts.types.iter().map(|fact| (fact.relation, fact.oid)).collect();
        for column in &facts.columns {
            graph.add(Item::Relation(column.relation), Item::Output(column.of));
            if let Some(row) = row_types.get(&column.relation) {
                graph.add(Item::Input(*row), Item::Input(column.of));
                graph.add(Item::Output(*row), Item::Output(column.of));
            }
        }
        for function in &facts.functions {
            let called = Item::Function(function.id());
            graph.add(Item::Support(function.id()), called);
            if function.language == "sql" {
                graph.add(Item::Inlined(function.id()), called);
            }
            if !function.id().is_builtin() {
                for argument in &function.arguments {
                    graph.add(called, Item::Input(Oid(*argument)));
                }
                graph.add(called, Item::Input(Oid(function.result)));
            }
        }
        graph
    }

    fn add(&mut self, user: Item, of: Item) {
        self.users.entry(of).or_default().push(user);
    }

    /// Takes back that calls for an operator, a cast or a type count like calls by name.
    pub fn trust_support(&mut self, function: Oid) {
        if let Some(users) = self.users.get_mut(&Item::Function(function)) {
            users.retain(|user| *user != Item::Support(function));
        }
    }

    /// Marks an item as good whatever it reaches: the policy lists it.
    pub fn trust(&mut self, item: Item) {
        self.trusted.insert(item);
    }

    /// Marks an item as bad by itself.
    pub fn condemn(&mut self, item: Item) {
        self.bad.insert(item);
    }

    /// Takes the mark back.
    pub fn acquit(&mut self, item: Item) {
        self.bad.remove(&item);
    }

    /// Every item from which a bad one can be reached, the bad ones included.
    #[must_use]
    pub fn suspects(&self) -> HashSet<Item> {
        let mut suspects: HashSet<Item> = self.bad.difference(&self.trusted).copied().collect();
        let mut fresh: Vec<Item> = suspects.iter().copied().collect();
        while let Some(item) = fresh.pop() {
            for user in self.users.get(&item).into_iter().flatten() {
                if !self.trusted.contains(user) && suspects.insert(*user) {
                    fresh.push(*user);
                }
            }
        }
        suspects
    }
}

#[cfg(test)]
mod tests {
    use super::Graph;
    use crate::policy::catalog::facts::{Facts, Item, Oid, Runs, TreeFact};

    fn item(number: u32) -> Item {
        Item::Function(Oid(number))
    }

    #[test]
    fn whatever_reaches_a_bad_item_is_suspect_and_circles_end() {
        let uses = vec![(item(1), item(2)), (item(2), item(3)), (item(3), item(1))];
        let mut graph = Graph::of(&Facts { uses, ..Facts::default() });
        assert!(graph.suspects().is_empty());

        graph.condemn(item(3));

        assert_eq!(graph.suspects().len(), 3);
        graph.acquit(item(3));
        assert!(graph.suspects().is_empty());
    }

    #[test]
    fn a_tree_that_cannot_be_read_condemns_what_it_belongs_to() {
        let view = Item::Relation(Oid(16_400));
        let tree = "{QUERY :commandType 3}".to_owned();
        let trees = vec![TreeFact { item: view, runs: Runs::Entirely, tree }];

        let graph = Graph::of(&Facts { trees, ..Facts::default() });

        assert!(graph.suspects().contains(&view));
    }
}
