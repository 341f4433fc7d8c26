use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::command::Tool;
use crate::site::Site;
use crate::tools::{repository_root, tool};

/// What a pod's network lives in. A name without a dot in its host would be taken for one of docker.io.
pub(crate) const PAUSE: &str = "lab.local/pause:1";

/// What busybox is called as in the image of tools.
const BUSYBOX_NAMES: [&str; 19] = [
    "sh",
    "cat",
    "cp",
    "date",
    "dd",
    "echo",
    "env",
    "grep",
    "head",
    "id",
    "ls",
    "mkdir",
    "nslookup",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "tar",
    "wget",
];

/// An image made without an engine: one layer of files, and how it runs.
pub struct Image {
    name: String,
    files: Vec<(PathBuf, PathBuf)>,
    links: Vec<(String, PathBuf)>,
    user: String,
    entrypoint: Vec<String>,
}

impl Image {
    fn new(name: &str, entrypoint: &[&str]) -> Self {
        let entrypoint = entrypoint.iter().map(|&word| word.to_owned()).collect();
        Self { name: name.to_owned(), files: Vec::new(), links: Vec::new(), user: String::new(), entrypoint }
    }

    /// Does nothing, for ever.
    pub(crate) fn pause() -> Result<Self> {
        let mut image = Self::new(PAUSE, &["/bin/busybox", "sleep", "2147483647"]);
        image.add(&tool("busybox")?, "/bin/busybox");
        Ok(image)
    }

    /// What tests run in pods: a shell, and a client of registries.
    pub fn tools() -> Result<Self> {
        let mut image = Self::new("lab.local/tools:1", &["/bin/sh", "-c"]);
        image.add(&tool("busybox")?, "/bin/busybox");
        image.add(&tool("crane")?, "/bin/crane");
        image.links = BUSYBOX_NAMES.map(|name| ("busybox".to_owned(), Path::new("/bin").join(name))).into();
        Ok(image)
    }

    /// Roadstead's own image from the binaries that were built for the tests, laid out and run as the Dockerfile says.
    /// Those binaries find their libraries at run time, so these come along.
    pub fn roadstead(tag: &str) -> Result<Self> {
        let dockerfile = fs::read_to_string(repository_root().join("Dockerfile"))?;
        let stage = dockerfile.rsplit_once("\nFROM ").context("the Dockerfile has stages")?.1;
        let value = |instruction: &str| {
            let found = stage.lines().find_map(|line| line.strip_prefix(instruction));
            found.map(str::trim).with_context(|| format!("the Dockerfile has no {instruction}"))
        };
        let mut image = Self::new(&format!("lab.local/roadstead:{tag}"), &[]);
        image.entrypoint = serde_json::from_str(value("ENTRYPOINT ")?)?;
        value("USER ")?.clone_into(&mut image.user);
        image.add(Path::new("/etc/ssl/certs/ca-certificates.crt"), "/etc/ssl/certs/ca-certificates.crt");
        let binaries = stage.lines().filter_map(|line| line.strip_prefix("COPY --from=build ")?.split_once(' '));
        for (_, target) in binaries.filter(|(source, _)| source.starts_with("/out/")) {
            let name = target.trim().trim_start_matches('/');
            image.add(&repository_root().join("target/debug").join(name), target.trim());
        }
        Ok(image)
    }

    /// What it is pulled by.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn add(&mut self, source: &Path, target: &str) {
        self.files.push((source.to_owned(), PathBuf::from(target)));
    }

    /// Writes it as an archive that container engines load, below the cluster's folder.
    pub(crate) async fn write(&self, site: &Site) -> Result<PathBuf> {
        let stem = self.name.replace(['/', ':'], "-");
        let layout = tempfile::Builder::new().prefix(&format!("{stem}-")).tempdir_in(site.folder())?;
        self.lay_out_at(layout.path()).await?;
        let archive = site.file(&format!("{stem}.tar"));
        let tar = Tool::new("tar")?.args("--create --file").arg(&archive).arg("--directory");
        tar.arg(layout.path()).arg(".").output().await?;
        Ok(archive)
    }

    /// Writes it as an OCI image layout.
    pub async fn lay_out_at(&self, layout: &Path) -> Result<()> {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let layer = self.layer().await?;
        let diff = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
        let layer = put(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer)?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"User": self.user, "Entrypoint": self.entrypoint, "Env": ["PATH=/bin:/"]},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        });
        let config = put(&blobs, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
        let mut manifest = put(&blobs, media_type, manifest.to_string().as_bytes())?;
        manifest["annotations"] = json!({"io.containerd.image.name": self.name});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
        Ok(())
    }

    /// Its files in an archive that is the same for the same files.
    async fn layer(&self) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir()?;
        let (root, tar) = (folder.path().join("root"), folder.path().join("layer.tar"));
        self.lay_out(&root).await?;
        Tool::new("tar")?
            .args("--create --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu --file")
            .arg(&tar)
            .arg("--directory")
            .arg(&root)
            .arg(".")
            .output()
            .await?;
        Ok(fs::read(&tar)?)
    }

    /// Makes the files of its layer.
    async fn lay_out(&self, root: &Path) -> Result<()> {
        let mut libraries = BTreeSet::new();
        for (source, target) in &self.files {
            let placed = below(root, target)?;
            fs::copy(source, &placed).with_context(|| format!("{} cannot be copied", source.display()))?;
            if is_program(source)? {
                Tool::new("strip")?.arg("--strip-debug").arg(&placed).output().await?;
                libraries.extend(libraries_of(source).await?);
            }
        }
        for library in libraries {
            fs::copy(&library, below(root, &library)?)?;
        }
        for (original, link) in &self.links {
            symlink(original, below(root, link)?)?;
        }
        Ok(())
    }
}

/// Where an absolute path is below `root`; the folder that it is in is made.
fn below(root: &Path, path: &Path) -> Result<PathBuf> {
    let placed = root.join(path.strip_prefix("/").unwrap_or(path));
    fs::create_dir_all(placed.parent().unwrap_or(root))?;
    Ok(placed)
}

fn is_program(file: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut magic = [0; 4];
    let read = fs::File::open(file).with_context(|| format!("{} is not built", file.display()))?.read(&mut magic)?;
    Ok(read == 4 && magic == *b"\x7fELF")
}

/// The libraries that the loader would give a program, and the loader.
async fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    // It fails for static programs, which need none.
    let (_, listed) = Tool::new("ldd")?.arg(program).outcome().await?;
    let words = listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(words.map(PathBuf::from).filter(|path| path != program).collect())
}

fn put(blobs: &Path, media_type: &str, content: &[u8]) -> Result<Value> {
    let digest = hex::encode(Sha256::digest(content));
    fs::write(blobs.join(&digest), content)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()}))
}
