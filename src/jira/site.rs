//! The URL by which a site, or the gate, is known: scheme, host, port and context path.
//!
//! The same type says where requests go, by which names the site speaks of itself in its answers,
//! and what those names are replaced by. It is compared as a whole (RFC 3986 section 6.2.2 and
//! 6.2.3: case of scheme and host, the default port), never as text.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// How a site is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that need not be written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A site's URL without a path of its own: `https://jira.example/jira`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiteUrl {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

/// A text that is not the URL of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteUrlMistake {
    /// It does not begin with `http://` or `https://`.
    #[error("a URL begins with `http://` or `https://`")]
    Scheme,
    /// A user or password before the host.
    #[error("a URL here holds no user and no password")]
    UserInfo,
    /// The host is missing or has bytes that no host has.
    #[error("the host is missing, or it is not a host name")]
    Host,
    /// The port is no port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// The path is not made of plain segments.
    #[error("the path may hold letters, digits and `-._~` only, without `.` and `..`")]
    Path,
}

impl SiteUrl {
    /// How it is spoken to.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case; an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    /// The port, written or not.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The context path: empty, or with a slash in front and none behind.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as `Host` carries them (RFC 9110 section 7.2): without the default port.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether this authority, as a client wrote it, names the same host and port.
    #[must_use]
    pub fn has_authority(&self, authority: &str) -> bool {
        read_authority(authority, self.scheme)
            .is_ok_and(|(host, port)| host == self.host && port == self.port)
    }

    /// What stands behind this site in `url`, if `url` is this site or something on it: nothing, or
    /// a rest that begins with `/`, `?` or `#`. A `url` that begins with `//` has the scheme of the
    /// site (RFC 3986 section 4.2).
    #[must_use]
    pub fn rest_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        let relative = url.strip_prefix("//").map(|behind| (self.scheme, behind));
        let (scheme, behind) = relative.or_else(|| read_scheme(url))?;
        let end = behind.find(['/', '?', '#', '\\']).unwrap_or(behind.len());
        let (authority, rest) = behind.split_at_checked(end)?;
        // A user in front of the host leads to the same site, and some clients take `\` for `/`.
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        if scheme != self.scheme || !self.has_authority(authority) {
            return None;
        }
        let rest = rest.strip_prefix(self.path.as_str())?;
        (rest.is_empty() || rest.starts_with(['/', '?', '#', '\\'])).then_some(rest)
    }
}

impl fmt::Display for SiteUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
    }
}

impl FromStr for SiteUrl {
    type Err = SiteUrlMistake;

    fn from_str(written: &str) -> Result<Self, SiteUrlMistake> {
        let (scheme, behind) = read_scheme(written).ok_or(SiteUrlMistake::Scheme)?;
        let end = behind.find('/').unwrap_or(behind.len());
        let (authority, path) = behind.split_at_checked(end).ok_or(SiteUrlMistake::Host)?;
        if authority.contains('@') {
            return Err(SiteUrlMistake::UserInfo);
        }
        let (host, port) = read_authority(authority, scheme)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.split('/').skip(1).all(is_plain_segment) {
            return Err(SiteUrlMistake::Path);
        }
        Ok(Self { scheme, host, port, path: path.to_owned() })
    }
}

fn read_scheme(url: &str) -> Option<(Scheme, &str)> {
    [Scheme::Https, Scheme::Http].into_iter().find_map(|scheme| {
        let name = scheme.name();
        let (head, rest) = url.split_at_checked(name.len())?;
        let behind = rest.strip_prefix("://")?;
        head.eq_ignore_ascii_case(name).then_some((scheme, behind))
    })
}

/// Host in lower case, with the brackets of an IPv6 address, and port.
fn read_authority(written: &str, scheme: Scheme) -> Result<(String, u16), SiteUrlMistake> {
    let bracketed = written.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = if let Some((ip, port)) = bracketed {
        let ip: Ipv6Addr = ip.parse().map_err(|_| SiteUrlMistake::Host)?;
        (format!("[{ip}]"), port)
    } else {
        let end = written.find(':').unwrap_or(written.len());
        let (host, port) = written.split_at_checked(end).ok_or(SiteUrlMistake::Host)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_name) {
            return Err(SiteUrlMistake::Host);
        }
        (host.to_ascii_lowercase(), port)
    };
    if port.is_empty() {
        return Ok((host, scheme.default_port()));
    }
    let digits = port.strip_prefix(':').ok_or(SiteUrlMistake::Host)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| is_number && *number != 0);
    number.map(|number| (host, number)).ok_or(SiteUrlMistake::Port)
}

fn is_plain_segment(segment: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::{SiteUrl, SiteUrlMistake};

    fn site(written: &str) -> SiteUrl {
        written.parse().unwrap()
    }

    #[test]
    fn a_site_is_read_and_shown_in_one_spelling() {
        for (written, shown) in [
            ("https://Example.atlassian.net", "https://example.atlassian.net"),
            ("https://example.atlassian.net:443/", "https://example.atlassian.net"),
            ("HTTP://localhost:8080/jira/", "http://localhost:8080/jira"),
            ("http://[0:0::1]:80", "http://[::1]"),
            ("https://api.atlassian.com/ex/jira/11-22", "https://api.atlassian.com/ex/jira/11-22"),
        ] {
            assert_eq!(site(written).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_site_is_told_apart() {
        for (written, mistake) in [
            ("ftp://a", SiteUrlMistake::Scheme),
            ("jira.example", SiteUrlMistake::Scheme),
            ("https://ann:secret@jira.example", SiteUrlMistake::UserInfo),
            ("https://", SiteUrlMistake::Host),
            ("https://a b", SiteUrlMistake::Host),
            ("https://[::1", SiteUrlMistake::Host),
            ("https://a:0", SiteUrlMistake::Port),
            ("https://a:+1", SiteUrlMistake::Port),
            ("https://a/b?c=d", SiteUrlMistake::Path),
            ("https://a/../b", SiteUrlMistake::Path),
            ("https://a//b", SiteUrlMistake::Path),
        ] {
            assert_eq!(written.parse::<SiteUrl>(), Err(mistake), "{written}");
        }
    }

    #[test]
    fn a_url_is_on_the_site_only_with_its_whole_host_port_and_path() {
        let jira = site("https://jira.example/jira");

        assert_eq!(jira.rest_of("https://JIRA.example:443/jira/rest?a#b"), Some("/rest?a#b"));
        assert_eq!(jira.rest_of("https://jira.example/jira"), Some(""));
        assert_eq!(jira.rest_of("https://ann@jira.example/jira?a"), Some("?a"));
        for other in [
            "http://jira.example/jira/rest",
            "https://jira.example:8443/jira/rest",
            "https://jira.example/jirafe",
            "https://jira.example.evil/jira/rest",
            "https://jira.example@evil/jira/rest",
            "/jira/rest",
        ] {
            assert_eq!(jira.rest_of(other), None, "{other}");
        }
    }
}
