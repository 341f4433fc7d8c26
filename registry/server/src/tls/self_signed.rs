//! The server certificate of `tls = "self-signed"`.
//!
//! The CA is made once and kept under `<data>/tls`, so that clients trust it once. The server's certificate lives in
//! memory only: it is made at each start for the names that are set then, and again before it expires.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use roadstead_domain::Clock;

use super::authority::{Authority, IssueError, Issued};

/// Why there is no self-signed certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfSignedError {
    /// A file of the CA cannot be read or written.
    #[error("{} cannot be read or written: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The CA's key is not one.
    #[error("{} is not a private key that this version made: {source}", path.display())]
    Key { path: PathBuf, source: rcgen::Error },
    /// The CA's certificate is there without its key.
    #[error("{} is there, but its key {} is not", certificate.display(), key.display())]
    KeyMissing { certificate: PathBuf, key: PathBuf },
    /// A certificate cannot be made or used.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// The file that clients need in order to trust the CA under a data folder.
fn certificate_file(data: &Path) -> PathBuf {
    data.join("tls/ca.pem")
}

/// The CA under a data folder; makes it if there is none.
fn open_authority(data: &Path, now: SystemTime) -> Result<Authority, SelfSignedError> {
    let (certificate_file, key_file) = (certificate_file(data), data.join("tls/ca-key.pem"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SelfSignedError::File { path, source }
    };
    fs::create_dir_all(data.join("tls")).map_err(failed(&data.join("tls")))?;
    let key = match fs::read_to_string(&key_file) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|source| SelfSignedError::Key { path: key_file.clone(), source })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if certificate_file.exists() {
                return Err(SelfSignedError::KeyMissing { certificate: certificate_file, key: key_file });
            }
            let key = KeyPair::generate().map_err(IssueError::from)?;
            write_durably(&key_file, 0o600, &key.serialize_pem()).map_err(failed(&key_file))?;
            key
        }
        Err(error) => return Err(failed(&key_file)(error)),
    };
    let authority = Authority::of(key, now)?;
    if !certificate_file.exists() {
        // After a crash between the two writes, the key is there and its certificate is made now.
        write_durably(&certificate_file, 0o644, &authority.pem()).map_err(failed(&certificate_file))?;
    }
    Ok(authority)
}

/// Writes a file whole or not at all.
fn write_durably(path: &Path, mode: u32, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A server certificate that stays valid.
pub(crate) struct SelfSigned {
    pub(crate) issued: Arc<Issued>,
    /// The file that clients need in order to trust it.
    pub(crate) ca_file: PathBuf,
}

impl SelfSigned {
    /// Opens the CA under a data folder and makes the first certificate.
    pub(crate) fn open(data: &Path, names: Vec<String>, clock: Arc<dyn Clock>) -> Result<Self, SelfSignedError> {
        let authority = open_authority(data, clock.now())?;
        let issued = Issued::new(authority, names, vec![ExtendedKeyUsagePurpose::ServerAuth], clock)?;
        Ok(Self { issued: Arc::new(issued), ca_file: certificate_file(data) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use parking_lot::Mutex;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;
    use crate::tls::authority::{DAY, LEAF_LIFE, LOOK};
    use crate::tls::{Certificate, provider};

    const SERVER: [ExtendedKeyUsagePurpose; 1] = [ExtendedKeyUsagePurpose::ServerAuth];

    struct SetClock(Mutex<SystemTime>);

    impl Clock for SetClock {
        fn now(&self) -> SystemTime {
            *self.0.lock()
        }

        fn monotonic(&self) -> Duration {
            self.now().duration_since(start()).unwrap_or_default()
        }
    }

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    /// Whether a client that trusts `ca` accepts the certificate for a name at a time.
    fn trusted(ca: &Path, certificate: &Certificate, name: &str, at: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider())).build().unwrap();
        let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&certificate.key().cert[0], &[], &name, &[], at).is_ok()
    }

    #[test]
    fn clients_that_trust_the_ca_accept_the_names_and_no_others() {
        let data = tempfile::tempdir().unwrap();
        let authority = open_authority(data.path(), start()).unwrap();
        let names = ["registry.example.com", "192.168.56.100", "::1"].map(str::to_owned);
        let leaf = authority.issue(&names, &SERVER, start()).unwrap();
        let ca = &certificate_file(data.path());
        for name in &names {
            assert!(trusted(ca, &leaf, name, start()), "{name}");
        }
        assert!(!trusted(ca, &leaf, "other.example.com", start()));
        assert!(!trusted(ca, &leaf, "192.168.56.101", start()));
        assert!(!trusted(ca, &leaf, "::1", start() + LEAF_LIFE + DAY));
    }

    #[test]
    fn the_ca_is_made_once_and_its_key_is_for_its_owner_alone() {
        let data = tempfile::tempdir().unwrap();
        open_authority(data.path(), start()).unwrap();
        let ca = fs::read_to_string(certificate_file(data.path())).unwrap();
        let key_file = data.path().join("tls/ca-key.pem");
        assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
        // Years later, another leaf is trusted through the same certificate.
        let later = start() + 1_000 * DAY;
        let second = open_authority(data.path(), later).unwrap();
        assert_eq!(fs::read_to_string(certificate_file(data.path())).unwrap(), ca);
        let leaf = second.issue(&["localhost".to_owned()], &SERVER, later).unwrap();
        assert!(trusted(&certificate_file(data.path()), &leaf, "localhost", later));
        fs::remove_file(&key_file).unwrap();
        let error = open_authority(data.path(), later).err().expect("a CA without its key is not replaced");
        assert!(matches!(error, SelfSignedError::KeyMissing { .. }), "{error}");
    }

    #[test]
    fn a_crash_between_the_two_files_of_the_ca_is_mended() {
        let data = tempfile::tempdir().unwrap();
        let first = open_authority(data.path(), start()).unwrap();
        fs::remove_file(certificate_file(data.path())).unwrap();
        open_authority(data.path(), start()).unwrap();
        let leaf = first.issue(&["localhost".to_owned()], &SERVER, start()).unwrap();
        assert!(trusted(&certificate_file(data.path()), &leaf, "localhost", start()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_certificate_is_renewed_before_it_expires() {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(SetClock(Mutex::new(start())));
        let names = vec!["localhost".to_owned()];
        let own = SelfSigned::open(data.path(), names, Arc::clone(&clock) as _).unwrap().issued;
        let slot = own.slot();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(Arc::clone(&own).renew());
        tokio::task::yield_now().await;
        let first = slot.load_full();
        for days in [59, 61] {
            *clock.0.lock() = start() + days * DAY;
            tokio::time::advance(LOOK).await;
            tokio::task::yield_now().await;
            assert_eq!(Arc::ptr_eq(&slot.load_full(), &first), days == 59, "after {days} days");
        }
        assert!(trusted(&certificate_file(data.path()), &slot.load(), "localhost", start() + 100 * DAY));
    }
}
