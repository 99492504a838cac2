//! `rowarden certs`: an authority and certificates to try encryption with.
//!
//! For development: whoever holds `ca.key` can pose as this gate to everybody who trusts `ca.crt`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::cli::{Exit, complain};

/// What every server certificate is good for: this machine, by its names.
const THIS_MACHINE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Make a certificate authority and certificates for development
#[derive(Args, Debug)]
pub struct Certs {
    /// The folder for them; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// A further name or address of the gate (localhost, 127.0.0.1 and ::1 are always in)
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The common name in the client's certificate
    #[arg(long, value_name = "NAME", default_value = "client")]
    client: String,
}

/// Makes them, and says where they are.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(certs: &Certs, out: &mut impl Write) -> io::Result<Exit> {
    if let Err(error) = make(&certs.folder, &certs.hosts, &certs.client) {
        complain(&error.to_string());
        return Ok(Exit::Failed);
    }
    let folder = certs.folder.display();
    writeln!(out, "{folder}/ca.crt       give it to clients: sslrootcert")?;
    writeln!(out, "{folder}/server.crt   tls.cert, with tls.key = {folder}/server.key")?;
    writeln!(out, "{folder}/client.crt   sslcert of `{}`, with sslkey client.key", certs.client)?;
    writeln!(out, "For development only: whoever has {folder}/ca.key can pose as this gate.")?;
    Ok(Exit::Good)
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file that cannot be made. One that is there is never written over.
    #[error("cannot write `{path}`: {source}")]
    Unwritten {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that does not fit into a certificate.
    #[error("no certificate can be made: {0}")]
    Unmade(#[from] rcgen::Error),
}

/// Makes `ca`, `server` and `client`, each as `.crt` and `.key`, valid for a year; the keys are
/// their owner's alone.
///
/// # Errors
/// When one of the files is there already or cannot be written, or a name does not fit.
pub fn make(folder: &Path, hosts: &[String], client: &str) -> Result<(), CertsError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| CertsError::Unwritten { path: folder.to_owned(), source })?;
    let authority = authority()?;
    let mut names: Vec<String> = THIS_MACHINE.map(str::to_owned).to_vec();
    names.extend_from_slice(hosts);
    let server = issue(&authority, "rowarden", names, ExtendedKeyUsagePurpose::ServerAuth)?;
    let client = issue(&authority, client, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
    write(folder, "ca", &authority.pem(), authority.key())?;
    write(folder, "server", &server.0.pem(), &server.1)?;
    write(folder, "client", &client.0.pem(), &client.1)
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = params("rowarden development authority", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn issue(
    authority: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    hosts: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
) -> Result<(Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = params(name, hosts)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    Ok((params.signed_by(&key, authority)?, key))
}

fn params(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let (yesterday, next_year) = (today.saturating_sub(1.day()), today.saturating_add(1.year()));
    let (year, month, day) = parts(yesterday);
    params.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = parts(next_year);
    params.not_after = date_time_ymd(year, month, day);
    Ok(params)
}

fn parts(date: Date) -> (i32, u8, u8) {
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<(), CertsError> {
    let files = [("crt", certificate.to_owned(), 0o644), ("key", key.serialize_pem(), 0o600)];
    for (kind, text, mode) in files {
        let path = folder.join(format!("{name}.{kind}"));
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        opened
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| CertsError::Unwritten { path, source })?;
    }
    Ok(())
}
