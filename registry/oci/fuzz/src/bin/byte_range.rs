#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead_oci::RangeRequest;

fuzz_target!(|input: (u64, &str)| {
    let (size, header) = input;
    let range = RangeRequest::parse(header, size);
    if let RangeRequest::Part(part) = &range {
        assert!(part.start < part.end && part.end <= size);
        let asked = format!("bytes={}-{}", part.start, part.end - 1);
        assert_eq!(RangeRequest::parse(&asked, size), range);
    }
    assert_eq!(range.content_range(size).is_none(), range == RangeRequest::Whole);
});
