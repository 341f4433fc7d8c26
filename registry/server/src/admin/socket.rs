//! Where the admin API listens: a socket file in the data folder, whatever the length of that folder's path.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "admin.sock";

/// The longest path in a socket's address: `sun_path` of Linux has 108 bytes, the last of them a zero.
const MAX_PATH_BYTES: usize = 107;

/// For its user alone.
const MODE: u32 = 0o600;

/// The socket file; removed when this is dropped.
pub(crate) struct AdminSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens in `data`. The caller must have the folder for itself, as it has who opened the metadata in it: a socket
    /// file that is there is then a leftover, and goes.
    pub(crate) fn bind(data: &Path) -> io::Result<Self> {
        let path = path(data);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let address = Address::of(data)?;
        let listener = UnixListener::bind(&address.path)?;
        let socket = Self { listener, path };
        fs::set_permissions(&socket.path, Permissions::from_mode(MODE))?;
        Ok(socket)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // What cannot be removed is a leftover, and goes at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Connects to the registry that runs on `data`.
pub(super) async fn connect(data: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(Address::of(data)?.path).await
}

/// The socket file of a data folder.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join(NAME)
}

/// A path to the socket that is short enough for the kernel.
struct Address {
    path: PathBuf,
    /// Keeps `path` good, where that goes through it.
    _folder: Option<File>,
}

impl Address {
    fn of(data: &Path) -> io::Result<Self> {
        let path = path(data);
        if path.as_os_str().len() <= MAX_PATH_BYTES {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(data)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()));
        Ok(Self { path, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leftover_goes_and_so_does_the_socket_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path()), "left over").unwrap();
        let socket = AdminSocket::bind(folder.path()).unwrap();
        assert_eq!(fs::metadata(path(folder.path())).unwrap().permissions().mode() & 0o777, MODE);
        connect(folder.path()).await.unwrap();
        drop(socket);
        assert!(!path(folder.path()).exists());
        assert_eq!(connect(folder.path()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_path_of_the_folder_may_have_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let fitting = MAX_PATH_BYTES - NAME.len() - 1;
        for length in [fitting, fitting + 1, 400] {
            let here = folder.path().as_os_str().len() + 1;
            let mut data = folder.path().join("d".repeat((length - here).min(200)));
            while data.as_os_str().len() < length {
                data.push("d".repeat((length - data.as_os_str().len() - 1).min(200)));
            }
            assert_eq!(data.as_os_str().len(), length);
            fs::create_dir_all(&data).unwrap();
            let _socket = AdminSocket::bind(&data).unwrap();
            connect(&data).await.unwrap();
        }
    }
}
