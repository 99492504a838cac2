//! The PROXY protocol, versions 1 and 2: what a load balancer says of the client behind it.
//!
//! Whoever can send such a header can claim any address, so it is read from configured addresses
//! only, and from those it is demanded: a balancer that leaves it out would hide every client. From
//! anybody else it is no start-up packet like any other nonsense.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, its end included.
const MAX_LINE_BYTES: usize = 107;

/// The longest body of version 2: 1 KiB. Addresses take 36 bytes, and what balancers add to them is
/// not read.
const MAX_BODY_BYTES: usize = 1024;

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    network: IpAddr,
    bits: u8,
}

impl IpRange {
    /// Understands `ADDRESS` and `ADDRESS/BITS`. `None` for anything else, also for an address with
    /// bits outside of its own range: one of the two would not be what was meant.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let (address, bits) = match written.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (written, None),
        };
        let network: IpAddr = address.parse().ok()?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        let range = Self { network, bits };
        (bits <= most && masked(network, bits) == network).then_some(range)
    }

    /// Whether an address is in it; one of version 4 in the clothes of version 6 counts as itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.bits) == self.network
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it takes.
    pub length: usize,
    /// The client; `None` when the balancer speaks for itself or does not know.
    pub client: Option<SocketAddr>,
}

/// Bytes that are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header")]
pub struct NoHeader;

/// Reads the header at the front; `None` if more bytes are needed.
///
/// # Errors
/// Bytes that are no header, as soon as that is certain.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let begins = |mark: &[u8]| {
        let shared = mark.len().min(bytes.len());
        mark.get(..shared) == bytes.get(..shared)
    };
    if begins(SIGNATURE) {
        read_binary(bytes)
    } else if begins(b"PROXY ") {
        read_line(bytes)
    } else {
        Err(NoHeader)
    }
}

fn read_line(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let seen = bytes.get(..MAX_LINE_BYTES.min(bytes.len())).unwrap_or_default();
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() == MAX_LINE_BYTES { Err(NoHeader) } else { Ok(None) };
    };
    let line = seen.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(NoHeader)?;
    let words: Vec<&str> = line.split(' ').collect();
    let client = match *words {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let address = |text: &str| -> Result<IpAddr, NoHeader> {
                let address: IpAddr = text.parse().map_err(|_| NoHeader)?;
                if address.is_ipv4() == (family == "TCP4") { Ok(address) } else { Err(NoHeader) }
            };
            address(to)?;
            port(to_port)?;
            Some(SocketAddr::new(address(from)?, port(from_port)?))
        }
        _ => return Err(NoHeader),
    };
    Ok(Some(Header { length: end + 2, client }))
}

/// Digits only, and no zero in front.
fn port(text: &str) -> Result<u16, NoHeader> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| is_number && is_plain).ok_or(NoHeader)
}

fn read_binary(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some((_, rest)) = bytes.split_first_chunk::<12>() else { return Ok(None) };
    let Some(([command, family, high, low], rest)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_BODY_BYTES || !matches!(command, 0x20 | 0x21) {
        return Err(NoHeader);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let client = match (command, family) {
        // LOCAL: the balancer looks whether we are well. UNSPEC: it does not say who.
        (0x20, _) | (_, 0x00) => None,
        (_, 0x11) => Some(ends::<4>(body)?),
        (_, 0x21) => Some(ends::<16>(body)?),
        _ => return Err(NoHeader),
    };
    Ok(Some(Header { length: 16 + length, client }))
}

/// The source of a source and a target, each an address of `N` bytes, then both ports.
fn ends<const N: usize>(body: &[u8]) -> Result<SocketAddr, NoHeader>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = body.split_first_chunk::<N>().ok_or(NoHeader)?;
    let (_, rest) = rest.split_first_chunk::<N>().ok_or(NoHeader)?;
    let (port, rest) = rest.split_first_chunk::<2>().ok_or(NoHeader)?;
    rest.split_first_chunk::<2>().ok_or(NoHeader)?;
    Ok(SocketAddr::new(IpAddr::from(*from), u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::{Header, IpRange, NoHeader, SIGNATURE, read};

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn client(bytes: &[u8]) -> Result<Option<String>, NoHeader> {
        let header = read(bytes)?.expect("whole");
        assert_eq!(header.length, bytes.len());
        Ok(header.client.map(|client| client.to_string()))
    }

    #[test]
    fn both_versions_name_the_client() {
        let v4 = [10, 1, 2, 3, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 9);
        for (bytes, named) in [
            (b"PROXY TCP4 10.1.2.3 10.0.0.1 8080 5432\r\n".to_vec(), Some("10.1.2.3:8080")),
            (b"PROXY TCP6 ::1 ::2 9 5432\r\n".to_vec(), Some("[::1]:9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &v4), Some("10.1.2.3:8080")),
            (binary(0x21, 0x11, &[&v4[..], &[3, 0, 0]].concat()), Some("10.1.2.3:8080")),
            (binary(0x21, 0x21, &v6), Some("[::1]:9")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &v4), None),
            (binary(0x21, 0x00, &[1, 2, 3]), None),
        ] {
            assert_eq!(client(&bytes), Ok(named.map(str::to_owned)), "{bytes:?}");
            // Every beginning of it waits for the rest, and what follows is left alone.
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None), "{bytes:?} {end}");
            }
            let longer = [&bytes[..], b"more"].concat();
            assert_eq!(read(&longer).map(|it| it.map(|it| it.length)), Ok(Some(bytes.len())));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(107));
        let mixed = [&SIGNATURE[..6], b"PROXY TCP4"].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"PROXY TCP4 10.1.2.3 10.0.0.1 8080\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY TCP4 10.1.2.3 10.0.0.1 65536 1\r\n",
            b"PROXY TCP4 10.1.2.3 10.0.0.1 +1 1\r\n",
            b"PROXY TCP4 10.1.2.3  10.0.0.1 1 1\r\n",
            b"PROXY UDP4 10.1.2.3 10.0.0.1 1 1\r\n",
            b"PROXY \r\n",
            long.as_bytes(),
            &mixed,
            &binary(0x11, 0x11, &[0; 12]),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x12, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x21, &[0; 35]),
            &binary(0x21, 0x31, &[0; 216]),
            &binary(0x21, 0x11, &[0; 1025])[..16],
        ] {
            assert_eq!(read(bytes), Err(NoHeader), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_header_is_not_longer_than_it_says() {
        let header = read(b"PROXY UNKNOWN\r\n\0\0\0\x08").unwrap();
        assert_eq!(header, Some(Header { length: 15, client: None }));
    }

    #[test]
    fn a_range_holds_its_own_addresses_only() {
        let holds = |range, address: &str| {
            IpRange::parse(range).expect(range).contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1") && !holds("10.0.0.0/8", "::a"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("0.0.0.0/0", "9.9.9.9") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe00::1"));
        assert!(holds("::1", "::1") && !holds("::1", "::2"));
        for written in
            ["", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/", "a/8", "10.0.0.0/+8"]
        {
            assert_eq!(IpRange::parse(written), None, "{written}");
        }
    }
}
