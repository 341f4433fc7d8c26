//! Buckets as they are set up in practice: behind a private authority, under a prefix, with credentials from where every
//! AWS tool looks for them; and what is said when one of that is wrong.

use std::time::Duration;

use crate::harness::{Image, S3, S3Kind, Setup, Workbench, random_bytes, sha256, until};

#[tokio::test]
async fn a_bucket_behind_a_private_authority_needs_its_certificate() {
    for kind in [S3Kind::Minio, S3Kind::Versity] {
        let s3 = S3::start_with_tls(kind).await;
        let authority = s3.authority_file().display().to_string();
        let registry = Setup::s3(&s3).flag("--s3-ca-file", &authority).start().await;
        let image = Image::random(1, &[9 << 20, 100]);
        registry.client().push_image("team/app", "v1", &image).await;
        registry.client().pull_image("team/app", "v1", &image).await;

        let wary = Setup::s3(&s3).start().await;
        let content = random_bytes(2, 100);
        wary.client().begin("team/app").await.put(&sha256(&content), content).await.status(503);
        assert!(wary.log().contains("certificate"), "the log says why:\n{}", wary.log());
    }
}

#[tokio::test]
async fn objects_stay_below_the_prefix() {
    let s3 = S3::start(S3Kind::Minio).await;
    let registry = Setup::s3(&s3).flag("--s3-prefix", "production/eu").start().await;
    let image = Image::random(1, &[9 << 20, 100]);
    registry.client().push_image("team/app", "v1", &image).await;
    registry.client().pull_image("team/app", "v1", &image).await;
    let keys = s3.keys().await;
    assert!(keys.len() >= 3, "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("production/eu/")), "{keys:?}");
}

#[tokio::test]
async fn credentials_come_from_a_profile_too() {
    let s3 = S3::start(S3Kind::Minio).await;
    let bench = Workbench::new();
    let profile =
        format!("[registry]\naws_access_key_id = {}\naws_secret_access_key = {}\n", S3::ACCESS_KEY, S3::SECRET_KEY);
    let setup = Setup::s3(&s3).without_variable("AWS_ACCESS_KEY_ID").without_variable("AWS_SECRET_ACCESS_KEY");
    let registry = setup
        .variable("AWS_SHARED_CREDENTIALS_FILE", &bench.write("credentials", profile))
        .variable("AWS_PROFILE", "registry")
        .start()
        .await;
    let image = Image::random(1, &[100]);
    registry.client().push_image("team/app", "v1", &image).await;
    registry.client().pull_image("team/app", "v1", &image).await;
}

/// A bucket that is away may come back, and the registry serves what it can without it; one that may not be used never
/// will be usable.
#[tokio::test]
async fn a_bucket_that_may_not_be_used_is_refused_and_one_that_is_away_is_waited_for() {
    let mut s3 = S3::start(S3Kind::Minio).await;
    let here = |bucket| Setup::s3_bucket(&s3.endpoint(), bucket);
    for (what, setup, bucket) in [
        ("a wrong secret", here(S3::BUCKET).variable("AWS_SECRET_ACCESS_KEY", "another-secret"), S3::BUCKET),
        ("a bucket that is not there", here("another-bucket"), "another-bucket"),
    ] {
        let (status, log) = setup.refuses().await;
        assert!(!status.success(), "{what}");
        assert!(log.contains(bucket), "{what}: the log names the bucket:\n{log}");
    }

    let setup = here(S3::BUCKET);
    s3.stop();
    let registry = setup.start().await;
    let client = registry.client();
    client.get("/readyz").send().await.status(200);
    let content = random_bytes(1, 100);
    let digest = sha256(&content);
    client.begin("team/app").await.put(&digest, content.clone()).await.status(503);
    s3.start_again().await;
    until("pushes go on", Duration::from_secs(30), async || {
        let reply = client.begin("team/app").await.put(&digest, content.clone()).await;
        (reply.status == 201).then_some(())
    })
    .await;
}
