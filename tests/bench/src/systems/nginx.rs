use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::server::scratch;
use super::{Process, Server, System, free_address};
use crate::machine::tool;

impl Server {
    /// nginx as Debian configures it (sendfile, `tcp_nopush`, a worker for each core), without a log of accesses and
    /// without a limit of requests a connection, serving `files` by their names.
    pub(crate) async fn nginx(parent: &Path, files: &[(&str, Vec<u8>)]) -> Result<Self> {
        let folder = scratch(parent, "nginx")?;
        let root = folder.path();
        fs::create_dir(root.join("www"))?;
        for (name, content) in files {
            fs::write(root.join("www").join(name), content)?;
        }
        fs::write(root.join("www/ready"), "ready")?;
        let address = free_address()?;
        let at = root.display();
        let configuration = format!(
            "daemon off;\nworker_processes auto;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000000;\n  \
             client_body_temp_path {at}/body;\n  proxy_temp_path {at}/proxy;\n  fastcgi_temp_path {at}/fastcgi;\n  \
             uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n  \
             server {{ listen {address}; root {at}/www; default_type application/octet-stream; }}\n}}\n"
        );
        let path = root.join("nginx.conf");
        fs::write(&path, configuration)?;
        // Its workers give up being root, and must still read the files.
        fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut command = Command::new(tool("nginx")?);
        command.arg("-c").arg(&path).arg("-p").arg(root);
        let process = Process::start("nginx", command, root)?;
        Self::ready(System::Nginx, address, process, folder, "/ready").await
    }
}
