//! The Dockerfile under a real engine, as far as that goes without a network: its last stage, by buildah, and what came of it in
//! containers, by podman. What its first stage makes is put in its place: the programs that were built for the tests, whose libraries
//! are lent to the containers. So neither the compilation nor the other architecture is shown.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Tool, Workbench, repository_root};

/// What the image has, and nothing else: no shell, no libraries, nobody's password file.
const FILES: [&str; 4] =
    ["etc/ssl/certs/ca-certificates.crt", "roadstead", "roadstead-node-mirror", "roadstead-operator"];

const IMAGE: &str = "localhost/roadstead:test";

/// A call of podman or buildah, with a storage of the bench's own, of the kind that works on every file system.
fn engine(bench: &Workbench, name: &str) -> Tool {
    let storage = bench.tool(name).args("--storage-driver vfs --root").arg(bench.file("root"));
    storage.arg("--runroot").arg(bench.file("runroot"))
}

/// Builds the last stage as it is written.
async fn build(bench: &Workbench) {
    let dockerfile = std::fs::read_to_string(repository_root().join("Dockerfile")).expect("the Dockerfile");
    let (_, stage) = dockerfile.rsplit_once("\nFROM ").expect("it has two stages");
    bench.write("Containerfile", format!("FROM {stage}"));
    let (made, context) = (bench.path().join("made"), bench.path().join("context"));
    for folder in [made.join("etc/ssl/certs"), made.join("out"), context] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    let authorities = "etc/ssl/certs/ca-certificates.crt";
    std::fs::copy(format!("/{authorities}"), made.join(authorities)).expect("the system's authorities");
    // target/<profile>/deps/it-<hash> -> target/<profile>
    let test = std::env::current_exe().expect("a test knows its own path");
    let programs = test.ancestors().nth(2).expect("it is in target/<profile>/deps");
    for program in FILES.iter().filter(|file| !file.contains('/')) {
        std::fs::copy(programs.join(program), made.join("out").join(program)).expect("the program was built");
    }
    let build = engine(bench, "buildah").args("build --isolation chroot --file Containerfile --tag").arg(IMAGE);
    build.arg("--build-context").arg(format!("build={}", made.display())).arg("context").succeeds().await;
}

/// Runs something in a container that has nothing but the image, read-only, and the libraries of the programs.
fn run(bench: &Workbench, entrypoint: &str) -> Tool {
    let run =
        engine(bench, "podman").args("--runtime runc --cgroup-manager cgroupfs run --rm --network none --read-only");
    let run = run.args("--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --cap-drop all");
    let libraries = ["/lib", "/lib64"].into_iter().filter(|folder| std::path::Path::new(folder).exists());
    let run = libraries.fold(run, |run, folder| run.arg("--volume").arg(format!("{folder}:{folder}:ro")));
    run.arg("--entrypoint").arg(entrypoint).arg(IMAGE)
}

#[tokio::test]
async fn the_dockerfile_makes_an_image_of_three_programs_without_a_shell_or_root() {
    let bench = Workbench::new();
    build(&bench).await;

    let inspected = engine(&bench, "buildah").args("inspect --type image").arg(IMAGE).succeeds().await;
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    let config = &inspected["OCIv1"]["config"];
    assert_eq!(config["User"], "65532:65532", "{config}");
    assert_eq!(config["Entrypoint"], json!(["/roadstead"]), "{config}");
    assert_eq!(config["ExposedPorts"], json!({"5000/tcp": {}}), "{config}");
    assert!(config["Cmd"].is_null() && config["Volumes"].is_null(), "{config}");

    let mounted = engine(&bench, "podman").args("image mount").arg(IMAGE).succeeds().await;
    let found =
        bench.tool("find").arg(mounted.trim()).args("-mindepth 1 -not -type d -printf %P:%U:%m\\n").succeeds().await;
    engine(&bench, "podman").args("image unmount --all").succeeds().await;
    let expected = FILES.map(|file| format!("{file}:0:{}", if file.contains('/') { "644" } else { "755" }));
    assert_eq!(found.lines().collect::<BTreeSet<_>>(), expected.iter().map(String::as_str).collect(), "what is in it");

    for (program, said) in [
        ("/roadstead", "Usage: roadstead"),
        ("/roadstead-operator", "Usage: roadstead-operator"),
        ("/roadstead-node-mirror", "Usage: roadstead-node-mirror"),
    ] {
        let printed = run(&bench, program).arg("--help").succeeds().await;
        assert!(printed.contains(said), "{program}: {printed}");
    }
    let refused = run(&bench, "/bin/sh").args("-c true").fails().await;
    assert!(refused.contains("/bin/sh"), "{refused}");
    engine(&bench, "podman").args("rmi --all --force").succeeds().await;
}
