//! The page of `web/`, which classifies photographs in a browser with the folder it stands in. It is part of
//! this library where it was built before that was.

use crate::setting::Setting;

include!(concat!(env!("OUT_DIR"), "/demo.rs"));

/// What to do where it was not.
pub fn remedy() -> String {
    let build = "run `npm ci && npm run build` in web/ of the source and build clip-onnx again";
    format!("leave out {}, or {build}", Setting::Demo)
}

/// Paths in an exported folder, and contents.
///
/// # Errors
/// What is missing.
pub fn files() -> Result<&'static [(&'static str, &'static [u8])], &'static str> {
    if FILES.is_empty() { Err("this clip-onnx was built without the page of web/") } else { Ok(FILES) }
}
