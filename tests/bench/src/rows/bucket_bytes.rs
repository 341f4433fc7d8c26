use super::push_filesystem::REPOSITORY;
use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Figure, Unit};
use crate::load::{Client, push_blob, push_in_chunks};
use crate::payload::Payload;
use crate::systems::{Minio, Server, Storage, System, upload_alone};

pub(super) const ROW: Row = Row {
    name: "bucket-bytes",
    workload: "Layers of 256 MB pushed to a bucket of MinIO, as docker does and in chunks of the smallest size that the \
               registry advertises (10 MB where it advertises none). Counted is what MinIO causes to be written to its \
               disk, copies within the bucket included (write_bytes of /proc/PID/io), for each byte of the layer.",
    run,
};

const LENGTH: u64 = 256_000_000;
/// What docker's old chunked client sent.
const CHUNK: u64 = 10_000_000;
/// `MinIO` writes a little now and then for itself; these many pushes make that small beside what is counted.
const PUSHES: u32 = 3;

struct Subject {
    /// Each with a server of its own, so that what one does in the background is not counted for another.
    minio: Minio,
    /// `None` is our own client alone.
    server: Option<Server>,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut subjects = vec![Subject { minio: Minio::start(bench.folder()).await?, server: None }];
        let mut systems = bench.registries.with(Storage::Bucket(&subjects[0].minio));
        systems.sort();
        for system in systems {
            let minio = Minio::start(bench.folder()).await?;
            let server = bench.registries.start(system, Storage::Bucket(&minio)).await?;
            subjects.push(Subject { minio, server: Some(server) });
        }
        let stored =
            |how: &str| Figure::new(format!("bytes written to the bucket per byte stored, {how}"), Unit::Ratio);
        let mut streamed = stored("as docker").below(1.01);
        let mut chunked = stored("in the smallest chunks").below(1.05);
        let mut sizes = Vec::new();
        bench
            .alternate(bench.settings.rounds.min(2), &mut subjects, async |Subject { minio, server }: &mut Subject| {
                let total = f64::from(PUSHES) * LENGTH as f64;
                let payloads: Vec<_> = (0..2 * PUSHES).map(|_| Payload::new(bench.fresh_seed(), LENGTH)).collect();
                let (first, second) = payloads.split_at(PUSHES as usize);
                let before = minio.process.bytes_written()?;
                let Some(server) = server else {
                    for _ in first {
                        upload_alone(minio, bench.fresh_seed(), LENGTH)?;
                    }
                    streamed.sample(System::Uploader, (minio.process.bytes_written()? - before) as f64 / total);
                    return Ok(());
                };
                let mut connection = server.connect().await?;
                for payload in first {
                    push_blob(&mut connection, REPOSITORY, payload, Client::Docker).await?;
                }
                let between = minio.process.bytes_written()?;
                streamed.sample(server.system, (between - before) as f64 / total);
                for payload in second {
                    sizes.push((server.system, push_in_chunks(&mut connection, REPOSITORY, payload, CHUNK).await?));
                }
                chunked.sample(server.system, (minio.process.bytes_written()? - between) as f64 / total);
                Ok(())
            })
            .await?;
        sizes.sort_unstable();
        sizes.dedup();
        for (system, size) in sizes {
            chunked.note(format!("{} was sent chunks of {size} bytes.", system.name()));
        }
        Ok(vec![streamed, chunked])
    })
}
