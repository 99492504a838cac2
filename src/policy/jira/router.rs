//! Finds the operation that a path stands for: a tree of segments.
//!
//! A literal segment is tried before a parameter and a narrow parameter before a wide one, as JAX-RS
//! (section 3.7.2) and every Atlassian router do. No read fits a path that a more literal write also
//! fits (the table is refused otherwise), so the order decides about names, never about safety.

use std::collections::HashMap;

use crate::policy::jira::template::{Segment, Template};

/// A tree of paths. `T` is what is kept for each.
#[derive(Clone, Debug)]
pub(super) struct Router<T> {
    nodes: Vec<Node<T>>,
}

/// Where a path may go on.
#[derive(Clone, Debug)]
struct Node<T> {
    literals: HashMap<Box<str>, usize>,
    /// In the order in which they are tried.
    parameters: Vec<(Segment, usize)>,
    /// By method.
    ends: Vec<(Method, T)>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), parameters: Vec::new(), ends: Vec::new() }
    }
}

/// A method that operations have. Names are case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// `DELETE`
    Delete,
    /// `GET`, and `HEAD` where rules are looked up: they are the same.
    Get,
    /// `PATCH`
    Patch,
    /// `POST`
    Post,
    /// `PUT`
    Put,
}

impl Method {
    /// The method of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "DELETE" => Self::Delete,
            "GET" => Self::Get,
            "PATCH" => Self::Patch,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            _ => return None,
        })
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl<T: Copy> Router<T> {
    /// Adds what `method` means on a path. What was there before stays and wins.
    pub(super) fn add(&mut self, method: Method, template: &Template, end: T) {
        let mut at = 0;
        for segment in template.segments() {
            at = self.child(at, segment);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.ends.push((method, end));
        }
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return 0 };
        let child = if let Segment::Literal(word) = segment {
            *node.literals.entry(word.clone()).or_insert(new)
        } else if let Some((_, child)) = node.parameters.iter().find(|(known, _)| known == segment)
        {
            *child
        } else {
            node.parameters.push((segment.clone(), new));
            // Narrow before wide: the order of the variants.
            node.parameters.sort_by(|one, two| one.0.cmp(&two.0));
            new
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    /// What `method` means on this path.
    pub(super) fn find(&self, method: Method, path: &[impl AsRef<str>]) -> Option<T> {
        self.find_below(0, method, path)
    }

    fn find_below(&self, at: usize, method: Method, path: &[impl AsRef<str>]) -> Option<T> {
        let node = self.nodes.get(at)?;
        let Some((first, rest)) = path.split_first() else {
            return node.ends.iter().find(|(known, _)| *known == method).map(|(_, end)| *end);
        };
        let literal = node.literals.get(first.as_ref());
        if let Some(end) = literal.and_then(|child| self.find_below(*child, method, rest)) {
            return Some(end);
        }
        node.parameters.iter().filter(|(segment, _)| segment.takes(first.as_ref())).find_map(
            |(segment, child)| {
                let rest = if *segment == Segment::Rest { &[] } else { rest };
                self.find_below(*child, method, rest)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Method, Router};
    use crate::policy::jira::template::Template;

    fn find(path: &str, method: Method) -> Option<&'static str> {
        let mut router = Router::default();
        for (method, template, name) in [
            (Method::Get, "/secure/{rest...}", "page"),
            (Method::Get, "/secure/attachment/{id:number}/{name}", "attachment"),
            (Method::Get, "/issue/{key:issue}", "issue"),
            (Method::Post, "/issue/picker", "write"),
            (Method::Get, "/issue/{name}/{x}", "wide"),
            (Method::Get, "/issue/{2|3}/{x:number}", "narrow"),
        ] {
            router.add(method, &Template::parse(template).unwrap(), name);
        }
        let path: Vec<&str> = path.split('/').collect();
        router.find(method, &path)
    }

    #[test]
    fn literal_segments_win_and_narrow_parameters_before_wide_ones() {
        assert_eq!(find("secure/attachment/7/x", Method::Get), Some("attachment"));
        assert_eq!(find("secure/attachment/x/x", Method::Get), Some("page"));
        assert_eq!(find("secure/a/b/c/d", Method::Get), Some("page"));
        assert_eq!(find("issue/3/1", Method::Get), Some("narrow"));
        assert_eq!(find("issue/3/x", Method::Get), Some("wide"));
        assert_eq!(find("issue/A-1", Method::Get), Some("issue"));
    }

    #[test]
    fn a_path_that_is_not_there_or_not_for_this_method_finds_nothing() {
        assert_eq!(find("issue/picker", Method::Get), None);
        assert_eq!(find("issue/A-1", Method::Post), None);
        assert_eq!(find("issue", Method::Get), None);
        assert_eq!(find("secure", Method::Get), None);
    }
}
