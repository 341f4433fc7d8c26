#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead_oci::MediaType;
use roadstead_oci_fuzz::check_round_trip;

fuzz_target!(|text: &str| {
    check_round_trip::<MediaType>(text);
    if let Ok(media_type) = MediaType::from_content_type(text) {
        assert!(media_type.as_str().len() <= MediaType::MAX_LEN);
        check_round_trip::<MediaType>(media_type.as_str());
    }
});
