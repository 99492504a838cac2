//! What the server's catalog tables say, row by row, with names as the server writes them.
//!
//! Built-in objects are here too: an overload is settled only when all candidates are known.

/// The number of an object in the catalog table of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(pub u32);

impl Oid {
    /// No object.
    pub const NONE: Self = Self(0);

    /// Whether the object came with the server. `FirstNormalObjectId` of PostgreSQL's `transam.h`:
    /// what people and extensions make is numbered from 16384.
    #[must_use]
    pub const fn is_builtin(self) -> bool {
        self.0 < 16_384
    }
}

/// Something that may run code, or lead to something that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// A function that is called by its name.
    Function(Oid),
    /// A value is made of this type: its input function and, for a domain, its conditions run.
    Input(Oid),
    /// A function that is called with columns where the planner only folds constants: what is in its
    /// place may be its body, if that is SQL, but it is not run.
    Inlined(Oid),
    /// An operator.
    Operator(Oid),
    /// A value of this type is handled: compared, sorted, written out.
    Output(Oid),
    /// A relation is read.
    Relation(Oid),
    /// A function that is called for an operator, a cast, an aggregate or a type.
    Support(Oid),
}

/// `pg_type`.
#[derive(Clone, Debug)]
pub struct TypeFact {
    /// Its number.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name; `_text` for an array.
    pub name: String,
    /// `typtype`: `b` base, `c` row, `d` domain, `e` enum, `p` pseudo, `r` range, `m` multirange.
    pub kind: char,
    /// `typcategory`: `S` for strings, `P` for pseudo-types.
    pub category: char,
    /// What an array holds.
    pub element: Oid,
    /// What a domain stands on.
    pub base: Oid,
    /// The relation whose rows a row type has.
    pub relation: Oid,
}

/// `pg_proc`.
#[derive(Clone, Debug, Default)]
pub struct FunctionFact {
    /// Its number.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `prokind`: `f` function, `a` aggregate, `w` window function, `p` procedure.
    pub kind: char,
    /// The type of its result.
    pub result: u32,
    /// The types of its arguments.
    pub arguments: Vec<u32>,
    /// The types of its arguments in words, as PostgreSQL writes them: `integer, text`.
    pub signature: String,
    /// How many of the last arguments may be left out.
    pub defaults: usize,
    /// The type of the last argument's elements when it takes any number of them; 0 otherwise.
    pub variadic: u32,
    /// The language, for what did not come with the server.
    pub language: String,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// `probin`: the library of a function in C.
    pub library: Option<String>,
    /// Whether a superuser owns it, so that nobody else can have replaced it.
    pub owner: Owner,
    /// Under whose rights it runs.
    pub rights: Rights,
    /// The text of a function in SQL that is parsed at each call, or the name of an internal one.
    pub body: Option<String>,
    /// `proconfig`: settings for the time of the call, `name=value`.
    pub settings: Vec<String>,
}

impl FunctionFact {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> Oid {
        Oid(self.oid)
    }
}

/// Who can replace an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Some role.
    #[default]
    Ordinary,
    /// Superusers only.
    Superuser,
}

/// Under whose rights a function runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// Those of whoever calls it.
    #[default]
    Caller,
    /// `SECURITY DEFINER`.
    Definer,
}

/// `pg_operator`.
#[derive(Clone, Debug)]
pub struct OperatorFact {
    /// Its number.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The type to the left; none for a prefix operator.
    pub left: Oid,
    /// The type to the right.
    pub right: Oid,
    /// The type of its result.
    pub result: Oid,
}

/// `pg_cast`.
#[derive(Clone, Debug)]
pub struct CastFact {
    /// From.
    pub source: Oid,
    /// To.
    pub target: Oid,
    /// The function that makes it; none if the bytes stay or pass through text.
    pub function: Oid,
    /// When the server uses it unasked.
    pub context: CastContext,
}

/// When the server uses a cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastContext {
    /// Only where it is written.
    Explicit,
    /// Where a value is stored or a cast is written.
    Assignment,
    /// Wherever it helps.
    Implicit,
}

/// `pg_class`.
#[derive(Clone, Debug)]
pub struct RelationFact {
    /// Its number.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relkind`: `r` table, `v` view, `m` materialized view, `f` foreign table, `p` partitioned
    /// table, `S` sequence, `c` row type.
    pub kind: char,
}

/// `pg_attribute`.
#[derive(Clone, Debug)]
pub struct ColumnFact {
    /// Whose column.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// Its type.
    pub of: Oid,
}

/// An expression that the server keeps as a tree (`pg_node_tree`), and what runs it.
#[derive(Clone, Debug)]
pub struct TreeFact {
    /// What is used when the expression runs.
    pub item: Item,
    /// How much of it runs then.
    pub runs: Runs,
    /// The text of the tree.
    pub tree: String,
}

/// How much of an expression runs when a relation is merely read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// All of it.
    Entirely,
    /// What has no column in it: the planner folds constants in the conditions of indexes and the
    /// checks of tables, to find out whether it can use the one or skip the other.
    FoldedOnly,
}

/// All of it, as read in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Types.
    pub types: Vec<TypeFact>,
    /// Functions.
    pub functions: Vec<FunctionFact>,
    /// Operators.
    pub operators: Vec<OperatorFact>,
    /// Casts.
    pub casts: Vec<CastFact>,
    /// Relations.
    pub relations: Vec<RelationFact>,
    /// Columns.
    pub columns: Vec<ColumnFact>,
    /// Expressions.
    pub trees: Vec<TreeFact>,
    /// What uses what, as far as the tables say it by number.
    pub uses: Vec<(Item, Item)>,
}
