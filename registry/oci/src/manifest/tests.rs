//! The first half follows the data sets of the OCI conformance suite (`conformance/run.go`, `GenerateData`): what it
//! pushes must be taken, and must mean what it expects back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::digest::Algorithm;
use crate::hasher::Hasher;

const ARTIFACT: &str = "application/vnd.example.oci.conformance.v1";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn digest(seed: &str) -> Digest {
    *Hasher::digest(Algorithm::Sha256, seed.as_bytes()).get()
}

fn descriptor(media_type: &str, seed: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest(seed).to_string(), "size": seed.len()})
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST.as_str(),
        "config": descriptor(MediaType::OCI_CONFIG.as_str(), "config"),
        "layers": [descriptor(LAYER, "layer 0"), descriptor(LAYER, "layer 1")],
    })
}

fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX.as_str(), "manifests": entries})
}

fn artifact() -> Value {
    with(
        &image(),
        &json!({
            "artifactType": ARTIFACT,
            "config": descriptor(MediaType::OCI_EMPTY.as_str(), "{}"),
            "layers": [descriptor(ARTIFACT, "artifact")],
        }),
    )
}

fn with(manifest: &Value, fields: &Value) -> Value {
    let mut manifest = manifest.clone();
    manifest.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    manifest
}

fn without(manifest: &Value, field: &str) -> Value {
    let mut manifest = manifest.clone();
    manifest.as_object_mut().unwrap().remove(field);
    manifest
}

fn parse(manifest: &Value) -> Result<Manifest, ManifestError> {
    let declared = manifest["mediaType"].as_str().and_then(|text| text.parse().ok());
    Manifest::parse(declared.as_ref(), manifest.to_string().into())
}

#[test]
fn an_image_needs_its_config_and_layers() {
    let body = image();
    let manifest = parse(&body).unwrap();
    assert_eq!(manifest.bytes(), body.to_string().as_bytes());
    assert_eq!(manifest.media_type(), &MediaType::OCI_MANIFEST);
    assert_eq!(manifest.kind(), ManifestKind::Image);
    assert_eq!(manifest.blobs(), [digest("config"), digest("layer 0"), digest("layer 1")]);
    assert_eq!(manifest.children(), []);
    assert_eq!(manifest.artifact_type(), Some(&MediaType::OCI_CONFIG));
    assert_eq!(manifest.referrer(digest("image")), None);
}

#[test]
fn an_image_without_layers_is_taken() {
    let manifest = parse(&with(&image(), &json!({"layers": []}))).unwrap();
    assert_eq!(manifest.blobs(), [digest("config")]);
}

#[test]
fn a_large_manifest_is_taken() {
    let annotations: Value =
        (0..390).map(|i| (format!("large-annotation-{i}"), Value::from("A".repeat(10_000)))).collect();
    let manifest = parse(&with(&image(), &json!({ "annotations": annotations }))).unwrap();
    assert!(manifest.bytes().len() > 3_900_000);
    assert_eq!(manifest.annotations().len(), 390);
}

#[test]
fn an_index_has_children_and_no_blobs_of_its_own() {
    let mut entry = descriptor(MediaType::OCI_MANIFEST.as_str(), "amd64");
    entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let manifest = parse(&index(&[entry.clone(), descriptor(MediaType::OCI_INDEX.as_str(), "nested"), entry])).unwrap();
    assert_eq!(manifest.kind(), ManifestKind::Index);
    assert_eq!(manifest.manifests().len(), 3);
    assert_eq!(manifest.manifests()[0].platform.as_ref().unwrap().architecture, "amd64");
    assert_eq!(manifest.children(), [digest("amd64"), digest("nested")]);
    assert_eq!(manifest.blobs(), []);
    assert_eq!(manifest.artifact_type(), None);
}

#[test]
fn an_empty_index_is_taken() {
    assert_eq!(parse(&index(&[])).unwrap().children(), []);
}

