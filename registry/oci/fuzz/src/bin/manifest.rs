#![no_main]

use std::collections::BTreeSet;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roadstead_oci::{Descriptor, Manifest, MediaType};

fuzz_target!(|body: &[u8]| {
    for declared in [None, Some(&MediaType::OCI_MANIFEST), Some(&MediaType::OCI_INDEX)] {
        let Ok(manifest) = Manifest::parse(declared, Bytes::copy_from_slice(body)) else { continue };
        assert_eq!(manifest.bytes(), body);
        assert_eq!(Manifest::parse(Some(manifest.media_type()), manifest.bytes().clone()).as_ref(), Ok(&manifest));

        let needed: Vec<_> = manifest.blobs();
        assert_eq!(needed.iter().collect::<BTreeSet<_>>().len(), needed.len());
        let descriptors = manifest.config().into_iter().chain(manifest.layers()).chain(manifest.manifests());
        for descriptor in descriptors.chain(manifest.subject()) {
            let json = serde_json::to_vec(descriptor).unwrap();
            assert_eq!(&serde_json::from_slice::<Descriptor>(&json).unwrap(), descriptor);
        }
    }
});
