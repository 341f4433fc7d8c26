use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::OnceCell;

use super::{Client, Workbench};

pub(crate) const MEDIA_TYPE_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const MEDIA_TYPE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MEDIA_TYPE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MEDIA_TYPE_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The digest of some content, computed apart from the code under test.
pub(crate) fn sha256(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

/// The same with SHA-512.
pub(crate) fn sha512(content: &[u8]) -> String {
    format!("sha512:{}", hex::encode(Sha512::digest(content)))
}

/// Bytes that do not compress, the same ones for the same seed.
pub(crate) fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// An image that only a registry will ever look at: its layers are random bytes.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) config: Bytes,
    pub(crate) layers: Vec<Bytes>,
    pub(crate) manifest: Bytes,
}

impl Image {
    /// An image whose layers have these lengths.
    pub(crate) fn random(seed: u64, layers: &[usize]) -> Self {
        let config: Bytes =
            json!({"architecture": "amd64", "os": "linux", "author": format!("{seed}")}).to_string().into();
        let numbered = (1..).zip(layers);
        let layers: Vec<Bytes> =
            numbered.map(|(number, length)| random_bytes(seed * 1_000 + number, *length).into()).collect();
        let descriptor = |media_type: &str, blob: &Bytes| json!({"mediaType": media_type, "digest": sha256(blob), "size": blob.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_IMAGE,
            "config": descriptor(MEDIA_TYPE_CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(MEDIA_TYPE_LAYER, layer)).collect::<Vec<_>>(),
        });
        Self { config, layers, manifest: manifest.to_string().into() }
    }

    /// The config and the layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// The digest of its manifest.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest)
    }
}

/// An OCI image layout on disk, as clients read and write it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The layout in `folder`.
    pub(crate) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// A real image that runs (`/bin/busybox`, `/payload`), with one layer of 24 MiB that does not compress: more than
    /// the parts of a multipart upload, and more than is served from memory. It is made once per build folder.
    pub(crate) async fn busybox() -> &'static Self {
        static BUSYBOX: OnceCell<Layout> = OnceCell::const_new();
        BUSYBOX.get_or_init(make_busybox).await
    }

    /// The folder, as text.
    pub(crate) fn path(&self) -> &str {
        self.folder.to_str().expect("a plain path")
    }

    /// The bytes of a blob.
    pub(crate) fn blob(&self, digest: &str) -> Vec<u8> {
        let path = self.folder.join("blobs").join(digest.replace(':', "/"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The digest of its only manifest.
    pub(crate) fn digest(&self) -> String {
        let index = std::fs::read(self.folder.join("index.json")).expect("a layout has an index");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let manifests = index["manifests"].as_array().expect("manifests");
        assert_eq!(manifests.len(), 1, "one manifest in {}", self.path());
        manifests[0]["digest"].as_str().expect("a digest").to_owned()
    }

    /// All that the layout's manifest leads to, itself first.
    fn contents(&self) -> Vec<Content> {
        let mut contents = vec![Content::Manifest(self.digest())];
        let mut next = 0;
        while next < contents.len() {
            let content = contents[next].clone();
            next += 1;
            let Content::Manifest(digest) = content else { continue };
            let manifest: Value = serde_json::from_slice(&self.blob(&digest)).expect("a manifest is JSON");
            let digests = |descriptors: &Value| -> Vec<String> {
                let descriptors = descriptors.as_array().cloned().unwrap_or_default();
                descriptors.iter().filter_map(|descriptor| descriptor["digest"].as_str().map(str::to_owned)).collect()
            };
            contents.extend(digests(&manifest["manifests"]).into_iter().map(Content::Manifest));
            contents.extend(manifest["config"]["digest"].as_str().map(|digest| Content::Blob(digest.to_owned())));
            contents.extend(digests(&manifest["layers"]).into_iter().map(Content::Blob));
        }
        contents
    }

    /// Fails unless the two lead to the same blobs with the same bytes.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self) {
        assert_eq!(self.contents(), other.contents());
        for content in self.contents() {
            let digest = content.digest();
            assert!(self.blob(digest) == other.blob(digest), "{digest} differs in {}", other.path());
        }
    }

    /// Fails unless the registry serves exactly this image under the reference, byte by byte.
    pub(crate) async fn assert_served(&self, client: &Client, repository: &str, reference: &str) {
        let manifest = client.manifest(repository, reference).await.status(200);
        assert_eq!(sha256(&manifest.body), self.digest(), "the manifest of {repository}:{reference}");
        for content in self.contents() {
            let served = match &content {
                Content::Manifest(digest) => client.manifest(repository, digest).await,
                Content::Blob(digest) => client.blob(repository, digest).await,
            };
            let same = served.status(200).body == self.blob(content.digest());
            assert!(same, "{} is served with other bytes", content.digest());
        }
    }
}

/// What an image consists of, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Manifest(String),
    Blob(String),
}

impl Content {
    fn digest(&self) -> &str {
        match self {
            Self::Manifest(digest) | Self::Blob(digest) => digest,
        }
    }
}

/// Raised when the image changes, so that none of an older build is used.
const BUSYBOX_VERSION: u32 = 1;

async fn make_busybox() -> Layout {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("busybox-{BUSYBOX_VERSION}"));
    if !made.exists() {
        let bench = Workbench::new();
        let layout = bench.file("layout");
        let payload = bench.write("payload", random_bytes(24, 24 << 20));
        let note = bench.write("note", "a small layer\n");
        let umoci = |arguments: &str| bench.tool("umoci").args(arguments);
        umoci(&format!("init --layout {layout}")).succeeds().await;
        umoci(&format!("new --image {layout}:latest")).succeeds().await;
        let busybox = super::tools::find("busybox").display().to_string();
        for (source, target) in
            [(busybox.as_str(), "/bin/busybox"), (payload.as_str(), "/payload"), (note.as_str(), "/note")]
        {
            umoci(&format!("insert --image {layout}:latest {source} {target}")).succeeds().await;
        }
        umoci(&format!("config --image {layout}:latest --config.entrypoint /bin/busybox")).succeeds().await;
        // What is left over of the steps in between goes.
        umoci(&format!("gc --layout {layout}")).succeeds().await;
        // The build folder may be on another file system than the temporary one; the rename makes it appear whole.
        let beside = made.with_extension("partial");
        let _ = std::fs::remove_dir_all(&beside);
        bench.tool("cp").args(&format!("-r {layout} {}", beside.display())).succeeds().await;
        let renamed = std::fs::rename(&beside, &made);
        assert!(renamed.is_ok() || made.exists(), "the image takes its place: {renamed:?}");
    }
    Layout::at(made)
}
