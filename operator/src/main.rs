//! The `roadstead-operator` binary. Everything is in the library beside it.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    roadstead_operator::run()
}
