use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::network::kill;
use crate::site::Site;

/// Where hierarchies of a kind are mounted: `cgroup` are those of version 1, of which each has controllers of its own;
/// `cgroup2` is the one of version 2, which may be there beside them without any.
fn roots(kind: &str) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_kind = fields.filter(|fields| fields.get(2) == Some(&kind));
    Ok(of_kind.filter_map(|fields| fields.get(1).map(PathBuf::from)).collect())
}

/// Makes the cgroup that is a kubelet's root, in every hierarchy that has controllers.
pub(crate) fn make(name: &str) -> Result<()> {
    let version_1 = roots("cgroup")?;
    let is_version_2 = version_1.is_empty();
    for root in if is_version_2 { roots("cgroup2")? } else { version_1 } {
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
    // Runtimes make theirs in all of them.
    let roots = roots("cgroup")?.into_iter().chain(roots("cgroup2")?);
    let tops = roots.flat_map(|root| folders(&root));
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
