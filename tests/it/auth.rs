//! Logging in, and what those see who have not (P11).

use std::time::Duration;

use crate::harness::{Client, Image, Reply, Roadstead, Setup, Workbench, random_bytes, sha256, until};

/// A changed file of users counts within this time.
const RELOADED_WITHIN: Duration = Duration::from_secs(30);

/// `carl:a-password`, hashed with argon2id.
const ARGON2_ENTRY: &str =
    "carl:$argon2id$v=19$m=1024,t=1,p=1$cm9hZHN0ZWFkLXNhbHQ$TubVyANc2iweH+x2GufxIduvwfsJmqBELD3GnS6ayAk";

async fn entry(bench: &Workbench, user: &str, password: &str) -> String {
    bench.tool("htpasswd").args("-nbB -C 5").arg(user).arg(password).succeeds().await.trim().to_owned()
}

async fn start(bench: &Workbench, entries: &str) -> Roadstead {
    Setup::filesystem().flag("--htpasswd", &bench.write("htpasswd", entries)).start().await
}

async fn ping(client: &Client) -> u16 {
    client.get("/v2/").send().await.status
}

#[tokio::test]
async fn bcrypt_and_argon2_passwords_are_checked() {
    let bench = Workbench::new();
    let ann = entry(&bench, "ann", "right:password").await;
    let mut registry = start(&bench, &format!("# people\n{ann}\n\n{ARGON2_ENTRY}\n")).await;
    let client = registry.client();
    for (user, password, status) in [
        ("ann", "right:password", 200),
        ("ann", "right:password", 200),
        ("ann", "wrong", 401),
        ("ann", "", 401),
        ("carl", "a-password", 200),
        ("carl", "wrong", 401),
        ("nobody", "right:password", 401),
        ("", "", 401),
    ] {
        assert_eq!(ping(&client.login(user, password)).await, status, "{user}:{password}");
    }
    let challenge = client.get("/v2/").send().await.status(401);
    assert!(challenge.header("www-authenticate").is_some_and(|value| value.starts_with("Basic realm=")));
    assert_eq!(challenge.header("docker-distribution-api-version"), Some("registry/2.0"));
    assert_eq!(challenge.error_code(), "UNAUTHORIZED");
    for nonsense in ["Basic", "Basic !!!", "Basic YQ==", "Bearer abc", "Digest x", "Basic \u{e9}"] {
        let reply = client.get("/v2/").header("authorization", nonsense).send().await;
        assert_eq!(reply.status, 401, "{nonsense}");
    }
    registry.assert_unharmed();
    assert!(!registry.log().contains("right:password"), "no password is logged");
}

#[tokio::test]
async fn a_changed_file_of_users_is_read_again() {
    let bench = Workbench::new();
    let (ann, ben) = (entry(&bench, "ann", "one").await, entry(&bench, "ben", "two").await);
    let registry = start(&bench, &format!("{ann}\n")).await;
    let client = registry.client();
    let (as_ann, as_ben) = (client.login("ann", "one"), client.login("ben", "two"));
    assert_eq!((ping(&as_ann).await, ping(&as_ben).await), (200, 401));

    bench.write("htpasswd", format!("{ann}\n{ben}\n"));
    until("ben may log in", RELOADED_WITHIN, async || (ping(&as_ben).await == 200).then_some(())).await;
    // A verified password is remembered, but not beyond the file that it was verified against.
    bench.write("htpasswd", format!("{ben}\n"));
    until("ann may not any more", RELOADED_WITHIN, async || (ping(&as_ann).await == 401).then_some(())).await;
    let changed = entry(&bench, "ben", "three").await;
    bench.write("htpasswd", format!("{changed}\n"));
    until("ben's old password counts no more", RELOADED_WITHIN, async || (ping(&as_ben).await == 401).then_some(()))
        .await;
    let as_ben = client.login("ben", "three");
    until("ben's new password counts", RELOADED_WITHIN, async || (ping(&as_ben).await == 200).then_some(())).await;
}

/// What an outsider is told, apart from what differs between any two answers.
fn told(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let headers = reply.headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    headers.sort();
    (reply.status, headers, String::from_utf8_lossy(&reply.body).into_owned())
}

