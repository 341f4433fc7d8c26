use anyhow::Result;

use super::pages::{PAGE, Pages, measure};
use super::{Row, Running};
use crate::bench::Bench;
use crate::load::{Image, put_manifest};
use crate::systems::{Server, Storage, System};

pub(super) const ROW: Row = Row {
    name: "tags",
    workload: "A repository of 100,000 tags, read in pages of 100: Roadstead's from the first page to the last, at 200 \
               pages a second whether or not they were answered. distribution, which reads all tags for each page, is given \
               a tenth as many, and its first and last pages are read.",
    run,
};

const TAGS: u32 = 100_000;
const REPOSITORY: &str = "bench/tagged";
/// Tags of one PUT, where a registry takes more than one.
const TAGS_OF_ONE_PUT: u32 = 50;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let tags = bench.settings.scaled(TAGS, 10 * PAGE);
        let mut pages = Pages::new(&format!("tags page of {tags} tags"));
        for system in [System::Roadstead, System::Distribution] {
            if !bench.registries.with(Storage::Filesystem).contains(&system) {
                continue;
            }
            let tags = if system == System::Roadstead { tags } else { tags / 10 };
            let server = bench.registries.start(system, Storage::Filesystem).await?;
            load(bench, &server, tags).await?;
            let before = tag((tags - 1).saturating_sub(PAGE));
            let first = format!("/v2/{REPOSITORY}/tags/list?n={PAGE}");
            measure(bench, &server, &mut pages, &first, &format!("{first}&last={before}"), tags).await?;
        }
        Ok(pages.into_figures())
    })
}

fn tag(number: u32) -> String {
    format!("v{number:07}")
}

/// Gives a registry an image with that many tags.
async fn load(bench: &Bench, server: &Server, tags: u32) -> Result<()> {
    let image = Image::new(bench.fresh_seed(), &[1_000]);
    let mut connection = server.connect().await?;
    image.push(&mut connection, REPOSITORY, &tag(0)).await?;
    let step = if server.system == System::Roadstead { TAGS_OF_ONE_PUT } else { 1 };
    for from in (0..tags).step_by(step as usize) {
        let reference = if step == 1 {
            tag(from)
        } else {
            let query: Vec<_> = (from..(from + step).min(tags)).map(|number| format!("tag={}", tag(number))).collect();
            format!("{}?{}", image.digest(), query.join("&"))
        };
        put_manifest(&mut connection, REPOSITORY, &reference, Image::MEDIA_TYPE, image.manifest()).await?;
    }
    Ok(())
}
