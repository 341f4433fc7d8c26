//! Which value counts, and the exact words in which each mistake is refused.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::*;

/// Settings out of a file's text, variables and flags.
#[expect(clippy::unwrap_in_result, reason = "the result is what is tested; the folder is not")]
fn read(file: Option<&str>, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("roadstead.toml");
    let config = file.map(|text| {
        std::fs::write(&path, text).unwrap();
        path.clone()
    });
    let environment: Vec<(OsString, OsString)> =
        environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut by_key = BTreeMap::<String, Vec<String>>::new();
    for (key, value) in flags {
        by_key.entry((*key).to_owned()).or_default().push((*value).to_owned());
    }
    Sources::gather(by_key, environment, config)
        .and_then(|sources| Settings::read(&sources))
        .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "/etc"))
}

/// What a file's text, variables and flags are.
type Given<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)]);

/// The refusals of several cases, a line or more each.
fn refusals(cases: &[Given<'_>]) -> String {
    let refusal = |(file, environment, flags): &Given<'_>| {
        let error = read(*file, environment, flags).expect_err("these settings are refused");
        error.trim_start_matches("a setting cannot be used: ").to_owned()
    };
    cases.iter().map(refusal).collect::<Vec<_>>().join("\n")
}

/// As [`refusals`], by flags alone.
fn refused_flags(cases: &[&[(&str, &str)]]) -> String {
    refusals(&cases.iter().map(|flags| (None, &[][..], *flags)).collect::<Vec<_>>())
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let part_size = |file, environment, flags| read(file, environment, flags).unwrap().part_size >> 20;
    let file = Some("part-size = \"16MiB\"");
    let environment = &[("ROADSTEAD_PART_SIZE", "24MiB")][..];
    let flags = &[("part-size", "32MiB")][..];
    assert_eq!(part_size(None, &[], &[]), 8);
    assert_eq!(part_size(file, &[], &[]), 16);
    assert_eq!(part_size(file, environment, &[]), 24);
    assert_eq!(part_size(file, environment, flags), 32);
    assert_eq!(part_size(file, &[("ROADSTEAD_PART_SIZE", "")], &[]), 16, "an empty variable is none");
}

#[test]
fn repeated_settings_are_lists() {
    let names = |file, environment, flags| match read(file, environment, flags).unwrap().tls {
        Tls::SelfSigned { names } => names,
        other => panic!("{other:?}"),
    };
    let flags = &[("tls", "self-signed"), ("tls-name", "a.example"), ("tls-name", "10.0.0.1")];
    assert_eq!(names(None, &[], flags), ["a.example", "10.0.0.1"]);
    let environment = &[("ROADSTEAD_TLS", "self-signed"), ("ROADSTEAD_TLS_NAME", "a.example, 10.0.0.1")];
    assert_eq!(names(None, environment, &[]), ["a.example", "10.0.0.1"]);
    let file = "tls = \"self-signed\"\ntls-name = [\"a.example\", \"10.0.0.1\"]";
    assert_eq!(names(Some(file), &[], &[]), ["a.example", "10.0.0.1"]);
    assert_eq!(names(None, &[], &[("tls", "self-signed")]), ["localhost", "127.0.0.1", "::1"]);
}

