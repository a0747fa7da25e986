//! What a writer stands on: the operating system, or a simulated one.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{self, Files, Io};
use crate::file::{Folder, Handle, OpenMode, open_system_file, system_folder};
use crate::options::Options;

/// Opens files, and carries their data.
pub(crate) trait Host: Debug + Send + Sync {
    /// Whether the path names something that can't be recorded to: a directory, FIFO or device.
    fn is_special(&self, path: &Path) -> bool;

    /// Opens without emptying; says whether the file is new.
    fn open(
        &self,
        options: &Options,
        path: &Path,
        mode: OpenMode,
    ) -> io::Result<(Arc<dyn Handle>, bool)>;

    /// Holds a directory.
    fn folder(&self, path: &Path) -> io::Result<Box<dyn Folder>>;

    /// Nobody needs this thread for so long.
    fn pause(&self, length: Duration);

    /// A backend with room for `depth` operations, and the reason if it is a fallback.
    fn backend(
        &self,
        options: &Options,
        depth: usize,
        files: Files,
    ) -> io::Result<(Box<dyn Io>, Option<String>)>;
}

/// The operating system.
#[derive(Debug)]
pub(crate) struct System;

impl Host for System {
    fn is_special(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
    }

    fn open(
        &self,
        options: &Options,
        path: &Path,
        mode: OpenMode,
    ) -> io::Result<(Arc<dyn Handle>, bool)> {
        open_system_file(options, path, mode)
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        system_folder(path)
    }

    fn pause(&self, length: Duration) {
        std::thread::sleep(length);
    }

    fn backend(
        &self,
        options: &Options,
        depth: usize,
        files: Files,
    ) -> io::Result<(Box<dyn Io>, Option<String>)> {
        backend::choose(options, depth, files)
    }
}
