//! Whether a suspect overload of a function or operator may be the one that the server chooses.
//!
//! The server's rules (PostgreSQL's manual, chapter "Type Conversion"): an exact match of the types
//! wins; otherwise every candidate counts to whose types the arguments convert by themselves, and
//! among those a literal of no known type goes to a string type if any takes it. Only these three
//! steps are followed, and only to rule a suspect out; what is not ruled out is taken for chosen.

use crate::policy::catalog::facts::{FunctionFact, Item, Oid, OperatorFact};
use crate::policy::catalog::{Catalog, Named, Reach};

/// What is known of the type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentType {
    /// A literal in quotes or NULL, whose type the server chooses.
    Literal,
    /// This type.
    Known(Oid),
    /// Nothing.
    Unknown,
}

/// What a name turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything that it can be is known to read only, or built in.
    Clear,
    /// There is nothing of this name.
    Missing,
    /// It may be user code that nobody has proved.
    Suspect,
}

impl Catalog {
    /// What a call may reach.
    #[must_use]
    pub fn judge_call(
        &self,
        named: Named<'_>,
        arguments: &[ArgumentType],
        reach: &Reach,
    ) -> Standing {
        let candidates: Vec<&FunctionFact> = self.functions(named, reach).collect();
        if candidates.is_empty() {
            return Standing::Missing;
        }
        let (suspects, clear): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|function| self.is_suspect_user_code(function));
        if suspects.is_empty() {
            return Standing::Clear;
        }
        let exact = |function: &&FunctionFact| {
            function.variadic == 0 && self.is_exact(&function.arguments, arguments)
        };
        // Of a domain the server first looks for a function that takes the domain itself.
        let by_domain = |function: &&FunctionFact| {
            function.arguments.iter().zip(arguments).any(|(wanted, given)| {
                matches!(given, ArgumentType::Known(oid) if oid.0 == *wanted && self.foundation(*oid) != *oid)
            })
        };
        let settled = clear.iter().any(exact) && !suspects.iter().any(by_domain);
        let strings = clear.iter().any(|function| self.takes_strings(function, arguments));
        let may_be_chosen = suspects.iter().any(|function| {
            if !self.takes(function, arguments) {
                return false;
            }
            // One with the very types of another stands in for it wherever its schema comes first.
            let stands_in = clear.iter().any(|other| other.arguments == function.arguments);
            let ruled_out = settled || (strings && !self.takes_strings(function, arguments));
            stands_in || !ruled_out
        });
        if may_be_chosen { Standing::Suspect } else { Standing::Clear }
    }

    /// Whether some function of this name is somebody's, and not proved. What came with the server is
    /// judged by its name, before and apart from this.
    #[must_use]
    pub fn has_suspect_function(&self, named: Named<'_>, reach: &Reach) -> bool {
        self.functions(named, reach).any(|function| self.is_suspect_user_code(function))
    }

    /// Whether some operator of this name is not proved.
    #[must_use]
    pub fn has_suspect_operator(&self, named: Named<'_>, reach: &Reach) -> bool {
        self.operators(named, reach).any(|operator| self.is_suspect(Item::Operator(operator.oid)))
    }

    pub(in crate::policy) fn is_suspect_user_code(&self, function: &FunctionFact) -> bool {
        !function.id().is_builtin() && self.is_suspect(Item::Function(function.id()))
    }

    /// What an operator may reach; without a left side it stands before its argument.
    #[must_use]
    pub fn judge_operator(
        &self,
        named: Named<'_>,
        left: Option<ArgumentType>,
        right: ArgumentType,
        reach: &Reach,
    ) -> Standing {
        let candidates: Vec<&OperatorFact> = self.operators(named, reach).collect();
        if candidates.is_empty() {
            return Standing::Missing;
        }
        let suspects = candidates
            .iter()
            .filter(|operator| self.is_suspect(Item::Operator(operator.oid)))
            .filter(|operator| (operator.left == Oid::NONE) == left.is_none());
        let clear: Vec<&&OperatorFact> = candidates
            .iter()
            .filter(|operator| !self.is_suspect(Item::Operator(operator.oid)))
            .collect();
        // A literal beside a known type is first taken for that type.
        let (assumed_left, assumed_right) = match (left, right) {
            (Some(ArgumentType::Literal), known @ ArgumentType::Known(_))
            | (Some(known @ ArgumentType::Known(_)), ArgumentType::Literal) => (Some(known), known),
            other => other,
        };
        let same = |of: Oid, argument: ArgumentType| self.is_exact(&[of.0], &[argument]);
        let exact = |operator: &OperatorFact| {
            assumed_left.is_none_or(|left| same(operator.left, left))
                && same(operator.right, assumed_right)
        };
        let takes_domain = |operator: &OperatorFact| {
            [operator.left, operator.right].iter().any(|of| self.foundation(*of) != *of)
        };
        let settled = clear.iter().any(|operator| exact(operator))
            && !suspects.clone().any(|operator| takes_domain(operator));
        let both_literals =
            matches!(left, None | Some(ArgumentType::Literal)) && right == ArgumentType::Literal;
        let strings = |operator: &OperatorFact| {
            both_literals
                && (left.is_none() || self.is_string(operator.left))
                && self.is_string(operator.right)
        };
        let goes_to_string = clear.iter().any(|operator| strings(operator));
        let mut suspects = suspects.filter(|operator| {
            left.is_none_or(|left| self.converts(left, operator.left))
                && self.converts(right, operator.right)
        });
        let may_be_chosen =
            suspects.any(|operator| !(settled || (goes_to_string && !strings(operator))));
        if may_be_chosen { Standing::Suspect } else { Standing::Clear }
    }

    fn is_exact(&self, wanted: &[u32], given: &[ArgumentType]) -> bool {
        wanted.len() == given.len()
            && wanted.iter().zip(given).all(|(wanted, given)| match given {
                ArgumentType::Known(oid) => {
                    self.foundation(*oid) == Oid(*wanted) || oid.0 == *wanted
                }
                ArgumentType::Literal | ArgumentType::Unknown => false,
            })
    }

    /// Whether a function can be called with as many arguments of these types.
    fn takes(&self, function: &FunctionFact, arguments: &[ArgumentType]) -> bool {
        let most = function.arguments.len();
        let fits = if function.variadic == 0 {
            arguments.len() <= most && arguments.len() + function.defaults >= most
        } else {
            arguments.len() + function.defaults + 1 >= most
        };
        let wanted = |place: usize| match function.arguments.get(place) {
            Some(wanted) if function.variadic == 0 || place + 1 < most => Oid(*wanted),
            _ => Oid(function.variadic),
        };
        fits && arguments.iter().enumerate().all(|(place, given)| {
            self.converts(*given, wanted(place))
                // VARIADIC hands over the array itself.
                || function.arguments.get(place).is_some_and(|of| self.converts(*given, Oid(*of)))
        })
    }

    fn takes_strings(&self, function: &FunctionFact, arguments: &[ArgumentType]) -> bool {
        function.variadic == 0
            && !arguments.is_empty()
            && function.arguments.len() == arguments.len()
            && arguments.iter().all(|argument| *argument == ArgumentType::Literal)
            && function.arguments.iter().all(|of| self.is_string(Oid(*of)))
    }

    fn is_string(&self, oid: Oid) -> bool {
        self.type_of(oid).is_some_and(|fact| fact.category == 'S')
    }

    /// Whether the server may convert an argument to a type by itself.
    fn converts(&self, from: ArgumentType, to: Oid) -> bool {
        let ArgumentType::Known(from) = from else { return true };
        let (Some(source), Some(target)) = (self.type_of(from), self.type_of(to)) else {
            return true;
        };
        if from == to || target.category == 'P' || source.category == 'P' {
            return true;
        }
        let (source_base, target_base) = (self.foundation(from), self.foundation(to));
        if source_base == target_base || self.has_implicit_cast(source_base, target_base) {
            return true;
        }
        match (self.type_of(source_base), self.type_of(target_base)) {
            (Some(source), Some(target)) => {
                let rows = source.kind == 'c' && target.kind == 'c';
                let arrays = source.element != Oid::NONE && target.element != Oid::NONE;
                rows || arrays
            }
            _ => true,
        }
    }

    /// What a domain stands on in the end.
    #[must_use]
    pub fn foundation(&self, oid: Oid) -> Oid {
        let mut at = oid;
        // The server allows no circles.
        for _ in 0..64 {
            match self.type_of(at) {
                Some(fact) if fact.kind == 'd' && fact.base != Oid::NONE => at = fact.base,
                _ => break,
            }
        }
        at
    }
}
