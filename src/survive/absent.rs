//! Where there are no ring files.

use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Head;
use crate::buffers::{Sizes, Words};
use crate::error::{Error, Operation};
use crate::options::Options;

/// There is none.
#[derive(Debug)]
pub(crate) enum RingFile {}

impl RingFile {
    pub(crate) fn ring(&self) -> NonNull<u8> {
        match *self {}
    }

    pub(crate) fn footprint(&self) -> usize {
        match *self {}
    }

    pub(crate) fn words(&self) -> Words {
        match *self {}
    }

    pub(crate) fn begin(&self, _start: u64) {
        match *self {}
    }

    pub(crate) fn share(&self) {
        match *self {}
    }

    pub(crate) fn post_written(&self, _written: u64) {
        match *self {}
    }

    pub(crate) fn put_patch(&self, _number: u64, _from: u64, _bytes: &[u8]) {
        match *self {}
    }

    pub(crate) fn patch_applied(&self, _number: u64) {
        match *self {}
    }

    pub(crate) fn ready(&self, _head: Head) {
        match *self {}
    }

    pub(crate) fn remove(&self) {
        match *self {}
    }

    pub(crate) fn leave(&self) {
        match *self {}
    }
}

/// Refused with the options.
pub(crate) fn make(_options: &Options, path: &Arc<Path>, _sizes: Sizes) -> Result<RingFile, Error> {
    let unknown = std::io::ErrorKind::Unsupported.into();
    Err(Error::io(Operation::Start, path, unknown))
}