#[test]
fn an_artifact_has_the_type_that_it_declares() {
    let manifest = parse(&artifact()).unwrap();
    assert_eq!(manifest.artifact_type().unwrap().as_str(), ARTIFACT);
    assert_eq!(manifest.blobs(), [digest("{}"), digest("artifact")]);

    let empty = descriptor(MediaType::OCI_EMPTY.as_str(), "{}");
    let without_layers = parse(&with(&artifact(), &json!({"layers": [empty]}))).unwrap();
    assert_eq!(without_layers.blobs(), [digest("{}")], "config and layer are the same blob");

    let index = parse(&with(&index(&[]), &json!({"artifactType": ARTIFACT}))).unwrap();
    assert_eq!(index.artifact_type().unwrap().as_str(), ARTIFACT);
}

#[test]
fn an_empty_artifact_type_is_a_missing_one() {
    let image = parse(&with(&image(), &json!({"artifactType": ""}))).unwrap();
    assert_eq!(image.artifact_type(), Some(&MediaType::OCI_CONFIG));
    let index = parse(&with(&index(&[]), &json!({"artifactType": ""}))).unwrap();
    assert_eq!(index.artifact_type(), None);
}

#[test]
fn a_subject_makes_a_referrer() {
    let body = with(
        &artifact(),
        &json!({
            "subject": descriptor(MediaType::OCI_MANIFEST.as_str(), "missing content"),
            "annotations": {"org.opencontainers.conformance": "hello conformance test"},
        }),
    );
    let manifest = parse(&body).unwrap();
    assert_eq!(manifest.subject().unwrap().digest, digest("missing content"));
    assert!(!manifest.blobs().contains(&digest("missing content")));

    let referrer = manifest.referrer(digest("artifact manifest")).unwrap();
    assert_eq!(
        serde_json::to_value(&referrer).unwrap(),
        json!({
            "mediaType": MediaType::OCI_MANIFEST.as_str(),
            "digest": digest("artifact manifest").to_string(),
            "size": body.to_string().len(),
            "artifactType": ARTIFACT,
            "annotations": {"org.opencontainers.conformance": "hello conformance test"},
        })
    );
}

#[test]
fn embedded_data_and_custom_fields_are_passed_over() {
    let mut body = with(&image(), &json!({"org.example": {"any": ["thing"]}}));
    body["config"]["data"] = json!("e30=");
    assert_eq!(parse(&body).unwrap().blobs().len(), 3);
}

#[test]
fn foreign_layers_are_not_needed() {
    let foreign = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ];
    let mut layers: Vec<Value> = foreign.iter().map(|media_type| descriptor(media_type, media_type)).collect();
    layers.push(descriptor(LAYER, "with urls"));
    for layer in &mut layers {
        layer["urls"] = json!(["https://store.example.com/blob"]);
    }
    let manifest = parse(&with(&image(), &json!({ "layers": layers }))).unwrap();
    assert_eq!(manifest.layers().len(), 4);
    assert_eq!(manifest.blobs(), [digest("config"), digest("with urls")]);
}

#[test]
fn sha512_digests_are_taken() {
    let sha512 = *Hasher::digest(Algorithm::Sha512, b"config").get();
    let mut body = image();
    body["config"]["digest"] = json!(sha512.to_string());
    assert_eq!(parse(&body).unwrap().blobs()[0], sha512);
}

#[test]
fn the_blobs_that_an_index_lists_are_needed() {
    let cache = descriptor("application/vnd.buildkit.cacheconfig.v0", "cache config");
    let child = descriptor(MediaType::DOCKER_MANIFEST.as_str(), "child");
    let manifest = parse(&index(&[descriptor(LAYER, "layer"), cache, child])).unwrap();
    assert_eq!(manifest.blobs(), [digest("layer"), digest("cache config")]);
    assert_eq!(manifest.children(), [digest("child")]);
}

#[test]
fn docker_manifests_are_taken() {
    let schema2 = with(&image(), &json!({"mediaType": MediaType::DOCKER_MANIFEST.as_str()}));
    assert_eq!(parse(&schema2).unwrap().kind(), ManifestKind::Image);
    let list = with(&index(&[]), &json!({"mediaType": MediaType::DOCKER_MANIFEST_LIST.as_str()}));
    assert_eq!(parse(&list).unwrap().kind(), ManifestKind::Index);
}

