//! Addresses as operators write them.
//!
//! Listen addresses are literal (`localhost` is the one name), because a name that resolves to
//! something else tomorrow would open the gate to somebody else. The server may have a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::listen::Address;
use crate::postgres::upstream::UpstreamAddress;

/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;

/// The longest path of a unix socket: what Linux keeps for it, less the final zero byte.
const MAX_SOCKET_PATH: usize = 107;

/// An address that cannot be understood.
pub(super) struct AddressMistake {
    pub(super) message: String,
    pub(super) help: String,
}

fn wrong(message: String, help: impl Into<String>) -> AddressMistake {
    AddressMistake { message, help: help.into() }
}

/// Understands one listen address; `localhost` is two.
pub(super) fn listen(written: &str, folder: &Path) -> Result<Vec<Address>, AddressMistake> {
    if written.starts_with('/') || written.starts_with("unix:") {
        let path = written.strip_prefix("unix:").unwrap_or(written);
        return socket_path(folder, path).map(|path| vec![Address::Unix(path)]);
    }
    if let Some(port) = written.strip_prefix("localhost:") {
        let port = port_number(port)?;
        let families = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        return Ok(families.map(|ip| Address::Tcp(SocketAddr::new(ip, port))).to_vec());
    }
    match written.parse() {
        Ok(address) => Ok(vec![Address::Tcp(address)]),
        Err(_) => Err(not_a_listen_address(written)),
    }
}

fn not_a_listen_address(written: &str) -> AddressMistake {
    let message = format!("`{written}` is not an address to listen on");
    let help = match written.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("a port is missing: `{ip}:6432`"),
        Ok(IpAddr::V6(ip)) => format!("brackets and a port are missing: `[{ip}]:6432`"),
        Err(_) if written.starts_with("*:") => {
            "every address of this machine is `0.0.0.0:PORT` and `[::]:PORT`".to_owned()
        }
        Err(_) => "write `IP:PORT`, `[IPV6]:PORT`, `localhost:PORT` or the path of a unix socket"
            .to_owned(),
    };
    wrong(message, help)
}

/// Understands where the server is: one or more places, tried in order.
pub(super) fn upstream(
    written: &str,
    folder: &Path,
) -> Result<Vec<UpstreamAddress>, AddressMistake> {
    if let Some(directory) = written.strip_prefix("unix:") {
        return upstream_socket(directory, folder).map(|address| vec![address]);
    }
    let rest =
        written.strip_prefix("postgres://").or_else(|| written.strip_prefix("postgresql://"));
    let Some(rest) = rest else {
        // Not repeated: it may hold a password.
        let message = "`upstream` is not the address of a PostgreSQL server".to_owned();
        return Err(wrong(message, "write `postgres://HOST:PORT` or `unix:/FOLDER:PORT`"));
    };
    let hosts = rest.strip_suffix('/').unwrap_or(rest);
    refuse_more_than_hosts(hosts)?;
    hosts.split(',').map(host_and_port).collect()
}

/// Who logs in, where and how, is what the client says, not the gate.
fn refuse_more_than_hosts(hosts: &str) -> Result<(), AddressMistake> {
    let (part, what) = match hosts.find(['@', '/', '?']).and_then(|at| hosts.get(at..)) {
        None => return Ok(()),
        Some(rest) if rest.starts_with('@') => ("a user or password", "each client logs in itself"),
        Some(rest) if rest.starts_with('/') => ("a database", "each client names its own"),
        Some(_) => ("parameters", "a unix socket is written `unix:/FOLDER:PORT`"),
    };
    Err(wrong(format!("`upstream` takes hosts only, not {part}"), what))
}

fn host_and_port(written: &str) -> Result<UpstreamAddress, AddressMistake> {
    let (host, port) = match written.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, port)) => (literal_ipv6(ip)?, port),
        None if written.matches(':').count() > 1 => {
            return Err(wrong(format!("`{written}` is not a host and port"), IPV6_HELP));
        }
        None => {
            let end = written.find(':').unwrap_or(written.len());
            let (host, port) = written.split_at_checked(end).unwrap_or((written, ""));
            (host_name(host)?, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => upstream_port(port)?,
        None if port.is_empty() => DEFAULT_PORT,
        None => return Err(wrong(format!("`{written}` is not a host and port"), IPV6_HELP)),
    };
    Ok(UpstreamAddress::Tcp(host, port))
}

const IPV6_HELP: &str = "an IPv6 address stands in brackets: `[::1]:5432`";

fn literal_ipv6(written: &str) -> Result<String, AddressMistake> {
    match written.parse::<Ipv6Addr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => Err(wrong(format!("`{written}` is not an IPv6 address"), IPV6_HELP)),
    }
}

fn host_name(written: &str) -> Result<String, AddressMistake> {
    let is_name_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if written.is_empty() {
        return Err(wrong("a host name is missing".to_owned(), "write `postgres://HOST:PORT`"));
    }
    if !written.bytes().all(is_name_byte) {
        let help = "a unix socket is written `unix:/FOLDER:PORT`";
        return Err(wrong(format!("`{written}` is not a host name"), help));
    }
    Ok(written.to_owned())
}

/// `/FOLDER[:PORT]`, as libpq names sockets, or the socket file itself.
fn upstream_socket(written: &str, folder: &Path) -> Result<UpstreamAddress, AddressMistake> {
    if written.rsplit('/').next().is_some_and(|name| name.starts_with(".s.PGSQL.")) {
        return socket_path(folder, written).map(UpstreamAddress::Unix);
    }
    let (directory, port) = match written.rsplit_once(':') {
        Some((directory, port)) => (directory, upstream_port(port)?),
        None => (written, DEFAULT_PORT),
    };
    if directory.is_empty() {
        let help = "write `unix:/FOLDER:PORT`";
        return Err(wrong("the folder of the unix socket is missing".to_owned(), help));
    }
    let file = format!("{}/.s.PGSQL.{port}", directory.trim_end_matches('/'));
    socket_path(folder, &file).map(UpstreamAddress::Unix)
}

fn socket_path(folder: &Path, written: &str) -> Result<PathBuf, AddressMistake> {
    if written.is_empty() {
        let help = "write `unix:/FOLDER/FILE`";
        return Err(wrong("the path of the unix socket is missing".to_owned(), help));
    }
    let path = folder.join(written);
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let message = format!("a unix socket's path has at most {MAX_SOCKET_PATH} bytes");
        return Err(wrong(message, "use a shorter folder"));
    }
    Ok(path)
}

fn port_number(written: &str) -> Result<u16, AddressMistake> {
    let is_number = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    written.parse().ok().filter(|_| is_number).ok_or_else(|| {
        let message = format!("`{written}` is not a port");
        wrong(message, "a port is a number up to 65535")
    })
}

/// Port 0 lets the system choose when listening; no server can be reached there.
fn upstream_port(written: &str) -> Result<u16, AddressMistake> {
    let port = port_number(written)?;
    if port == 0 {
        return Err(wrong("`0` is not a port".to_owned(), "a port is a number from 1 to 65535"));
    }
    Ok(port)
}