#[test]
fn tls_or_a_word_for_it_is_needed_off_loopback() {
    for flags in [
        &[("listen", "[::1]:0")][..],
        &[("listen", "0.0.0.0:5000"), ("insecure-http", "true")],
        &[("listen", "0.0.0.0:5000"), ("tls", "self-signed")],
        &[("listen", "0.0.0.0:5000"), ("tls-certificate", "c.pem"), ("tls-key", "k.pem")],
    ] {
        assert!(read(None, &[], flags).is_ok(), "{flags:?}");
    }
    insta::assert_snapshot!(refusals(&[(None, &[("ROADSTEAD_LISTEN", "0.0.0.0:5000")], &[])]), @r#"`listen` = "0.0.0.0:5000" (from ROADSTEAD_LISTEN): other machines could reach it, and passwords and images would travel unprotected; accepted: a loopback address such as 127.0.0.1:5000; or any, with `tls-certificate` and `tls-key`, with `tls` = "self-signed", or with `insecure-http` = true where something else protects the way"#);
}

#[test]
fn each_mistake_is_named_with_its_origin_and_what_is_accepted() {
    let shown = refusals(&[
        (None, &[], &[("listen", "5000")]),
        (None, &[("ROADSTEAD_PART_SIZE", "3MiB")], &[]),
        (Some("\nupload-expiry = 24\n"), &[], &[]),
        (Some("max-uploads = 0"), &[], &[]),
        (Some("log-format = { json = true }"), &[], &[]),
        (Some("listen = [\"127.0.0.1:5000\"]"), &[], &[]),
        (None, &[], &[("storage", "gcs")]),
        (None, &[], &[("s3-endpoint", "minio:9000"), ("storage", "s3"), ("s3-bucket", "b")]),
        (None, &[], &[("log-level", "info,,=x")]),
        (None, &[], &[("log-level", "verbose")]),
        (None, &[], &[("tls", "self-signed"), ("tls-name", "https://a")]),
        (None, &[("ROADSTEAD_INSECURE_HTTP", "yes")], &[]),
    ]);
    insta::assert_snapshot!(shown, @r#"
        `listen` = "5000" (from --listen): it is not usable; accepted: an IP address and a port, such as 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000
        `part-size` = "3MiB" (from ROADSTEAD_PART_SIZE): it is not usable; accepted: a size from 5MiB to 512MiB, in B, KiB, MiB, GiB or TiB
        `upload-expiry` = "24" (from /etc/roadstead.toml, line 2): it is not usable; accepted: a time from 1m to 36500d, in ms, s, m, h or d
        `max-uploads` = "0" (from /etc/roadstead.toml, line 1): it is not usable; accepted: a whole number from 1 to 1000000
        `log-format` (from /etc/roadstead.toml, line 1): it has the wrong shape; accepted: text or json
        `listen` (from /etc/roadstead.toml, line 1): it has the wrong shape; accepted: an IP address and a port, such as 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000
        `storage` = "gcs" (from --storage): it is not usable; accepted: filesystem or s3
        `s3-endpoint` = "minio:9000" (from --s3-endpoint): it is not usable; accepted: a URL such as https://s3.example.com or http://127.0.0.1:9000
        `log-level` = "info,,=x" (from --log-level): it is not usable; accepted: error, warn, info, debug or trace, or directives such as info,roadstead_blobs=debug
        `log-level` = "verbose" (from --log-level): it is not usable; accepted: error, warn, info, debug or trace, or directives such as info,roadstead_blobs=debug
        `tls-name` = "https://a" (from --tls-name): it is not usable; accepted: a host name or an IP address, without a port, such as registry.example.com or 192.168.56.100
        `insecure-http` = "yes" (from ROADSTEAD_INSECURE_HTTP): it is not usable; accepted: true or false
        "#);
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    let shown = refusals(&[
        (Some("# mine\nlistn = \"127.0.0.1:1\"\n"), &[], &[]),
        (Some("[s3]\nbucket = \"b\""), &[], &[]),
        (Some("memory_budget = \"1GiB\""), &[], &[]),
    ]);
    insta::assert_snapshot!(shown, @r#"
        `listn` = "127.0.0.1:1" (from /etc/roadstead.toml, line 2): there is no such setting; accepted: `listen`, if that was meant; `roadstead config` prints all settings
        `s3` (from /etc/roadstead.toml, line 1): there is no such setting; accepted: the settings that `roadstead config` prints
        `memory_budget` = "1GiB" (from /etc/roadstead.toml, line 1): there is no such setting; accepted: `memory-budget`, if that was meant; `roadstead config` prints all settings
        "#);
    // Kubernetes and others put such names into the environment; they are not ours to judge.
    assert!(read(None, &[("ROADSTEAD_PORT", "tcp://10.0.0.1:5000")], &[]).is_ok());
}

#[test]
fn settings_that_need_each_other_are_checked() {
    let shown = refused_flags(&[
        &[("tls-certificate", "c.pem")],
        &[("tls-key", "k.pem")],
        &[("tls-certificate", "c.pem"), ("tls-key", "k.pem"), ("tls", "self-signed")],
        &[("tls-certificate", "c.pem"), ("tls-key", "k.pem"), ("tls-name", "a.example")],
        &[("tls-name", "a.example")],
        &[("storage", "s3")],
        &[("s3-bucket", "b")],
        &[("blob-serving", "redirect")],
        &[("blob-serving", "redirect"), ("storage", "s3"), ("s3-bucket", "b")],
        &[("part-size", "64MiB")],
        &[("anonymous-pull", "true")],
        &[("upstream", "https://a.example")],
        &[("upstream", "https://a.example/path"), ("upstream-token-file", "t")],
        &[("upstream", "https://a.example:99999"), ("upstream-token-file", "t")],
        &[("upstream", "http://a.example"), ("upstream-token-file", "t")],
        &[("upstream-token-file", "t")],
    ]);
    insta::assert_snapshot!(shown, @r#"
        `tls-certificate` = "c.pem" (from --tls-certificate): there is no `tls-key`; accepted: both `tls-certificate` and `tls-key`, or neither
        `tls-key` = "k.pem" (from --tls-key): there is no `tls-certificate`; accepted: both `tls-certificate` and `tls-key`, or neither
        `tls` = "self-signed" (from --tls): there is a `tls-certificate` too; accepted: one of the two
        `tls-name` = "a.example" (from --tls-name): the given certificate has its own names; accepted: names, with `tls` = "self-signed"
        `tls-name` = "a.example" (from --tls-name): no certificate is made; accepted: names, with `tls` = "self-signed"
        `storage` = "s3" (from --storage): there is no `s3-bucket`; accepted: "s3" with an `s3-bucket`, or "filesystem"
        `s3-bucket` = "b" (from --s3-bucket): `storage` is not `s3`; accepted: none, or `storage` = "s3" with it
        `blob-serving` = "redirect" (from --blob-serving): files have no address that clients could be sent to; accepted: "inline", or "redirect" with `storage` = "s3"
        `blob-serving` = "redirect" (from --blob-serving): it is not said where clients reach the bucket; accepted: "inline", or "redirect" with `s3-public-endpoint`, `s3-endpoint` or `s3-region`
        `memory-budget` = "128MiB" (the default): it holds less than 4 parts of `part-size` 64MiB; accepted: 256MiB or more
        `anonymous-pull` = "true" (from --anonymous-pull): there is no `htpasswd`, so that everybody may pull and push; accepted: false, or true with an `htpasswd`
        `upstream` = "https://a.example" (from --upstream): there is no `upstream-token-file`, and that registry lets nobody follow it without a token; accepted: a URL with an `upstream-token-file`
        `upstream` = "https://a.example/path" (from --upstream): it has a path; accepted: a URL such as https://registry.example.com:5000
        `upstream` = "https://a.example:99999" (from --upstream): it is not usable; accepted: a URL such as https://s3.example.com or http://127.0.0.1:9000
        `upstream` = "http://a.example" (from --upstream): the token and all images would travel unprotected; accepted: an https URL, or http to this machine itself
        `upstream-token-file` = "t" (from --upstream-token-file): there is no `upstream`; accepted: none, or one with an `upstream`
        "#);
}

#[test]
fn clients_are_redirected_to_the_endpoint_that_they_reach() {
    let endpoint = |flags: &[(&str, &str)]| {
        let s3 = [("storage", "s3"), ("s3-bucket", "b"), ("blob-serving", "redirect")];
        match read(None, &[], &[&s3, flags].concat()).unwrap().serving {
            BlobServing::Redirect { endpoint, .. } => endpoint,
            BlobServing::Inline => panic!("redirects were asked for"),
        }
    };
    let region = ("s3-region", "eu-central-1");
    let own = ("s3-endpoint", "http://minio:9000");
    let public = ("s3-public-endpoint", "https://blobs.example.com");
    assert_eq!(endpoint(&[region]), "https://s3.eu-central-1.amazonaws.com");
    assert_eq!(endpoint(&[region, own]), "http://minio:9000");
    assert_eq!(endpoint(&[region, own, public]), "https://blobs.example.com");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let file = "part-size = \"8MB\"\nhtpaswd = \"x\"";
    let shown = refusals(&[(Some(file), &[("ROADSTEAD_LISTEN", "nowhere")], &[("storage", "s3")])]);
    insta::assert_snapshot!(shown, @r#"
        4 settings cannot be used:
          `htpaswd` = "x" (from /etc/roadstead.toml, line 2): there is no such setting; accepted: `htpasswd`, if that was meant; `roadstead config` prints all settings
          `storage` = "s3" (from --storage): there is no `s3-bucket`; accepted: "s3" with an `s3-bucket`, or "filesystem"
          `part-size` = "8MB" (from /etc/roadstead.toml, line 1): it is not usable; accepted: a size from 5MiB to 512MiB, in B, KiB, MiB, GiB or TiB
          `listen` = "nowhere" (from ROADSTEAD_LISTEN): it is not usable; accepted: an IP address and a port, such as 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000
        "#);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    insta::assert_snapshot!(refusals(&[(Some("listen = oops\n"), &[], &[])]), @r#"
        the configuration file /etc/roadstead.toml is not TOML: TOML parse error at line 1, column 10
          |
        1 | listen = oops
          |          ^^^^
        string values must be quoted, expected literal string
        "#);
    let missing = Sources::gather(BTreeMap::new(), [("ROADSTEAD_CONFIG".into(), "/nowhere/r.toml".into())], None);
    insta::assert_snapshot!(missing.expect_err("there is no such file"), @"the configuration file /nowhere/r.toml cannot be read: No such file or directory (os error 2)");
}

#[test]
fn an_upstream_is_a_host_and_a_port() {
    let upstream = |url: &str, rate: &str| {
        let flags = [("upstream", url), ("upstream-token-file", "t"), ("upstream-rate", rate)];
        let upstream = read(None, &[], &flags).unwrap().upstream.unwrap();
        (upstream.host, upstream.port, upstream.is_https, upstream.rate)
    };
    assert_eq!(upstream("https://a.example", "0B"), ("a.example".to_owned(), 443, true, None));
    assert_eq!(upstream("https://[fd00::7]:5000/", "1MiB"), ("[fd00::7]".to_owned(), 5000, true, Some(1 << 20)));
    assert_eq!(upstream("http://127.0.0.1:5000", "0B"), ("127.0.0.1".to_owned(), 5000, false, None));
    assert_eq!(upstream("http://localhost", "0B"), ("localhost".to_owned(), 80, false, None));
    assert_eq!(read(None, &[], &[]).unwrap().upstream, None);
}
