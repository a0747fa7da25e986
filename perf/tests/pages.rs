//! The manual pages, the completions, the help and the README say what the program does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn writeflush(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_writeflush")).args(arguments).output().unwrap()
}

fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn manual_pages_and_completions_are_current() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    assert!(writeflush(&["pages", place.path().to_str().unwrap()]).status.success());
    for kind in ["man", "completions"] {
        let made = files(&place.path().join(kind));
        let kept = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kind));
        let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&made), names(&kept));
        for (name, text) in &made {
            assert!(*text == kept[name], "{kind}/{name} is old: run 'cargo perf pages perf'");
        }
    }
}

/// `-h` is what fits a screen of 48 lines of 100 columns, in groups; `--help` says all.
#[test]
fn the_short_help_fits_a_screen() {
    for command in commands_there_are() {
        let text = help(&command, "-h");
        let (lines, longest) =
            (text.lines().count(), text.lines().map(|it| it.chars().count()).max());
        assert!(longest <= Some(100), "{command}: a line of {longest:?}");
        assert!(lines <= 48, "{command}: {lines} lines");
        let options =
            |text: &str| text.lines().filter(|it| it.trim_start().starts_with("--")).count();
        let groups =
            text.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).count();
        // Beside the options those of arguments and examples.
        assert!(options(&text) <= 8 || groups >= 4, "{command}: {groups} groups");
        assert!(options(&text) > 0 && options(&text) <= options(&help(&command, "--help")));
    }
}

/// Where a line is longer than the screen a word stands alone on the next.
#[test]
fn no_line_of_the_help_is_broken_again() {
    for command in commands_there_are() {
        for kind in ["-h", "--help"] {
            let text = help(&command, kind);
            let prose: Vec<&str> = text.lines().filter(|line| !line.starts_with("  ")).collect();
            for two in prose.windows(2) {
                let alone = !two[1].is_empty() && two[1].len() < 10 && two[0].len() > 80;
                let ends = two[1].ends_with(['.', ':', ';']);
                assert!(!alone || ends, "{command} {kind}: {two:?}");
            }
        }
    }
}

fn help(command: &str, kind: &str) -> String {
    String::from_utf8(writeflush(&[command, kind]).stdout).unwrap()
}

/// Each has a manual page, of which another test says that it is current.
fn commands_there_are() -> impl Iterator<Item = String> {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let pages = files(&man).into_keys();
    pages.filter_map(|page| Some(page.strip_prefix("writeflush-")?.strip_suffix(".1")?.to_owned()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages that a stranger reads.
fn pages() -> impl Iterator<Item = (&'static str, String)> {
    ["README.md", "RECIPES.md", "CONTRIBUTING.md", "SECURITY.md"]
        .into_iter()
        .map(|name| (name, fs::read_to_string(root().join(name)).unwrap()))
}

#[test]
fn links_and_pictures_are_there() {
    for (page, text) in pages() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let inside: Vec<&str> = links.filter(|link| !link.contains("://")).collect();
        let without = ["SECURITY.md", "RECIPES.md"].contains(&page);
        assert!(without || !inside.is_empty(), "{page}: no link was found");
        for link in inside {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            assert!(file.is_empty() || root().join(file).exists(), "{page}: no {link}");
            let of_file = (!file.is_empty()).then(|| fs::read_to_string(root().join(file)));
            let Ok(text) = of_file.unwrap_or_else(|| Ok(text.clone())) else { continue };
            let titles = text.lines().filter_map(|line| line.strip_prefix('#'));
            let mut anchors = titles.map(|title| anchor(title.trim_start_matches('#')));
            assert!(part.is_empty() || anchors.any(|it| it == part), "{page}: {link}");
        }
    }
}

/// As a forge makes it from a title.
fn anchor(title: &str) -> String {
    let kept = title.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The commands of a page: lines of its blocks, and what stands in backticks.
fn commands(text: &str) -> Vec<String> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default());
    let pieces = spans.chain(lines).filter(|piece| !piece.contains('`'));
    pieces
        .flat_map(|piece| piece.split('|').map(str::trim))
        .filter_map(|piece| {
            let words = piece.strip_prefix("writeflush ").or(piece.strip_prefix("cargo perf "))?;
            Some(words.split(['<', '>']).next().unwrap_or_default().trim().to_owned())
        })
        .filter(|words| !words.contains('…'))
        .collect()
}

/// Options before `--help` are looked at, and nothing is done.
#[test]
fn commands_of_the_pages_are_understood() {
    let mut seen = 0;
    for (page, text) in pages() {
        for command in commands(&text) {
            let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
            let output = writeflush(&words);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{page}: {command}: {said}");
            seen += 1;
        }
    }
    assert!(seen >= 8, "only {seen} commands were found");
}

/// Recipes are compiled as documentation of the library; one whose crates it has not is a piece of the
/// program that is named behind it.
#[test]
fn recipes_are_pieces_of_programs_that_there_are() {
    let recipes = fs::read_to_string(root().join("RECIPES.md")).unwrap();
    let names =
        recipes.split('`').filter(|it| it.starts_with("examples/") || it.starts_with("capi/"));
    let names: Vec<&str> = names.map(|name| name.split(' ').next().unwrap()).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        assert!(root().join(name).exists(), "there is no {name}");
    }
    let program = fs::read_to_string(root().join("examples/cpal-recorder/src/main.rs")).unwrap();
    let lines = |text: &str| text.lines().map(|it| it.trim().to_owned()).collect::<Vec<_>>();
    let program = lines(&program);
    let blocks: Vec<&str> = recipes.split("```rust,ignore").skip(1).collect();
    assert_eq!(blocks.len(), 1);
    for line in lines(blocks[0].split("```").next().unwrap()) {
        assert!(program.contains(&line), "the program has no '{line}'");
    }
}

/// `results/picture` makes it anew.
#[cfg(target_os = "linux")]
#[test]
fn the_picture_is_of_the_page_as_it_is() {
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet", "picture.sha256"]).current_dir(root().join("results"));
    let output = check.output().unwrap();
    assert!(
        output.status.success(),
        "run results/picture: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let picture = fs::metadata(root().join("results/report.png")).unwrap();
    assert!(picture.len() < 200_000, "the picture has {} bytes", picture.len());
}
