//! How a writer of a recording comes to its file.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use writeflush::{Options, Writer};

use crate::scenario::{Mode, Opener, Plan, Scenario};

impl Scenario {
    pub(crate) fn open(
        &self,
        plan: &Plan,
        path: &Path,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Writer> {
        let options = self.options(random);
        Ok(match (plan.opener, plan.mode) {
            (Opener::Recorder, mode) => hand_over(&options, mode, path)?,
            (Opener::Writer, Mode::CreateNew) => options.create_new(path)?,
            (Opener::Writer, Mode::Create | Mode::CreateOver) => options.create(path)?,
            (Opener::Writer, Mode::Append) => options.append(path)?,
            (Opener::Writer, Mode::Open) => options.open(path)?,
        })
    }
}

/// A new name is made durable by who gives it: the writer looks at none. What is in an old file goes,
/// durably, before the writer is there, where it is told to go on at 0.
fn hand_over(options: &Options, mode: Mode, path: &Path) -> anyhow::Result<Writer> {
    let is_new = matches!(mode, Mode::CreateNew | Mode::Create);
    let file = File::options().read(true).write(true).create_new(is_new).open(path)?;
    if is_new {
        File::open(path.parent().context("no directory above")?)?.sync_all()?;
    }
    Ok(match mode {
        Mode::CreateOver => options.append_file_at(&file, 0)?,
        _ => options.append_file(&file)?,
    })
}
