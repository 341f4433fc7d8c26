//! What there is to push.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use roadstead_oci::{Algorithm, Digest, Hasher, Manifest, MediaType, RepositoryName, Tag};

use crate::history::{TAGS, Value};
use crate::random::Random;

/// Less than a part, a part, a byte more, and up to five parts.
const SIZES: [usize; 7] = [10, 700, 4096, 4097, 9_000, 12_288, 20_000];

/// One manifest in so many is too large for the log.
const LARGE_EVERY: u32 = 12;
const LARGE: usize = 70_000;

/// Where no manifest is pushed, and blobs are deleted.
pub(crate) const SCRATCH: usize = 2;

/// Repositories, blobs, tags and manifests of a world, each known by its number.
pub(crate) struct Universe {
    pub(crate) repositories: Vec<RepositoryName>,
    pub(crate) blobs: Vec<Bytes>,
    digests: Vec<Digest>,
    tags: Vec<Tag>,
    manifests: Mutex<Manifests>,
    seed: u64,
}

#[derive(Default)]
struct Manifests {
    count: Value,
    values: BTreeMap<String, Value>,
}

impl Universe {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::of(seed, "universe");
        let blobs = SIZES.map(|size| {
            let mut content = vec![0; size];
            random.fill(&mut content);
            Bytes::from(content)
        });
        Self {
            repositories: ["app/web", "app/api", "scratch"].map(|name| name.parse().expect("a name")).into(),
            digests: blobs.iter().map(|blob| sha256(blob)).collect(),
            blobs: blobs.into(),
            tags: (0..TAGS).map(|tag| format!("v{tag}").parse().expect("a tag")).collect(),
            manifests: Mutex::default(),
            seed,
        }
    }

    pub(crate) fn digest(&self, blob: usize) -> Digest {
        self.digests[blob]
    }

    /// The other digest of a blob, by which some are pushed where no manifest names them.
    pub(crate) fn sha512(&self, blob: usize) -> Digest {
        *Hasher::digest(Algorithm::Sha512, &self.blobs[blob]).get()
    }

    pub(crate) fn tag(&self, tag: usize) -> &Tag {
        &self.tags[tag]
    }

    /// A manifest that nobody has pushed.
    pub(crate) fn new_manifest(&self) -> (Value, Manifest) {
        let value = {
            let mut manifests = self.manifests.lock();
            manifests.count += 1;
            manifests.count
        };
        let manifest = self.manifest(value);
        self.manifests.lock().values.insert(sha256(manifest.bytes()).to_string(), value);
        (value, manifest)
    }

    /// The blobs that a manifest names.
    pub(crate) fn blobs_of(&self, value: Value) -> Vec<usize> {
        let mut random = Random::new(self.seed ^ u64::from(value).rotate_left(40));
        let first = random.below(self.blobs.len());
        let second = (first + 1 + random.below(self.blobs.len() - 1)) % self.blobs.len();
        vec![first, second]
    }

    pub(crate) fn manifest(&self, value: Value) -> Manifest {
        let descriptors = self.blobs_of(value).into_iter().map(|blob| {
            let (digest, size) = (self.digests[blob], self.blobs[blob].len());
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size}}}"#)
        });
        let [config, layer] = descriptors.collect::<Vec<_>>().try_into().expect("two blobs");
        let padding = if value.is_multiple_of(LARGE_EVERY) { "x".repeat(LARGE) } else { String::new() };
        let json = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"annotations":{{"value":"{value}","padding":"{padding}"}}}}"#
        );
        Manifest::parse(Some(&MediaType::OCI_MANIFEST), json.into()).expect("a manifest")
    }

    pub(crate) fn manifest_digest(&self, value: Value) -> Digest {
        sha256(self.manifest(value).bytes())
    }

    /// Which manifest a digest is of.
    pub(crate) fn value_of(&self, digest: &Digest) -> Option<Value> {
        self.manifests.lock().values.get(&digest.to_string()).copied()
    }
}

pub(crate) fn sha256(content: &[u8]) -> Digest {
    *Hasher::digest(Algorithm::Sha256, content).get()
}
