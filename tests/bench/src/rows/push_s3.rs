use tokio::time::Instant;

use super::push_filesystem::REPOSITORY;
use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Against, Figure, Unit};
use crate::load::{Client, push_blob};
use crate::payload::Payload;
use crate::systems::{Minio, Server, Storage, System, upload_alone};

pub(super) const ROW: Row = Row {
    name: "push-s3",
    workload: "A layer of 1 GB that the registry has never seen, pushed by one client as docker does, to a bucket of MinIO \
               on the same machine; beside that, Roadstead's own S3 client sending the same number of bytes from memory, \
               in parts of 8 MiB of which 3 are on their way.",
    run,
};

const LENGTH: u64 = 1_000_000_000;

enum Subject {
    Registry(Box<Server>),
    Uploader,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let minio = Minio::start(bench.folder()).await?;
        let mut subjects = vec![Subject::Uploader];
        for system in bench.registries.with(Storage::Bucket(&minio)) {
            let server = bench.registries.start(system, Storage::Bucket(&minio)).await?;
            subjects.push(Subject::Registry(Box::new(server)));
        }
        let mut wall = Figure::new("push of a 1 GB layer to MinIO", Unit::Seconds)
            .at_most(0.6, Against::One(System::Distribution))
            .at_most(1.3, Against::One(System::Uploader));
        let mut work =
            Figure::new("push of a 1 GB layer to MinIO, the server's processor time", Unit::CpuSecondsPerGigabyte)
                .below(2.0);
        bench
            .alternate(bench.settings.rounds, &mut subjects, async |subject: &mut Subject| {
                let seed = bench.fresh_seed();
                let Subject::Registry(server) = subject else {
                    rustix::fs::sync();
                    wall.sample(System::Uploader, upload_alone(&minio, seed, LENGTH)?.as_secs_f64());
                    return Ok(());
                };
                let payload = Payload::new(seed, LENGTH);
                let mut connection = server.connect().await?;
                rustix::fs::sync();
                let (before, start) = (server.process.cpu(), Instant::now());
                push_blob(&mut connection, REPOSITORY, &payload, Client::Docker).await?;
                wall.sample(server.system, start.elapsed().as_secs_f64());
                let used = server.process.cpu() - before;
                work.sample(server.system, used / (LENGTH as f64 / 1e9));
                Ok(())
            })
            .await?;
        Ok(vec![wall, work])
    })
}
