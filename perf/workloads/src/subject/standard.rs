//! What a program would use without this crate: a `BufWriter<File>`, under a lock where several
//! commit.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, PoisonError};

use super::{Class, Family, Kind, Place, Subject};

const FLOOR: &str = "floor page cache+fdatasync";

pub(super) const KINDS: [Kind; 2] = [
    Kind {
        name: "BufWriter+sync_data",
        family: Family::Standard,
        class: Class::Durable,
        floor: if cfg!(target_os = "linux") { Some(FLOOR) } else { None },
        spins: false,
        open: |place| standard(place, true),
    },
    Kind {
        name: "BufWriter, no sync",
        family: Family::Standard,
        class: Class::PageCache,
        floor: None,
        spins: false,
        open: |place| standard(place, false),
    },
];

struct Standard {
    writer: Mutex<BufWriter<File>>,
    sync: bool,
}

fn standard(place: &Place<'_>, sync: bool) -> io::Result<Box<dyn Subject>> {
    let file = OpenOptions::new().write(true).open(place.path)?;
    Ok(Box::new(Standard { writer: Mutex::new(BufWriter::new(file)), sync }))
}

impl Subject for Standard {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(record)?;
        writer.flush()?;
        if self.sync { writer.get_ref().sync_data() } else { Ok(()) }
    }
}
