//! The page of `web/`, which classifies photographs in a browser with the folder it stands in. It is part of
//! this library where it was built before that was.

use std::io::Read;

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
pub fn files() -> Result<Vec<(&'static str, Vec<u8>)>, &'static str> {
    let inflated = FILES.iter().map(|&(path, size, deflated)| {
        let mut content = Vec::with_capacity(size);
        let mut reader = flate2::read::DeflateDecoder::new(deflated);
        reader.read_to_end(&mut content).map_err(|_| "the page of web/ inside this clip-onnx is damaged")?;
        Ok((path, content))
    });
    let files = inflated.collect::<Result<Vec<_>, &'static str>>()?;
    if files.is_empty() { Err("this clip-onnx was built without the page of web/") } else { Ok(files) }
}
