//! What the operating system's errors mean to a caller of the store.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::error::BlobError;

/// Turns an I/O error into the store's, saying what was tried on which path.
pub(super) fn failed<'a>(verb: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> BlobError + 'a {
    move |error| {
        let sentence = format!("cannot {verb} {}: {error}", path.display());
        match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => BlobError::Full(sentence),
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => BlobError::Denied(sentence),
            // EIO, ESTALE, EMFILE and whatever else: the disk or the machine may recover, and nothing was answered.
            _ => BlobError::Unavailable(sentence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_whether_trying_again_helps() {
        let of = |errno: Errno| failed("write", Path::new("/x"))(errno.into());
        assert!(matches!(of(Errno::NOSPC), BlobError::Full(_)));
        assert!(matches!(of(Errno::DQUOT), BlobError::Full(_)));
        assert!(matches!(of(Errno::ACCESS), BlobError::Denied(_)));
        assert!(matches!(of(Errno::ROFS), BlobError::Denied(_)));
        assert!(matches!(of(Errno::IO), BlobError::Unavailable(text) if text.starts_with("cannot write /x: ")));
    }
}
