//! The load generator: what clients send, and how fast they were answered.

mod closed_loop;
mod connection;
mod download;
mod image;
mod open_loop;
mod push;
mod steady;
mod tally;
pub(crate) mod wire;

pub(crate) use closed_loop::{closed_loop, spread_loop};
pub(crate) use connection::{Connection, Reading, Request};
pub(crate) use download::download;
pub(crate) use image::Image;
pub(crate) use open_loop::{Due, Operation, evenly, open_loop};
pub(crate) use push::{Client, push_blob, push_in_chunks, push_streamed, put_manifest};
pub(crate) use steady::{Steady, go_on};
pub(crate) use tally::Tally;
