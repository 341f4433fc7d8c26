use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::certificates::AUTHORITY;
use crate::site::Site;

/// Who calls the API server: (user, groups).
pub(crate) fn users(nodes: u8) -> Vec<(String, &'static str)> {
    let components = ["system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"];
    let components = components.into_iter().map(|user| (user.to_owned(), ""));
    let kubelets = (1..=nodes).map(|node| (node_user(node), "system:nodes"));
    std::iter::once((ADMIN.to_owned(), "system:masters")).chain(components).chain(kubelets).collect()
}

pub(crate) const ADMIN: &str = "admin";

/// The user that a node's kubelet is.
pub(crate) fn node_user(node: u8) -> String {
    format!("system:node:{}", Site::node_name(node))
}

/// Everybody's token follows from their name: nobody but those inside the namespaces reaches the API server.
pub(crate) fn token(user: &str) -> String {
    format!("token-of-{}", user.replace(':', "-"))
}

/// Writes the API server's list of tokens.
pub(crate) fn write_tokens(site: &Site, nodes: u8) -> Result<PathBuf> {
    let line = |(user, groups): (String, &str)| format!("{},{user},{user},\"{groups}\"\n", token(&user));
    let file = site.file("tokens.csv");
    fs::write(&file, users(nodes).into_iter().map(line).collect::<String>())?;
    Ok(file)
}

/// The file with which a user calls the API server.
pub(crate) fn path(site: &Site, user: &str) -> PathBuf {
    site.file(&format!("{}.kubeconfig", user.replace(':', "-")))
}

/// Writes the files of all users.
pub(crate) fn write_all(site: &Site, nodes: u8) -> Result<()> {
    for (user, _) in users(nodes) {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{}:6443", site.hub_address()),
                "certificate-authority": site.file(AUTHORITY),
            }}],
            "users": [{"name": user, "user": {"token": token(&user)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        });
        // YAML has JSON in it.
        fs::write(path(site, &user), format!("{config:#}"))?;
    }
    Ok(())
}
