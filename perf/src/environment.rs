//! Where a measurement was made: what a reader has to know to compare it with another.

use std::path::Path;

/// Facts about the machine and the place of the files; `None` where they could not be seen.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Environment {
    pub(crate) directory: String,
    pub(crate) kernel: Option<String>,
    pub(crate) cpu: Option<String>,
    pub(crate) cores: usize,
    pub(crate) file_system: Option<String>,
    pub(crate) mount_options: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) device_model: Option<String>,
    pub(crate) write_cache: Option<String>,
    pub(crate) fua: Option<String>,
    pub(crate) scheduler: Option<String>,
    pub(crate) dio_block_bytes: Option<u64>,
    pub(crate) rustc: Option<String>,
    pub(crate) writeflush: String,
}

impl Environment {
    /// Looks around; what can't be seen is left out.
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            directory: directory.display().to_string(),
            kernel: None,
            cpu: None,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            file_system: None,
            mount_options: None,
            device: None,
            device_model: None,
            write_cache: None,
            fua: None,
            scheduler: None,
            dio_block_bytes: None,
            rustc: None,
            writeflush: env!("CARGO_PKG_VERSION").into(),
        }
    }
}