#[test]
fn null_is_what_go_makes_of_an_empty_list() {
    let body = with(&image(), &json!({"layers": null, "annotations": null, "subject": null, "artifactType": null}));
    let manifest = parse(&body).unwrap();
    assert_eq!(manifest.layers(), []);
    assert_eq!(manifest.subject(), None);
}

#[test]
fn request_and_body_must_agree_on_the_type() {
    let both = image().to_string();
    let bare = without(&image(), "mediaType").to_string();
    assert!(Manifest::parse(None, both.clone().into()).is_ok());
    assert!(Manifest::parse(Some(&MediaType::OCI_MANIFEST), bare.clone().into()).is_ok());
    assert_eq!(Manifest::parse(None, bare.into()), Err(ManifestError::MediaTypeMissing));
    assert_eq!(
        Manifest::parse(Some(&MediaType::DOCKER_MANIFEST), both.into()),
        Err(ManifestError::MediaTypeMismatch { declared: MediaType::DOCKER_MANIFEST, actual: MediaType::OCI_MANIFEST })
    );
}

#[test]
fn schema1_is_refused_by_name() {
    let body =
        json!({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [{"blobSum": "sha256:"}], "history": []});
    for declared in [None, Some(&MediaType::DOCKER_SCHEMA1), Some(&MediaType::DOCKER_SCHEMA1_SIGNED)] {
        assert_eq!(Manifest::parse(declared, body.to_string().into()), Err(ManifestError::Schema1));
    }
}

