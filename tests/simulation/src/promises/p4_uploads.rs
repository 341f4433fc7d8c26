//! P4: what a session says of itself is checked at each answer (`client/uploads.rs`). When nothing fails any more, any
//! blob can be pushed through any replicas.

use crate::client::Client;
use crate::random::Random;
use crate::run::World;

pub(super) async fn check(world: &World) -> Result<(), String> {
    let mut client = Client {
        cluster: world.cluster.clone(),
        universe: world.universe.clone(),
        history: world.history.clone(),
        random: Random::of(world.seed, "peace"),
        number: 98,
        loses: 0,
    };
    for repository in 0..world.universe.repositories.len() {
        for blob in 0..world.universe.blobs.len() {
            if !client.push_blob((repository, blob)).await {
                return Err(format!("P4: blob {blob} cannot be pushed to repository {repository}, in peace"));
            }
        }
    }
    Ok(())
}
