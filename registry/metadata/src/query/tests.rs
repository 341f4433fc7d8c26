use super::*;
use crate::fixtures::{World, new_manifest, open_upload, repository, upload, verified};
use crate::state::LOOKED_AT;
use crate::{NewManifest, PutManifest};

/// Far more than a page.
const ENTRIES: u32 = 2_000;
const PAGE: usize = 100;

fn looked_at(ask: impl FnOnce() -> usize) -> (usize, usize) {
    let before = LOOKED_AT.get();
    let answered = ask();
    (answered, LOOKED_AT.get() - before)
}

fn put(world: &mut World, repository: RepositoryName, tags: Vec<Tag>) {
    let manifest = NewManifest { repository, tags, ..new_manifest(1) };
    world.propose(PutManifest::new(verified(1), manifest)).unwrap();
}

#[test]
fn a_page_of_tags_looks_at_no_row_beyond_it_wherever_it_begins() {
    let mut world = World::new();
    let tag = |number: u32| format!("v{number:07}").parse::<Tag>().unwrap();
    for first in (0..ENTRIES).step_by(PAGE) {
        put(&mut world, repository(1), (first..first + 100).map(tag).collect());
    }
    let query = world.query();
    for last in [None, Some("v0001000"), Some("v0001899"), Some("v")] {
        assert_eq!(looked_at(|| query.tags(&repository(1), last, PAGE).unwrap().len()), (PAGE, PAGE));
    }
    assert_eq!(looked_at(|| query.tags(&repository(1), Some("v0001999"), PAGE).unwrap().len()), (0, 0));
}

#[test]
fn the_sessions_that_were_changed_last_are_found_without_looking_at_the_others() {
    let mut world = World::new();
    for number in 1..=200 {
        world.propose(open_upload(number)).unwrap();
    }
    let query = world.query();
    let mut newest = Vec::new();
    let looked = looked_at(|| {
        newest = query.uploads_touched_last(PAGE).unwrap();
        newest.len()
    });
    assert_eq!(looked, (PAGE, PAGE));
    assert_eq!((newest[0], newest[99]), (upload(200), upload(101)));
    let outline = query.upload_outline(&newest[0]).unwrap().unwrap();
    assert_eq!((outline.whole, outline.digest), (0, None));
}

#[test]
fn a_page_of_repositories_looks_at_no_row_beyond_it_wherever_it_begins() {
    let mut world = World::new();
    for number in 0..ENTRIES {
        put(&mut world, format!("many/r{number:07}").parse().unwrap(), Vec::new());
    }
    let query = world.query();
    for last in [None, Some("many/r0001000"), Some("many/r0001899"), Some("a")] {
        assert_eq!(looked_at(|| query.repositories(last, PAGE).unwrap().len()), (PAGE, PAGE));
    }
    assert_eq!(looked_at(|| query.repositories(Some("many/r0001999"), PAGE).unwrap().len()), (0, 0));
}