#[test]
fn other_types_are_refused() {
    for media_type in ["application/vnd.oci.artifact.manifest.v1+json", "application/json", LAYER] {
        let body = with(&image(), &json!({ "mediaType": media_type }));
        assert_eq!(parse(&body), Err(ManifestError::UnsupportedMediaType(media_type.parse().unwrap())));
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    assert_eq!(parse(&with(&image(), &json!({"manifests": []}))), Err(ManifestError::Ambiguous("manifests")));
    assert_eq!(parse(&with(&index(&[]), &json!({"layers": []}))), Err(ManifestError::Ambiguous("layers")));
    let config = descriptor(MediaType::OCI_CONFIG.as_str(), "config");
    assert_eq!(parse(&with(&index(&[]), &json!({ "config": config }))), Err(ManifestError::Ambiguous("config")));
    let twice = image().to_string().replacen('{', r#"{"layers":[],"#, 1);
    assert!(
        matches!(Manifest::parse(None, twice.into()), Err(ManifestError::Malformed(reason)) if reason.contains("duplicate"))
    );
}

#[test]
fn what_a_kind_must_have_must_be_there() {
    assert_eq!(parse(&without(&image(), "config")), Err(ManifestError::FieldMissing("config")));
    assert_eq!(parse(&without(&image(), "layers")), Err(ManifestError::FieldMissing("layers")));
    assert_eq!(parse(&without(&index(&[]), "manifests")), Err(ManifestError::FieldMissing("manifests")));
    assert_eq!(parse(&without(&image(), "schemaVersion")), Err(ManifestError::SchemaVersion));
    assert_eq!(parse(&with(&image(), &json!({"schemaVersion": 3}))), Err(ManifestError::SchemaVersion));
}

#[test]
fn bad_descriptors_are_refused_wherever_they_are() {
    let bad_fields = [
        json!({"digest": "sha256:baddigeststring"}),
        json!({"digest": "md5:d41d8cd98f00b204e9800998ecf8427e"}),
        json!({"digest": null}),
        json!({"size": -1}),
        json!({"size": 1.5}),
        json!({"size": u64::MAX}),
        json!({"mediaType": "no type"}),
        json!({"mediaType": null}),
        json!({"annotations": {"key": 1}}),
    ];
    for fields in bad_fields {
        let bad = with(&descriptor(LAYER, "bad"), &fields);
        let manifests = [
            with(&image(), &json!({ "config": bad })),
            with(&image(), &json!({"layers": [descriptor(LAYER, "good"), bad]})),
            with(&image(), &json!({ "subject": bad })),
            index(std::slice::from_ref(&bad)),
        ];
        for manifest in manifests {
            let error = parse(&manifest).unwrap_err();
            assert!(matches!(error, ManifestError::Malformed(_)), "{manifest}: {error:?}");
            assert_eq!((error.code(), error.status()), (ErrorCode::ManifestInvalid, 400));
        }
    }
}

#[test]
fn what_is_no_json_object_is_refused() {
    for body in ["", " ", "null", "[]", "1", "\"a\"", "{", "{}}", "\u{feff}{}", "{\"schemaVersion\":2,}"] {
        let error = Manifest::parse(Some(&MediaType::OCI_MANIFEST), body.into()).unwrap_err();
        assert!(matches!(error, ManifestError::Malformed(_)), "{body}: {error:?}");
    }
}

#[test]
fn deep_nesting_is_refused_wherever_it_is() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for field in ["unknown", "layers", "config"] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            let body = image().to_string().replacen('{', &format!(r#"{{"{field}":{deep},"#), 1);
            assert_eq!(Manifest::parse(None, body.into()), Err(ManifestError::TooDeep));
        }
    }
}

#[test]
fn brackets_within_strings_nest_nothing() {
    let text = format!(r#"{}\"{}\\"#, "[{".repeat(200), ",".repeat(200_000));
    let manifest = parse(&with(&image(), &json!({"annotations": {"key": text}}))).unwrap();
    assert_eq!(manifest.annotations()["key"], text);
}

#[test]
fn sizes_are_bounded() {
    let body = image().to_string();
    let fits = format!("{body}{}", " ".repeat(Manifest::MAX_SIZE - body.len()));
    assert!(Manifest::parse(None, fits.clone().into()).is_ok());
    let error = Manifest::parse(None, format!("{fits} ").into()).unwrap_err();
    assert_eq!((&error, error.status()), (&ManifestError::TooLarge, 413));

    let layers = |count| with(&image(), &json!({"layers": vec![descriptor(LAYER, "layer"); count]}));
    assert!(parse(&layers(Manifest::MAX_DESCRIPTORS)).is_ok());
    assert_eq!(parse(&layers(Manifest::MAX_DESCRIPTORS + 1)), Err(ManifestError::TooMany));
    let many_values = with(&image(), &json!({"unknown": vec![0; 1_000_000]}));
    assert_eq!(parse(&many_values), Err(ManifestError::TooMany));
}

#[test]
fn the_annotations_of_a_referrer_are_bounded() {
    let value = "v".repeat(Manifest::MAX_REFERRER_ANNOTATIONS - "key".len());
    let subject = descriptor(MediaType::OCI_MANIFEST.as_str(), "subject");
    let body = |value: &str| with(&image(), &json!({"annotations": {"key": value}, "subject": subject}));
    assert!(parse(&body(&value)).is_ok());
    let larger = body(&format!("{value}v"));
    assert_eq!(parse(&larger), Err(ManifestError::AnnotationsTooLarge));
    assert!(parse(&without(&larger, "subject")).is_ok());
}

#[test]
fn a_reason_does_not_echo_the_body() {
    let body = with(&image(), &json!({"schemaVersion": "x".repeat(1_000_000)}));
    let error = parse(&body).unwrap_err();
    assert!(error.to_string().len() < 1_000, "{} bytes", error.to_string().len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_never_panics_and_never_changes_the_bytes(position in 0_usize..400, byte in any::<u8>()) {
        let mut body = image().to_string().into_bytes();
        let position = position % body.len();
        body[position] = byte;
        if let Ok(manifest) = Manifest::parse(Some(&MediaType::OCI_MANIFEST), body.clone().into()) {
            prop_assert_eq!(manifest.bytes(), &body);
        }
    }

    #[test]
    fn blobs_are_distinct_and_in_order(seeds in prop::collection::vec(0_u8..8, 0..20)) {
        let layers: Vec<_> = seeds.iter().map(|seed| descriptor(LAYER, &seed.to_string())).collect();
        let manifest = parse(&with(&image(), &json!({ "layers": layers }))).unwrap();
        let mut expected = vec![digest("config")];
        for seed in seeds {
            if !expected.contains(&digest(&seed.to_string())) {
                expected.push(digest(&seed.to_string()));
            }
        }
        prop_assert_eq!(manifest.blobs(), expected);
    }
}
