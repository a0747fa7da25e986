//! The file that a measurement is kept in: what was measured, where, when, and by which command.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Bad;
use crate::output::table;

/// What a measuring command has found out.
pub(crate) trait Findings: Serialize + DeserializeOwned {
    /// The subcommand, as `kind` in the file.
    const KIND: &'static str;
    /// The version of its format (`results/README.md` documents it). A reader refuses any other.
    const FORMAT: u32 = 1;
}

/// A result with its circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document<R> {
    pub(crate) format: u32,
    pub(crate) kind: String,
    /// When it was finished: RFC 3339, UTC.
    pub(crate) made: String,
    /// The arguments of the tool.
    pub(crate) command: Vec<String>,
    pub(crate) environment: Environment,
    pub(crate) result: R,
}

/// What every document begins with, whatever it holds.
#[derive(Debug, Deserialize)]
struct Head {
    format: u32,
    kind: String,
}

fn head(text: &str, name: &Path) -> Result<Head, Bad> {
    serde_json::from_str(text).map_err(|error| {
        let name = name.display();
        Bad::new(format!("{name} is no result of this tool ({error}): name what --json has kept"))
    })
}

/// The kind of a document in memory, if it is one of ours.
pub(crate) fn kind(text: &str, name: &Path) -> Result<String, Bad> {
    head(text, name).map(|head| head.kind)
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String, Bad> {
    std::fs::read_to_string(path).map_err(|error| {
        Bad::new(format!("{} can't be read: {error}; name a result file", path.display()))
    })
}

impl<R: Findings> Document<R> {
    /// Of a measurement that has just ended.
    pub(crate) fn new(mut environment: Environment, result: R) -> Self {
        environment.end();
        Self {
            format: R::FORMAT,
            kind: R::KIND.into(),
            made: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: std::env::args().skip(1).collect(),
            environment,
            result,
        }
    }

    /// When and where it was made, for people.
    pub(crate) fn circumstances(&self) -> String {
        let mut table = table();
        table.add_row(["made", self.made.as_str()]);
        for (name, value) in self.environment.lines() {
            table.add_row([name, value.as_str()]);
        }
        format!("{table}\n")
    }

    pub(crate) fn parse(text: &str, name: &Path) -> Result<Self, Bad> {
        let Head { format, kind } = head(text, name)?;
        if kind != R::KIND {
            return Err(Bad::new(format!(
                "{} holds a result of `{kind}`, and one of `{}` is needed",
                name.display(),
                R::KIND
            )));
        }
        if format != R::FORMAT {
            return Err(Bad::new(format!(
                "{} has format {format}, and this tool reads format {} of `{kind}`: use the tool \
                 that made it, or measure again",
                name.display(),
                R::FORMAT
            )));
        }
        serde_json::from_str(text)
            .map_err(|error| Bad::new(format!("{} is damaged: {error}", name.display())))
    }

    pub(crate) fn load(path: &Path) -> Result<Self, Bad> {
        Self::parse(&read(path)?, path)
    }

    /// Writes the whole file or nothing.
    pub(crate) fn save(&self, path: &Path, force: bool) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("a result can't be written")?;
        text.push('\n');
        save(path, &text, force)
    }
}

