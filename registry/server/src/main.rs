//! The `roadstead` binary. Everything is in the library beside it.

#![forbid(unsafe_code)]

/// A request makes and drops hundreds of small things on whatever thread it is moved to, which the C library's allocator
/// spends a seventh of a replica's time on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    roadstead_server::run()
}
