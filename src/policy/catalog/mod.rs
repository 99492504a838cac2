//! What a database's own catalog says about the code behind names: which function, operator, type or
//! relation a statement reaches, and whether that is known to read only.
//!
//! Names prove nothing: `lower(1)` may be somebody's function, `1 = 1` somebody's operator, a view a
//! call of anything, and a table that is merely read makes the planner run its index expressions. So
//! everything that may run code is an `Item` of [`facts`], what it uses is an edge, and an item is
//! suspect when something is within its reach that nobody has proved or listed ([`graph`]).
//!
//! Where the server's choice among overloads hangs on types that are not known here, every candidate
//! counts ([`overload`]).

pub mod facts;
pub mod graph;
pub mod node_tree;
pub mod overload;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::policy::catalog::facts::{
    CastContext, CastFact, ColumnFact, Facts, FunctionFact, Item, Oid, OperatorFact, RelationFact,
    TypeFact,
};

/// The schemas in which a session may look for names that have none.
///
/// Grows with every `search_path` that the session may have set, and never shrinks: whichever of
/// them is in force, after a ROLLBACK, a RESET or in the middle of a function, is among them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Any schema: the body of a function that is called under whatever path.
    Everywhere,
    /// `pg_catalog` and these.
    Schemas(BTreeSet<String>),
}

impl Reach {
    /// With these schemas too.
    #[must_use]
    pub fn widened(&self, schemas: &[String]) -> Self {
        match self {
            Self::Everywhere => Self::Everywhere,
            Self::Schemas(known) => Self::Schemas(known.iter().chain(schemas).cloned().collect()),
        }
    }

    fn holds(&self, schema: &str) -> bool {
        schema == "pg_catalog"
            || match self {
                Self::Everywhere => true,
                Self::Schemas(schemas) => schemas.contains(schema),
            }
    }
}

/// A name as a statement writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'t> {
    /// The schema, if it is written.
    pub schema: Option<&'t str>,
    /// The name.
    pub name: &'t str,
}

impl Named<'_> {
    fn may_be_in(&self, schema: &str, reach: &Reach) -> bool {
        self.schema.map_or_else(|| reach.holds(schema), |written| written == schema)
    }
}

/// The catalog of one database at one time, with what it proves.
#[derive(Debug, Default)]
pub struct Catalog {
    revision: String,
    types: HashMap<Oid, TypeFact>,
    types_by_name: HashMap<String, Vec<Oid>>,
    functions: HashMap<String, Vec<FunctionFact>>,
    operators: HashMap<String, Vec<OperatorFact>>,
    relations: HashMap<String, Vec<RelationFact>>,
    columns: HashMap<Oid, Vec<(String, Oid)>>,
    casts: Vec<CastFact>,
    suspects: HashSet<Item>,
}

impl Catalog {
    /// The catalog that these facts describe, with what is suspect in it.
    #[must_use]
    pub fn new(revision: String, facts: Facts, suspects: HashSet<Item>) -> Self {
        let mut catalog = Self { revision, casts: facts.casts, suspects, ..Self::default() };
        for fact in facts.types {
            catalog.types_by_name.entry(fact.name.clone()).or_default().push(fact.oid);
            catalog.types.insert(fact.oid, fact);
        }
        for fact in facts.functions {
            catalog.functions.entry(fact.name.clone()).or_default().push(fact);
        }
        for fact in facts.operators {
            catalog.operators.entry(fact.name.clone()).or_default().push(fact);
        }
        for fact in facts.relations {
            catalog.relations.entry(fact.name.clone()).or_default().push(fact);
        }
        for ColumnFact { relation, name, of } in facts.columns {
            catalog.columns.entry(relation).or_default().push((name, of));
        }
        catalog
    }

    /// Which state of the database this is.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Puts another set of suspects in the place of the present one.
    pub fn suspect(&mut self, suspects: HashSet<Item>) {
        self.suspects = suspects;
    }

    /// Whether something within the item's reach is neither proved nor listed.
    #[must_use]
    pub fn is_suspect(&self, item: Item) -> bool {
        self.suspects.contains(&item)
    }

    /// Whether making a value of some type runs unproved code.
    #[must_use]
    pub fn has_suspect_input(&self) -> bool {
        self.suspects.iter().any(|item| matches!(item, Item::Input(oid) if self.is_a_type(*oid)))
    }

    fn is_a_type(&self, oid: Oid) -> bool {
        self.types.contains_key(&oid)
    }

    /// The relations that the name may stand for.
    pub fn relations<'a>(
        &'a self,
        named: Named<'a>,
        reach: &'a Reach,
    ) -> impl Iterator<Item = &'a RelationFact> {
        let known = self.relations.get(named.name).into_iter().flatten();
        known.filter(move |relation| named.may_be_in(&relation.schema, reach))
    }

    /// The types that the name may stand for.
    pub fn types<'a>(
        &'a self,
        named: Named<'a>,
        reach: &'a Reach,
    ) -> impl Iterator<Item = &'a TypeFact> {
        let known = self.types_by_name.get(named.name).into_iter().flatten();
        let known = known.filter_map(|oid| self.types.get(oid));
        known.filter(move |fact| named.may_be_in(&fact.schema, reach))
    }

    /// The functions that the name may stand for.
    pub fn functions<'a>(
        &'a self,
        named: Named<'a>,
        reach: &'a Reach,
    ) -> impl Iterator<Item = &'a FunctionFact> {
        let known = self.functions.get(named.name).into_iter().flatten();
        known.filter(move |function| named.may_be_in(&function.schema, reach))
    }

    /// The operators that the name may stand for.
    pub fn operators<'a>(
        &'a self,
        named: Named<'a>,
        reach: &'a Reach,
    ) -> impl Iterator<Item = &'a OperatorFact> {
        let known = self.operators.get(named.name).into_iter().flatten();
        known.filter(move |operator| named.may_be_in(&operator.schema, reach))
    }

    /// A type by its number.
    #[must_use]
    pub fn type_of(&self, oid: Oid) -> Option<&TypeFact> {
        self.types.get(&oid)
    }

    /// The columns of a relation, in no order.
    #[must_use]
    pub fn columns(&self, relation: Oid) -> &[(String, Oid)] {
        self.columns.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// The casts made by suspect functions.
    pub fn suspect_casts(&self) -> impl Iterator<Item = &CastFact> {
        self.casts.iter().filter(|cast| self.is_suspect(Item::Support(cast.function)))
    }

    fn has_implicit_cast(&self, from: Oid, to: Oid) -> bool {
        self.casts.iter().any(|cast| {
            cast.source == from && cast.target == to && cast.context == CastContext::Implicit
        })
    }

    /// The types that a value of this type brings along: what it is an array of, what its columns
    /// are, what a domain stands on; itself included.
    pub fn types_within(&self, oid: Oid, into: &mut BTreeSet<Oid>) {
        let Some(fact) = self.types.get(&oid) else { return };
        if !into.insert(oid) {
            return;
        }
        self.types_within(fact.element, into);
        self.types_within(fact.base, into);
        if fact.relation != Oid::NONE {
            for (_, of) in self.columns(fact.relation) {
                self.types_within(*of, into);
            }
        }
    }
}
