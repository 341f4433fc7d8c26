#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead_oci::{Route, RouteError};

// The input is a request line, `GET /v2/?query`.
fuzz_target!(|text: &str| {
    let Some((method, url)) = text.split_once(' ') else { return };
    match parse(method, url) {
        Ok(route) => match parse(route.method().as_str(), &route.to_string()) {
            // Written anew, what came unencoded is percent-encoded: three bytes for one.
            Err(RouteError::TooLong) => assert!(url.len() > Route::MAX_PATH / 3),
            again => assert_eq!(again, Ok(route)),
        },
        Err(error) => {
            assert!((400..=499).contains(&error.status()));
            assert_eq!(error.allow().is_some(), error.status() == 405);
        }
    }
});

fn parse(method: &str, url: &str) -> Result<Route, RouteError> {
    match url.split_once('?') {
        Some((path, query)) => Route::parse(method, path, Some(query)),
        None => Route::parse(method, url, None),
    }
}
