//! What the simulation shares with tests of real processes; the simulation itself is the test target `simulation`.

pub mod linearizability;
