use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::network::kill;
use crate::site::Site;

/// The hierarchies of version 1, each of its own controllers, or the single one of version 2.
struct Hierarchies {
    roots: Vec<PathBuf>,
    is_version_2: bool,
}

fn hierarchies() -> Result<Hierarchies> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of_kind = |kind: &str| -> Vec<PathBuf> {
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let of_kind = fields.filter(|fields| fields.get(2) == Some(&kind));
        of_kind.filter_map(|fields| fields.get(1).map(PathBuf::from)).collect()
    };
    let version_1 = of_kind("cgroup");
    if version_1.is_empty() {
        return Ok(Hierarchies { roots: of_kind("cgroup2"), is_version_2: true });
    }
    Ok(Hierarchies { roots: version_1, is_version_2: false })
}

/// Makes the cgroup that is a kubelet's root, in every hierarchy.
pub(crate) fn make(name: &str) -> Result<()> {
    let Hierarchies { roots, is_version_2 } = hierarchies()?;
    for root in roots {
        let made = root.join(name);
        fs::create_dir_all(&made).with_context(|| format!("{} cannot be made", made.display()))?;
        // A new cgroup of version 1 has no processors and no memory nodes, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !is_version_2 && made.join(file).exists() {
                fs::write(made.join(file), fs::read(root.join(file))?)?;
            }
        }
        if is_version_2 {
            delegate(&root)?;
            delegate(&made)?;
        }
    }
    Ok(())
}

/// Gives those below a cgroup of version 2 all of its controllers.
fn delegate(cgroup: &Path) -> Result<()> {
    for controller in fs::read_to_string(cgroup.join("cgroup.controllers"))?.split_whitespace() {
        // Some cannot be given on; the kubelet says which it misses.
        let _ = fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

/// Kills every process in a site's cgroups: what runs in its pods.
pub(crate) fn kill_all(site: &Site) -> Result<()> {
    for cgroup in owned(site)? {
        for folder in with_all_below(&cgroup) {
            let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            processes.lines().filter_map(|line| line.parse().ok()).for_each(kill);
        }
    }
    Ok(())
}

/// Removes a site's cgroups. Fails while processes are in them.
pub(crate) fn remove_all(site: &Site) -> Result<()> {
    for cgroup in owned(site)? {
        for folder in with_all_below(&cgroup).into_iter().rev() {
            fs::remove_dir(&folder).with_context(|| format!("{} is left", folder.display()))?;
        }
    }
    Ok(())
}

fn owned(site: &Site) -> Result<Vec<PathBuf>> {
    let tops = hierarchies()?.roots.into_iter().flat_map(|root| folders(&root));
    Ok(tops.filter(|top| top.file_name().is_some_and(|name| site.owns(&name.to_string_lossy()))).collect())
}

/// A folder and all below it, parents first.
fn with_all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next).cloned() {
        found.extend(folders(&folder));
        next += 1;
    }
    found
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
