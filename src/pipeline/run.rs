//! When, with what and on what machine a report was made.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::digest::SOURCE_SHA256;

/// What stands behind a report's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub tool_version: &'static str,
    /// In UTC, by RFC 3339.
    pub date: String,
    /// The processor, its threads and what of its instructions speeds int8 up.
    pub machine: String,
    /// The checkpoint's file name.
    pub checkpoint: String,
    /// None where sums were not asked for.
    pub checkpoint_sha256: Option<String>,
}

impl Run {
    /// Of a checkpoint, and what all files of its export say of themselves.
    pub fn new(checkpoint: String, metadata: &BTreeMap<String, String>) -> Run {
        Run {
            tool_version: env!("CARGO_PKG_VERSION"),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            machine: machine(),
            checkpoint,
            checkpoint_sha256: metadata.get(SOURCE_SHA256).cloned(),
        }
    }
}

/// Such as `Intel Xeon, x86_64 with AVX-512 VNNI, 8 threads, linux`.
fn machine() -> String {
    let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        listed.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = [
        name.filter(|name| !name.is_empty()),
        Some(format!("{}{}", std::env::consts::ARCH, instructions())),
        Some(format!("{threads} threads")),
        Some(std::env::consts::OS.to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> &'static str {
    if std::is_x86_feature_detected!("avx512vnni") {
        " with AVX-512 VNNI"
    } else if std::is_x86_feature_detected!("avxvnni") {
        " with AVX VNNI"
    } else if std::is_x86_feature_detected!("avx512f") {
        " with AVX-512, without VNNI"
    } else if std::is_x86_feature_detected!("avx2") {
        " with AVX2, without VNNI"
    } else {
        ""
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> &'static str {
    ""
}
