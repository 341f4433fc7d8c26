#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead_oci::ContentRange;

// Leading zeros are legal, so a range has many spellings; one of them is displayed.
fuzz_target!(|text: &str| {
    if let Ok(range) = text.parse::<ContentRange>() {
        assert!(range.len() > 0 && range.start() + range.len() == range.end());
        assert_eq!(range.to_string().parse(), Ok(range));
    }
});
