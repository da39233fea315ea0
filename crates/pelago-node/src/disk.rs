//! Free space where a node keeps its data.

use std::{io, path::Path, time::Duration};

/// A segment of the control log is made as a whole. With less space than this none can be.
const SEGMENT_BYTES: u64 = 64 << 20;
/// How often space is looked for that is not there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many bytes a node may still write.
pub(crate) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether there is so little that the log may have failed for want of it.
pub(crate) fn is_exhausted(directory: &Path) -> bool {
    free_bytes(directory).is_ok_and(|free| free < SEGMENT_BYTES)
}

/// How many free bytes a node waits for after its disk was full, if it takes new work with `bytes_min` of them or more.
#[must_use]
pub fn bytes_wanted(bytes_min: u64) -> u64 {
    bytes_min.max(2 * SEGMENT_BYTES)
}

/// Waits until a node can go on there: until [`bytes_wanted`] are free.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn until_free(directory: &Path, bytes_min: u64) {
    while free_bytes(directory).is_ok_and(|free| free < bytes_wanted(bytes_min)) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
