use std::path::Path;

use tracing::warn;

/// Says so if this node's containerd has settings, and none of them names a folder of registry hosts: then it reads none.
pub(crate) fn warn_if_ignored(hosts_dir: &Path) {
    let Some(file) = hosts_dir.parent().map(|folder| folder.join("config.toml")) else { return };
    // Without settings of its own there, it may have been told by other means.
    let Ok(settings) = std::fs::read_to_string(&file) else { return };
    if !names_a_folder(&settings) {
        warn!(
            "this node's containerd ignores what is written here: its config.toml sets no `config_path`. Set it to the \
             node's certs.d under [plugins.'io.containerd.cri.v1.images'.registry] and restart containerd once"
        );
    }
}

/// Whether there is a setting `config_path`, or an import in which there may be one.
fn names_a_folder(settings: &str) -> bool {
    let is_set = |line: &str, name: &str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    settings.lines().any(|line| is_set(line, "config_path") || is_set(line, "imports"))
}

#[cfg(test)]
mod tests {
    use super::names_a_folder;

    #[test]
    fn a_setting_is_told_from_a_comment() {
        assert!(names_a_folder("[x]\n  config_path = '/etc/containerd/certs.d'\n"));
        assert!(names_a_folder("imports = ['/etc/containerd/conf.d/*.toml']"));
        assert!(!names_a_folder("# config_path = '/etc'\nversion = 3\n"));
        assert!(!names_a_folder(""));
    }
}
