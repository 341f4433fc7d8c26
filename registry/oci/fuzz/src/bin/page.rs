#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead_oci::Page;

fuzz_target!(|input: (Option<&str>, Option<&str>)| {
    let (n, last) = input;
    if let Ok(page) = Page::parse(n, last) {
        assert!(page.limit() <= Page::MAX_LIMIT);
        assert_eq!(page.last.as_deref(), last);
        let n = page.n.map(|n| n.to_string());
        assert_eq!(Page::parse(n.as_deref(), last), Ok(page));
    }
});