/// Writes the whole file or none of that name. Only by `force` it takes the place of another, also
/// of one that was not there when the measurement began.
pub(crate) fn save(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let folder = folder_of(path);
    let sentence = || format!("{} can't be written", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(sentence)?;
    file.write_all(text.as_bytes()).with_context(sentence)?;
    file.as_file().sync_all().with_context(sentence)?;
    readable_by_all(file.as_file()).with_context(sentence)?;
    let placed = if force { file.persist(path) } else { file.persist_noclobber(path) };
    let Err(refused) = placed else { return Ok(()) };
    let (_, kept) = refused.file.keep().with_context(sentence)?; // it may have taken an hour
    let why = format!("{}: the result is in {}", sentence(), kept.display());
    Err(refused.error).context(why)
}

/// A temporary file is its owner's alone; a result is not.
fn readable_by_all(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

/// Before anything is measured: whether each result will have a place of its own.
pub(crate) fn check_free<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    force: bool,
) -> Result<(), Bad> {
    let mut others = Vec::new();
    for path in paths {
        if others.contains(&path) {
            let shown = path.display();
            return Err(Bad::new(format!("{shown} can't hold two results: name another file")));
        }
        check_one_free(path, force)?;
        others.push(path);
    }
    Ok(())
}

fn check_one_free(path: &Path, force: bool) -> Result<(), Bad> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Bad::new(format!("{shown} is a directory: name a file in it")));
    }
    // Also a link to nothing, whose name would be taken.
    let there = match std::fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::InvalidFilename => {
            return Err(Bad::new(format!("{shown} can't be written ({error}): name another file")));
        }
        Err(_) => false,
    };
    // A FIFO, or a device, would be gone.
    if there && !path.is_file() && !path.is_symlink() {
        return Err(Bad::new(format!("{shown} is not a regular file: name another one")));
    }
    if there && !force {
        return Err(Bad::new(format!(
            "{shown} exists: name another file, or give --force to overwrite it"
        )));
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(Bad::new(format!(
            "{shown} can't be written: there is no directory {}; make it first",
            folder.display()
        )));
    }
    // As it will be written: beside its place, under another name.
    match tempfile::NamedTempFile::new_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(Bad::new(format!(
            "{shown} can't be written ({error}): name a file in another directory"
        ))),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Three(u8);
    impl Findings for Three {
        const KIND: &'static str = "three";
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Four(u8);
    impl Findings for Four {
        const KIND: &'static str = "four";
        const FORMAT: u32 = 2;
    }

    #[test]
    fn a_document_reads_back_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        check_free([&*path], false).unwrap();
        Document::new(Environment::default(), Three(3)).save(&path, false).unwrap();
        assert_eq!(Document::<Three>::load(&path).unwrap().result, Three(3));
        let refused = check_free([&*path], false).unwrap_err().to_string();
        assert!(refused.contains("--force"), "{refused}");
        check_free([&*path], true).unwrap();
        let unwritable = Path::new("/proc/result.json");
        if cfg!(target_os = "linux") {
            let refused = check_free([unwritable], true).unwrap_err().to_string();
            assert!(refused.contains("another directory"), "{refused}");
        }
        let refused = check_free([folder.path()], true).unwrap_err().to_string();
        assert!(refused.contains("is a directory"), "{refused}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the result");
        let nowhere = folder.path().join("no/result.json");
        assert!(check_free([&*nowhere], true).unwrap_err().to_string().contains("make it"));
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        check_free([&*path], false).unwrap();
        std::fs::write(&path, "somebody else's").unwrap();
        let document = Document::new(Environment::default(), Three(3));
        let refused = format!("{:#}", document.save(&path, false).unwrap_err());
        assert!(refused.contains("result.json can't be written"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody else's");
        let others = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let kept = others.into_iter().find(|other| *other != path).expect("the result is not lost");
        assert!(refused.contains(&kept.display().to_string()), "{refused}");
        assert_eq!(Document::<Three>::load(&kept).unwrap().result, Three(3));
        document.save(&path, true).unwrap();
        assert_eq!(Document::<Three>::load(&path).unwrap().result, Three(3));
    }

    #[test]
    fn what_is_no_document_is_said_in_a_sentence() {
        let name = Path::new("x.json");
        let parse = |text: &str| Document::<Three>::parse(text, name).unwrap_err().to_string();
        assert!(parse("hello").contains("no result of this tool"));
        assert!(parse(r#"{"format":99,"kind":"three"}"#).contains("format 99"));
        assert!(parse(r#"{"format":1,"kind":"three"}"#).contains("damaged"));
        let of_four = |text| Document::<Four>::parse(text, name).unwrap_err().to_string();
        assert!(of_four(r#"{"format":1,"kind":"four"}"#).contains("reads format 2 of `four`"));
        let four = Document::new(Environment::default(), Four(4));
        assert!(parse(&serde_json::to_string(&four).unwrap()).contains("`four`"));
    }
}
