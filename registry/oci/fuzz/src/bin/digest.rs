#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead_oci::Digest;
use roadstead_oci_fuzz::check_round_trip;

fuzz_target!(|text: &str| check_round_trip::<Digest>(text));
