//! Nothing to import: everything is in the test target `simulation`.
