//! How clients come to trust the own CA: printed at start, ready to be copied.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// What to do on the machines that push and pull.
pub(crate) fn instructions(ca: &Path, names: &[String], listen: SocketAddr) -> String {
    let hosts: Vec<_> = names.iter().map(|name| host_and_port(name, listen.port())).collect();
    let (ca, host) = (ca.display(), hosts.first().map(String::as_str).unwrap_or_default());
    let others = match hosts.get(1..).unwrap_or_default() {
        [] => String::new(),
        others => format!(" (and likewise for {})", others.join(", ")),
    };
    format!(
        "\
The certificate is signed by this registry's own CA: {ca}
Machines trust it for {host}{others} with a copy of that file:
  docker           /etc/docker/certs.d/{host}/ca.crt
  podman, skopeo   /etc/containers/certs.d/{host}/ca.crt
  containerd       /etc/containerd/certs.d/{host}/ca.crt, and beside it hosts.toml:
                     server = \"https://{host}\"
                     [host.\"https://{host}\"]
                       ca = \"ca.crt\"
  anything else    curl --cacert {ca} https://{host}/v2/
"
    )
}

fn host_and_port(name: &str, port: u16) -> String {
    match name.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_can_be_followed_as_they_are() {
        let names = ["registry.example.com", "192.168.56.100", "::1"].map(str::to_owned);
        let text = instructions(Path::new("/var/lib/roadstead/tls/ca.pem"), &names, ([0, 0, 0, 0], 5000).into());
        insta::assert_snapshot!(text, @r#"
        The certificate is signed by this registry's own CA: /var/lib/roadstead/tls/ca.pem
        Machines trust it for registry.example.com:5000 (and likewise for 192.168.56.100:5000, [::1]:5000) with a copy of that file:
          docker           /etc/docker/certs.d/registry.example.com:5000/ca.crt
          podman, skopeo   /etc/containers/certs.d/registry.example.com:5000/ca.crt
          containerd       /etc/containerd/certs.d/registry.example.com:5000/ca.crt, and beside it hosts.toml:
                             server = "https://registry.example.com:5000"
                             [host."https://registry.example.com:5000"]
                               ca = "ca.crt"
          anything else    curl --cacert /var/lib/roadstead/tls/ca.pem https://registry.example.com:5000/v2/
        "#);
    }
}
