//! Cases about listings.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use roadstead_oci::{Digest, ObjectKey};

use super::content::content;
use super::{Subject, Violation, ensure};
use crate::error::BlobError;
use crate::store::{MAX_LIST, ObjectInfo};

/// Writes at once: enough to hide the wait for the disk.
const WRITES: usize = 32;

pub(super) async fn pages(subject: &Subject) -> Result<(), Violation> {
    // Of a digest that nobody else uses, so that all its manifests are ours. More than a page.
    let digest = fresh_digest(subject)?;
    let mut keys: Vec<_> =
        (0..MAX_LIST + MAX_LIST / 10).map(|_| ObjectKey::manifest(digest, (subject.ids)())).collect();
    let write = |key: ObjectKey| async move { subject.store.put(&key, Bytes::from_static(b"manifest")).await };
    stream::iter(keys.clone()).map(write).buffer_unordered(WRITES).try_collect::<()>().await?;
    keys.sort();

    let prefix = format!("manifests/{}/{}/", digest.algorithm(), digest.encoded());
    let listed = all(subject, &prefix).await?;
    ensure!(listed.iter().all(|info| info.size == 8), "a listing says another size than was written");
    let listed: Vec<_> = listed.into_iter().map(|info| info.key).collect();
    ensure!(listed == keys, "{} of {} objects are listed, or in another order", listed.len(), keys.len());

    // Pages go on behind what is deleted meanwhile.
    let page = subject.store.list(&prefix, None).await?;
    subject.store.delete(&keys[..MAX_LIST]).await?;
    let rest = subject.store.list(&prefix, page.next.as_deref()).await?;
    let rest: Vec<_> = page.items.into_iter().chain(rest.items).map(|info| info.key).collect();
    ensure!(rest == keys, "a second page repeats or misses what the first did not have");
    subject.store.delete(&keys[MAX_LIST..]).await?;
    ensure!(all(subject, &prefix).await?.is_empty(), "deleted objects are listed");
    Ok(())
}

pub(super) async fn prefixes(subject: &Subject) -> Result<(), Violation> {
    let blob = subject.blob();
    let tail = ObjectKey::tail((subject.ids)());
    let digest = fresh_digest(subject)?;
    let manifest = ObjectKey::manifest(digest, (subject.ids)());
    for key in [&blob, &tail, &manifest] {
        subject.store.put(key, content(1, 100)).await?;
    }
    for key in [&blob, &tail, &manifest] {
        let text = key.as_str();
        let folder = text.split_inclusive('/').next().unwrap_or_default();
        for prefix in ["", folder, &text[..=folder.len()], &text[..text.len() - 30], text] {
            let listed = all(subject, prefix).await?;
            ensure!(listed.iter().any(|info| info.key == *key), "{key} is not listed under {prefix:?}");
            let foreign = listed.iter().find(|info| !info.key.as_str().starts_with(prefix));
            ensure!(foreign.is_none(), "{foreign:?} is listed under {prefix:?}");
            ensure!(listed.is_sorted_by(|a, b| a.key < b.key), "the listing of {prefix:?} is not in order");
        }
        let listed = all(subject, &format!("{text}0")).await?;
        ensure!(listed.is_empty(), "an object is listed under a prefix that is longer than its key");
    }
    Ok(())
}

/// Every page.
async fn all(subject: &Subject, prefix: &str) -> Result<Vec<ObjectInfo>, Violation> {
    let mut items = Vec::new();
    let mut next = None;
    loop {
        let page = subject.store.list(prefix, next.as_deref()).await?;
        ensure!(page.items.len() <= MAX_LIST, "a page of {} objects", page.items.len());
        items.extend(page.items);
        match page.next {
            Some(token) => next = Some(token),
            None => return Ok(items),
        }
    }
}

fn fresh_digest(subject: &Subject) -> Result<Digest, Violation> {
    let digest = format!("sha256:{}{}", (subject.ids)().simple(), (subject.ids)().simple());
    digest.parse().map_err(|_| BlobError::Broken(digest).into())
}
