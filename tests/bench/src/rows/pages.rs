//! Pages of a long listing: how long each takes, and whether it matters where in the listing it is.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Due, Reading, Request, closed_loop, evenly, open_loop};
use crate::systems::{Server, System};

/// Entries of a page.
pub(super) const PAGE: u32 = 100;

/// Pages a second, over connections that are more than enough for it.
const RATE: f64 = 200.0;
const CLIENTS: usize = 8;

/// The last page may take this much longer than the first, which is what two measurements of the same page differ by.
const AS_QUICK: f64 = 1.25;

pub(super) struct Pages {
    tail: Figure,
    first: Figure,
    last: Figure,
    last_over_first: Figure,
}

impl Pages {
    pub(super) fn new(title: &str) -> Self {
        let figure = |what: &str, unit| Figure::new(format!("{title}, {what}"), unit);
        Self {
            tail: figure("p99 over all pages", Unit::Seconds).below(0.01),
            first: figure("the first page, p50", Unit::Seconds),
            last: figure("the last page, p50", Unit::Seconds),
            last_over_first: figure("the last page's p50 over the first's", Unit::Ratio).below(AS_QUICK),
        }
    }

    pub(super) fn into_figures(self) -> Vec<Figure> {
        vec![self.tail, self.first, self.last, self.last_over_first]
    }
}

/// Measures the pages of a listing of `entries` that begins at `first` and whose last page is `last`.
pub(super) async fn measure(
    bench: &Bench,
    server: &Server,
    pages: &mut Pages,
    first: &str,
    last: &str,
    entries: u32,
) -> Result<()> {
    let Server { system, address, .. } = *server;
    let all = if system == System::Roadstead { walk(server, first, entries).await? } else { Arc::new([]) };
    for round in 0..bench.settings.rounds {
        say(&format!("  {}: round {}", system.name(), round + 1));
        if !all.is_empty() {
            pages.tail.sample(system, open_loop(address, &all, CLIENTS, 1).await?[0].latency(0.99));
        }
        let mut medians = Vec::new();
        for target in [first, last] {
            let requests: Arc<[Request]> = Arc::new([Request::get(target)]);
            // Ends with the first answer after that time: a slow registry is asked once.
            let tally = closed_loop(address, Reading::Copying, &requests, 1, bench.settings.duration / 4).await?;
            medians.push(tally.latency(0.5));
        }
        pages.first.sample(system, medians[0]);
        pages.last.sample(system, medians[1]);
        pages.last_over_first.sample(system, medians[1] / medians[0]);
    }
    Ok(())
}

/// The requests for all pages, as the links between them name them; fails unless there are as many as there must be.
async fn walk(server: &Server, first: &str, entries: u32) -> Result<Arc<[Due]>> {
    let mut connection = server.connect().await?;
    let mut requests = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(target) = next {
        let request = Request::get(&target);
        let (status, _) = connection.fetch(&request).await?;
        ensure!(status == 200, "a page was answered with {status}");
        requests.push(request);
        next = connection.header("link").map(linked).transpose()?;
    }
    let (found, expected) = (requests.len(), entries.div_ceil(PAGE) as usize);
    ensure!(found == expected, "{found} pages instead of {expected}");
    Ok(evenly(&requests, RATE))
}

/// The target of `<target>; rel="next"`.
fn linked(link: &str) -> Result<String> {
    let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(target, _)| target);
    target.map(str::to_owned).context("a Link without a target")
}
