//! What is read from certificates: the files that hold them, the name in them, and the hash by which
//! a password exchange is bound to one.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Tagged};

/// `id-at-commonName` (RFC 5280, appendix A).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A file with a certificate or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not there, or not ours to read.
    #[error("`{path}` cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing of the kind in it.
    #[error("`{path}` holds no {what} in PEM form")]
    Empty {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Others may read it.
    #[error("`{0}` can be read by others: `chmod 600` it")]
    Exposed(PathBuf),
}

/// Reads the certificates in a PEM file, the first of them first.
///
/// # Errors
/// A file that cannot be read, or in which there is none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(path)?;
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(FileError::Empty { path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

/// Reads the private key in a PEM file that nobody else may read.
///
/// # Errors
/// A file that cannot be read or that others can read, or one that holds no key.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    check_private(path)?;
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| FileError::Empty { path: path.to_owned(), what: "private key" })
}

/// Whether a file with a secret is its owner's alone; one of root's may be read by a group, as
/// PostgreSQL has it.
///
/// # Errors
/// A file that others can read, or that is not there.
pub fn check_private(path: &Path) -> Result<(), FileError> {
    let found = fs::metadata(path)
        .map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    let open_to_others = if found.uid() == 0 { 0o027 } else { 0o077 };
    if found.permissions().mode() & open_to_others == 0 {
        Ok(())
    } else {
        Err(FileError::Exposed(path.to_owned()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })
}

/// The common name of the subject; `None` if there is not exactly one.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let subject = certificate.tbs_certificate.subject;
    let mut names = subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = names.by_ref().filter(|attribute| attribute.oid == COMMON_NAME);
    let (name, more) = (names.next()?, names.next());
    let value = &name.value;
    let text = match value.tag() {
        x509_cert::der::Tag::Utf8String => {
            value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned()
        }
        x509_cert::der::Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned()
        }
        _ => return None,
    };
    // A second name, or a zero byte, and two readers could see two people.
    (more.is_none() && !text.chars().any(char::is_control)).then_some(text)
}

/// `tls-server-end-point` (RFC 5929, section 4.1): the certificate hashed by the hash of its own
/// signature, by SHA-256 where that is MD5 or SHA-1. `None` where the RFC defines none.
#[must_use]
pub fn end_point_binding(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let hash = signature_hash(&parsed.signature_algorithm)?;
    Some(digest(hash, certificate).as_ref().to_vec())
}

fn signature_hash(
    signature: &x509_cert::spki::AlgorithmIdentifierOwned,
) -> Option<&'static Algorithm> {
    match signature.oid.to_string().as_str() {
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(&SHA256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&SHA384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&SHA512),
        // Ed25519, RSA-PSS and whatever comes: neither PostgreSQL nor libpq binds to those.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{
        CertificateParams, DnType, DnValue, KeyPair, PKCS_ECDSA_P256_SHA256,
        PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
    };
    use rustls::pki_types::CertificateDer;

    use super::{FileError, check_private, common_name, end_point_binding};

    fn certificate(
        algorithm: &'static SignatureAlgorithm,
        names: &[DnValue],
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        for name in names {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        let key = KeyPair::generate_for(algorithm).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_common_name_is_read_in_the_spellings_that_are_in_use() {
        let name = |value: DnValue| common_name(&certificate(&PKCS_ECDSA_P256_SHA256, &[value]));
        assert_eq!(name(DnValue::Utf8String("Änne".to_owned())).as_deref(), Some("Änne"));
        let printable = DnValue::PrintableString("ann".try_into().unwrap());
        assert_eq!(name(printable).as_deref(), Some("ann"));
        assert_eq!(name(DnValue::Utf8String("ann\0.example".to_owned())), None);
        assert_eq!(common_name(&certificate(&PKCS_ECDSA_P256_SHA256, &[])), None);
        assert_eq!(common_name(&CertificateDer::from(&b"0\x03\x02\x01\x00"[..])), None);
    }

    #[test]
    fn the_hash_of_the_binding_is_that_of_the_signature() {
        let length = |algorithm| {
            let name = DnValue::Utf8String("gate".to_owned());
            end_point_binding(&certificate(algorithm, &[name])).map(|hash| hash.len())
        };
        assert_eq!(length(&PKCS_ECDSA_P256_SHA256), Some(32));
        assert_eq!(length(&PKCS_ECDSA_P384_SHA384), Some(48));
        assert_eq!(length(&PKCS_ED25519), None, "the RFC defines none");
    }

    #[test]
    fn a_secret_that_others_can_read_is_no_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, private) in [(0o600, true), (0o400, true), (0o604, false), (0o666, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_private(file.path()).is_ok(), private, "{mode:o}");
        }
        let gone = check_private(&file.path().join("gone"));
        assert!(matches!(gone, Err(FileError::Unreadable { .. })));
    }
}