/// Every kind of request about a repository, as (method, target).
fn requests(repository: &str, tag: &str, manifest: &str, blob: &str, session: &str) -> Vec<(&'static str, String)> {
    let at = |rest: String| format!("/v2/{repository}/{rest}");
    vec![
        ("GET", at("tags/list".to_owned())),
        ("GET", at(format!("manifests/{tag}"))),
        ("HEAD", at(format!("manifests/{tag}"))),
        ("GET", at(format!("manifests/{manifest}"))),
        ("PUT", at(format!("manifests/{tag}"))),
        ("DELETE", at(format!("manifests/{tag}"))),
        ("DELETE", at(format!("manifests/{manifest}"))),
        ("GET", at(format!("blobs/{blob}"))),
        ("HEAD", at(format!("blobs/{blob}"))),
        ("DELETE", at(format!("blobs/{blob}"))),
        ("POST", at("blobs/uploads/".to_owned())),
        ("POST", at(format!("blobs/uploads/?mount={blob}"))),
        ("POST", format!("/v2/own/app/blobs/uploads/?mount={blob}&from={repository}")),
        ("GET", at(format!("blobs/uploads/{session}"))),
        ("PATCH", at(format!("blobs/uploads/{session}"))),
        ("PUT", at(format!("blobs/uploads/{session}?digest={blob}"))),
        ("DELETE", at(format!("blobs/uploads/{session}"))),
        ("GET", at(format!("referrers/{manifest}"))),
        ("GET", at("_oci/ext/discover".to_owned())),
        ("GET", "/v2/_catalog".to_owned()),
    ]
}

#[tokio::test]
async fn p11_what_may_not_be_seen_looks_as_if_it_did_not_exist() {
    let bench = Workbench::new();
    let ann = entry(&bench, "ann", "a-password").await;
    let registry = start(&bench, &ann).await;
    let owner = registry.client().login("ann", "a-password");
    let image = Image::random(1, &[2_000]);
    owner.push_image("secret/app", "v1", &image).await;
    let session = owner.begin("secret/app").await;
    let session = session.location.rsplit('/').next().expect("an id").split('?').next().expect("an id").to_owned();

    let there = requests("secret/app", "v1", &image.digest(), &sha256(&image.layers[0]), &session);
    let nothing = sha256(b"nothing");
    let not_there = requests("secret/non", "v9", &nothing, &nothing, "0b0cb43c-7d3f-4a08-8bbe-ec4f79f3b1e2");
    for stranger in [registry.client(), registry.client().login("ann", "wrong")] {
        for ((method, exists), (_, does_not)) in there.iter().zip(&not_there) {
            let ask = async |target: &str| {
                let method = method.parse().expect("a method");
                told(&stranger.request(method, target).send().await)
            };
            let answer = ask(exists).await;
            assert_eq!(answer, ask(does_not).await, "{method} {exists} tells that it exists");
            assert_eq!(answer.0, 401, "{method} {exists}");
        }
    }
    // None of that had an effect.
    owner.pull_image("secret/app", "v1", &image).await;
    assert_eq!(owner.tags("secret/app").await, ["v1"]);
}

#[tokio::test]
async fn anonymous_pull_allows_pulls_and_nothing_else() {
    let bench = Workbench::new();
    let ann = entry(&bench, "ann", "a-password").await;
    let registry =
        Setup::filesystem().flag("--htpasswd", &bench.write("htpasswd", ann)).switch("--anonymous-pull").start().await;
    let (owner, anybody) = (registry.client().login("ann", "a-password"), registry.client());
    let image = Image::random(1, &[2_000]);
    owner.push_image("team/app", "v1", &image).await;

    anybody.pull_image("team/app", "v1", &image).await;
    assert_eq!(anybody.tags("team/app").await, ["v1"]);
    let blob = sha256(&image.layers[0]);
    for (method, target) in [
        ("PUT", "/v2/team/app/manifests/v2".to_owned()),
        ("DELETE", "/v2/team/app/manifests/v1".to_owned()),
        ("DELETE", format!("/v2/team/app/blobs/{blob}")),
        ("POST", "/v2/team/app/blobs/uploads/".to_owned()),
        ("POST", format!("/v2/other/app/blobs/uploads/?mount={blob}&from=team/app")),
    ] {
        let reply = anybody.request(method.parse().expect("a method"), &target).body(random_bytes(2, 10)).send().await;
        assert_eq!(reply.status(401).error_code(), "UNAUTHORIZED", "{method} {target}");
    }
    // `docker login` looks here, and must not be content with a wrong password.
    assert_eq!(ping(&registry.client().login("ann", "wrong")).await, 401);
    owner.pull_image("team/app", "v1", &image).await;
}
