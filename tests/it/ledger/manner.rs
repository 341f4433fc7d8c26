//! How real clients go on after trouble, from their sources.
//!
//! ```text
//!           what is tried again           when                                         how often, after how long
//! Docker    a layer, from its POST        connection broken; an error in the           5 times in all; 5, 10, 15, 20 s
//!           on; config and manifest are   registry's own form, but for 401, 403, 405,
//!           sent once                     429
//! BuildKit  a blob or the manifest;       connection broken; 500 to 599. 500, 503      4 times in all; 1, 2, 4 s
//!           containerd pushes for it      and 504 are asked once more at once
//! Skopeo    the whole copy                connection broken; an error in the           --retry-times 3, which is
//!           (podman, buildah), blobs      registry's own form, but for 401, 403, and   podman's default; 1, 2, 4 s
//!           that are there are skipped    unknown names and manifests
//! Resuming  each request; it asks the     connection broken; 416, 429, 500 to 599      5 times in all without any
//!           offset by GET and goes on                                                  progress; 0.5, 1, 2, 4 s
//!           there, as the specification
//!           describes
//! ```
//!
//! moby `distribution/xfer/upload.go`, `distribution/errors.go`; buildkit `util/resolver/retryhandler/retry.go`;
//! containerd `core/remotes/docker/resolver.go`; containers/common `pkg/retry/retry.go`.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// Why a request did not do what it was for.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There was no whole answer.
    Broken { since: Instant, timed_out: bool, why: String },
    /// Another answer than it wanted.
    Refused { since: Instant, status: u16, body: String },
    /// The registry showed what it must not.
    Wrong(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { since, why, .. } => write!(f, "broken after {} ms: {why}", since.elapsed().as_millis()),
            Self::Refused { since, status, body } => {
                write!(f, "{status} after {} ms: {body}", since.elapsed().as_millis())
            }
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Manner {
    Docker,
    BuildKit,
    Skopeo,
    Resuming,
}

/// What may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Layer,
    Config,
    Manifest,
    Push,
}

impl Manner {
    pub(crate) const ALL: [Self; 4] = [Self::Docker, Self::BuildKit, Self::Skopeo, Self::Resuming];

    /// The pauses before it tries such a piece again; none where it does not.
    pub(crate) fn pauses(self, piece: Piece) -> &'static [Duration] {
        const fn seconds(seconds: u64) -> Duration {
            Duration::from_secs(seconds)
        }
        match (self, piece) {
            (Self::Docker, Piece::Layer) => const { &[seconds(5), seconds(10), seconds(15), seconds(20)] },
            (Self::Skopeo, Piece::Push) | (Self::BuildKit, Piece::Layer | Piece::Config | Piece::Manifest) => {
                const { &[seconds(1), seconds(2), seconds(4)] }
            }
            (Self::Resuming, Piece::Layer | Piece::Config | Piece::Manifest) => {
                const { &[Duration::from_millis(500), seconds(1), seconds(2), seconds(4)] }
            }
            (Self::Docker | Self::Skopeo | Self::BuildKit | Self::Resuming, _) => &[],
        }
    }

    /// Whether it tries again after such trouble.
    pub(crate) fn goes_on_after(self, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::Broken { timed_out, .. } => !timed_out,
            Trouble::Wrong(_) => false,
            Trouble::Refused { status, .. } => match self {
                Self::Docker => !matches!(status, 401 | 403 | 405 | 429),
                Self::BuildKit => (500..600).contains(status),
                Self::Skopeo => !matches!(status, 401 | 403 | 404),
                Self::Resuming => matches!(status, 416 | 429 | 500..600),
            },
        }
    }
}
