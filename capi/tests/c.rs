//! The headers are current, and C programs built with it do what it says: against the static and the
//! shared library.

#[path = "../../tests/common/skip.rs"]
mod skip;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rust::mmio;
use skip::skip;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_headers_are_current() {
    let of_the_crate = cbindgen::Builder::new().with_crate(here(""));
    is_current("writeflush.h", "cbindgen.toml", of_the_crate);
    let of_the_folder = cbindgen::Builder::new().with_src(here("src/mmio/mod.rs"));
    is_current("writeflush_mmio.h", "cbindgen-mmio.toml", of_the_folder);
}

fn is_current(header: &str, config: &str, builder: cbindgen::Builder) {
    let config = cbindgen::Config::from_file(here(config)).unwrap();
    let mut generated = Vec::new();
    builder.with_config(config).generate().unwrap().write(&mut generated);
    // What an `unsafe` function asks of its caller: C has no heading for it.
    let generated = String::from_utf8(generated).unwrap().replace(" # Safety\n", "");
    let generated = generated
        .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
        .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
        .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"));
    let path = here("include").join(header);
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "run this test with UPDATE_HEADER=1 and commit {header}");
}

/// The folder of the libraries. Cargo does not build them for a test by itself.
fn libraries() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap(); // target/debug/deps/c-…
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "writeflush-capi"]);
        cargo.arg("--target-dir").arg(target);
        assert!(cargo.status().unwrap().success(), "the libraries build");
        target.join("debug")
    });
    &FOLDER
}

#[derive(Clone, Copy)]
enum Link {
    Static,
    Shared,
}

/// What every C source here is compiled with.
const STRICT: [&str; 6] = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"];

/// Compiles a C program strictly; what it needs beside the library comes last.
fn compile(source: &str, link: Link, into: &Path, more: &[&str]) -> PathBuf {
    let program = into.join(Path::new(source).file_stem().unwrap());
    let folder = libraries();
    let mut cc = Command::new("cc");
    cc.args(STRICT).args(["-g", "-pthread"]);
    cc.arg("-I").arg(here("include")).arg(here(source)).arg("-o").arg(&program);
    match link {
        Link::Static => cc.arg(folder.join("libwriteflush.a")).args(["-lm", "-ldl"]),
        Link::Shared => {
            let rpath = format!("-Wl,-rpath,{}", folder.display());
            cc.arg(folder.join("libwriteflush.so")).arg(rpath)
        }
    };
    succeeds(cc.args(more));
    program
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a tool is there; if not, says so loudly, and fails where CI would have to have it.
fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        skip(tool, "it is not installed");
    }
    there
}

/// As the page of recipes has it.
#[test]
fn the_recipe_compiles() {
    if !has("cc") {
        return;
    }
    let page = std::fs::read_to_string(here("../RECIPES.md")).unwrap();
    let recipe = page.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    let source = format!(
        "#include \"writeflush.h\"\nvoid die(const char *);\nvoid record(void);\n\
         void record(void) {{\nconst char block[64] = {{0}};\n{recipe}}}\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recipe.c");
    std::fs::write(&file, source).unwrap();
    let mut cc = Command::new("cc");
    succeeds(cc.args(STRICT).arg("-fsyntax-only").arg("-I").arg(here("include")).arg(file));
}

// ---- the header, for other compilers --------------------------------------------------------------

/// What the header says by hand, with what it has to be: every `#define` of MMIO, the layout of
/// `MMIOINFO`, and the type of the procedure.
fn mmio_assertions() -> String {
    let mut c = String::from("#include \"writeflush_mmio.h\"\n");
    macro_rules! numbers {
        ($($ours:literal = $value:ident),* $(,)?) => {[$(($ours, i64::from(mmio::$value))),*]};
    }
    let numbers = numbers! {
        "WF_MMIOM_READ" = MMIOM_READ, "WF_MMIOM_WRITE" = MMIOM_WRITE, "WF_MMIOM_SEEK" = MMIOM_SEEK,
        "WF_MMIOM_OPEN" = MMIOM_OPEN, "WF_MMIOM_CLOSE" = MMIOM_CLOSE,
        "WF_MMIOM_WRITEFLUSH" = MMIOM_WRITEFLUSH, "WF_MMIOM_RENAME" = MMIOM_RENAME,
        "WF_MMIOM_FENCE" = WFM_FENCE, "WF_MMIOM_DURABLE" = WFM_DURABLE,
        "WF_MMIOM_LAST_ERROR" = WFM_LAST_ERROR, "WF_MMIO_SEEK_SET" = SEEK_SET,
        "WF_MMIO_SEEK_CUR" = SEEK_CUR, "WF_MMIO_SEEK_END" = SEEK_END, "WF_MMIO_READ" = MMIO_READ,
        "WF_MMIO_WRITE" = MMIO_WRITE, "WF_MMIO_READWRITE" = MMIO_READWRITE,
        "WF_MMIO_EXCLUSIVE" = MMIO_EXCLUSIVE, "WF_MMIO_DENYWRITE" = MMIO_DENYWRITE,
        "WF_MMIO_DENYREAD" = MMIO_DENYREAD, "WF_MMIO_DENYNONE" = MMIO_DENYNONE,
        "WF_MMIO_PARSE" = MMIO_PARSE, "WF_MMIO_DELETE" = MMIO_DELETE,
        "WF_MMIO_CREATE" = MMIO_CREATE, "WF_MMIO_EXIST" = MMIO_EXIST,
        "WF_MMIOERR_FILENOTFOUND" = MMIOERR_FILENOTFOUND,
        "WF_MMIOERR_OUTOFMEMORY" = MMIOERR_OUTOFMEMORY,
        "WF_MMIOERR_CANNOTOPEN" = MMIOERR_CANNOTOPEN,
        "WF_MMIOERR_CANNOTCLOSE" = MMIOERR_CANNOTCLOSE,
        "WF_MMIOERR_CANNOTREAD" = MMIOERR_CANNOTREAD,
        "WF_MMIOERR_CANNOTWRITE" = MMIOERR_CANNOTWRITE,
        "WF_MMIOERR_CANNOTSEEK" = MMIOERR_CANNOTSEEK,
        "WF_MMIOERR_CANNOTEXPAND" = MMIOERR_CANNOTEXPAND,
        "WF_MMIOERR_PATHNOTFOUND" = MMIOERR_PATHNOTFOUND,
        "WF_MMIOERR_ACCESSDENIED" = MMIOERR_ACCESSDENIED,
        "WF_MMIOERR_SHARINGVIOLATION" = MMIOERR_SHARINGVIOLATION,
        "WF_MMIOERR_TOOMANYOPENFILES" = MMIOERR_TOOMANYOPENFILES,
    };
    for (name, value) in numbers {
        c += &format!("static_assert({name} == {value}, \"\");\n");
    }
    let header = std::fs::read_to_string(here("include/writeflush_mmio.h")).unwrap();
    for line in header.lines().filter(|line| line.starts_with("#define WF_MMIO")) {
        let name = line.split(' ').nth(1).unwrap();
        assert!(numbers.iter().any(|&(known, _)| known == name), "nobody checks {name}");
    }
    macro_rules! fields {
        ($($field:ident),* $(,)?) => {[$((
            stringify!($field),
            std::mem::offset_of!(mmio::MMIOINFO, $field),
        )),*]};
    }
    let wide = fields! {
        dwFlags, fccIOProc, pIOProc, wErrorRet, htask, cchBuffer, pchBuffer, pchNext, pchEndRead,
        pchEndWrite, lBufOffset, lDiskOffset, adwInfo, dwReserved1, dwReserved2, hmmio,
    };
    c += "#if UINTPTR_MAX > 0xffffffff\n";
    for (field, offset) in wide {
        c += &format!("static_assert(offsetof(wf_mmioinfo, {field}) == {offset}, \"\");\n");
    }
    c += &format!("static_assert(sizeof(wf_mmioinfo) == {}, \"\");\n", size_of::<mmio::MMIOINFO>());
    // Of 32 bits the crate itself checks the layout when it is compiled.
    c += "#else\nstatic_assert(offsetof(wf_mmioinfo, lDiskOffset) == 44, \"\");\n";
    c += "static_assert(sizeof(wf_mmioinfo) == 72, \"\");\n#endif\n";
    c += "intptr_t WF_WINAPI wf_mmio_procedure(void *, uint32_t, intptr_t, intptr_t);\n";
    c += "#ifdef _WIN32\n";
    c += "intptr_t WF_WINAPI wf_mmio_procedure_w(void *, uint32_t, intptr_t, intptr_t);\n#endif\n";
    c + "int main(void) { return (int)(wf_version() == 0); }\n"
}

/// The hand-written part of the header is what the library has, for C and C++, for Windows of 64 and
/// 32 bit; and the contract's program compiles there too.
#[test]
fn the_header_holds_for_every_compiler() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let assertions = mmio_assertions();
    let c = file("mmio.c", &format!("#include <assert.h>\n{assertions}"));
    // By default the first header has all of it; nothing of it where nobody wants it.
    let asked =
        "#if defined(WF_MMIOM_READ) != WANTED || defined(WF_WINAPI) != WANTED\n#error\n#endif";
    let both = ["#define WANTED 1", "#define WANTED 0\n#define WF_NO_MMIO"].map(|wanted| {
        let name = if wanted.ends_with("MMIO") { "without.c" } else { "with.c" };
        let rest = "int main(void) { return (int)(wf_version() == 0); }";
        file(name, &format!("{wanted}\n#include \"writeflush.h\"\n{asked}\n{rest}\n"))
    });
    let cpp = file("mmio.cpp", &assertions);
    let syntax = |compiler: &str, args: &[&str], source: &Path| {
        let mut command = Command::new(compiler);
        command.args(args).arg("-fsyntax-only").arg("-I").arg(here("include")).arg(source);
        succeeds(&mut command);
    };
    for source in [&c, &both[0], &both[1]] {
        syntax("cc", &STRICT, source);
    }
    let strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"];
    if has("g++") {
        for standard in ["-std=c++11", "-std=c++20"] {
            syntax("g++", &[&[standard], &strict[..]].concat(), &cpp);
        }
        // And it links: the names are C's.
        let program = dir.path().join("cpp");
        let mut link = Command::new("g++");
        link.arg("-I").arg(here("include")).arg(&cpp).arg("-o").arg(&program);
        succeeds(link.arg(libraries().join("libwriteflush.a")).args(["-pthread", "-ldl", "-lm"]));
        succeeds(&mut Command::new(&program));
    }
    for compiler in ["x86_64-w64-mingw32-gcc", "i686-w64-mingw32-gcc"] {
        if has(compiler) {
            syntax(compiler, &STRICT, &c);
            syntax(compiler, &STRICT, &here("tests/contract.c"));
        }
    }
}

fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {}: {said}", program.display(), output.status);
    String::from_utf8_lossy(&output.stdout).into()
}

#[test]
fn every_function_keeps_its_contract_also_with_hostile_arguments() {
    for link in [Link::Static, Link::Shared] {
        let dir = tempfile::tempdir().unwrap();
        // Once plain, once with everything around C's own memory watched.
        for watch in [&[][..], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]] {
            let program = compile("tests/contract.c", link, dir.path(), watch);
            run(&program, &[dir.path().to_str().unwrap()]);
        }
    }
}

/// Eight files on one driver, from several threads, closed in any order; a driver that is closed first,
/// and a child.
#[test]
#[cfg(unix)]
fn writers_share_a_driver() {
    for link in [Link::Static, Link::Shared] {
        let dir = tempfile::tempdir().unwrap();
        for watch in [&[][..], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]] {
            let program = compile("tests/drivers.c", link, dir.path(), watch);
            run(&program, &[dir.path().to_str().unwrap()]);
        }
    }
}

/// Raw and framed, told of, resumed after a crash; and what can't be.
#[test]
#[cfg(unix)]
fn recordings_in_segments() {
    for link in [Link::Static, Link::Shared] {
        let dir = tempfile::tempdir().unwrap();
        for watch in [&[][..], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]] {
            let program = compile("tests/segments.c", link, dir.path(), watch);
            let folder = tempfile::tempdir_in(dir.path()).unwrap();
            run(&program, &[folder.path().to_str().unwrap()]);
        }
    }
}

/// Killed in the midst, and run again: each message once, in files that are whole by themselves.
#[test]
#[cfg(unix)]
fn messages_that_go_on_after_a_crash() {
    use rust::frames::segments::{Item, Reader};
    let dir = tempfile::tempdir().unwrap();
    let program = compile("examples/messages.c", Link::Shared, dir.path(), &[]);
    let folder = dir.path().to_str().unwrap();
    let crashed = Command::new(&program).args([folder, "500", "--crash"]).output().unwrap();
    assert!(!crashed.status.success());
    let said = run(&program, &[folder, "500"]);
    assert!(said.starts_with("goes on with message 500\n"), "{said}");
    let mut due = 0;
    for item in Reader::open(dir.path().join("messages-{seq:06}.frames")).unwrap() {
        match item.unwrap() {
            Item::Segment(_) => {}
            Item::Frame(frame) => {
                assert_eq!(frame.sequence, due);
                assert_eq!(frame.payload, format!("message {due}").as_bytes());
                due += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(due, 1000);
}

/// A writer that nobody closes is closed by the end of the program; also where the library was given
/// back before.
#[test]
#[cfg(unix)]
fn what_was_pushed_is_there_after_an_exit_without_a_close() {
    for link in [Link::Static, Link::Shared] {
        let dir = tempfile::tempdir().unwrap();
        let program = compile("tests/leaks.c", link, dir.path(), &["-ldl"]);
        let library = libraries().join("libwriteflush.so");
        let by_hand = match link {
            Link::Static if library.exists() => vec![library.to_str().unwrap()],
            _ => vec![],
        };
        for library in [None].into_iter().chain(by_hand.into_iter().map(Some)) {
            let folder = tempfile::tempdir_in(dir.path()).unwrap();
            let mut args = vec![folder.path().to_str().unwrap()];
            args.extend(library);
            run(&program, &args);
            for drive in ["0", "1", "2", "3"] {
                let found = std::fs::read(folder.path().join(drive)).unwrap();
                assert!(found == b"a line\n".repeat(1000), "{library:?}, drive {drive}");
            }
        }
    }
}

#[test]
fn a_recorder_with_a_capture_thread() {
    const BLOCKS: u64 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let take = dir.path().join("take.raw");
    let program = compile("examples/recorder.c", Link::Shared, dir.path(), &[]);
    let said = run(&program, &[take.to_str().unwrap(), &BLOCKS.to_string()]);
    let content = std::fs::read(&take).unwrap();
    let whole = format!("{} bytes durable, ", 16 + BLOCKS * 1024);
    let rest = said.strip_prefix(&whole).unwrap_or_else(|| panic!("{said}"));
    let lost: u64 = rest.split(' ').next().unwrap().parse().unwrap();
    let (header, blocks) = content.split_at(16);
    assert_eq!(header[..8], 0x3148_5355_4645_5257u64.to_ne_bytes());
    assert_eq!(header[8..], (content.len() as u64).to_ne_bytes(), "it describes all of it");
    let mut zeros = 0;
    for (block, number) in blocks.chunks(1024).zip(0u64..) {
        let is = |number: u64| block.chunks(8).all(|word| word == number.to_ne_bytes());
        zeros += u64::from(!is(number) && is(0));
        assert!(is(number) || is(0), "block {number}: in its place, or zeros");
    }
    assert_eq!(zeros * 1024, lost, "as many as were reported: {said}");
}

/// A tool's output; `None`, said loudly, where it is not installed. CI fails then.
fn tool(name: &str, args: &[&str]) -> Option<String> {
    match Command::new(name).args(args).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name} {args:?}: {said}");
            Some(String::from_utf8_lossy(&output.stdout).into())
        }
        Err(error) => {
            skip(name, &format!("it is not installed ({error})"));
            None
        }
    }
}

/// `None`: said, and skipped.
fn muxer(into: &Path) -> Option<PathBuf> {
    let libraries = ["libavformat", "libavcodec", "libavutil"];
    let there = Command::new("pkg-config").arg("--exists").args(libraries).status();
    if !there.is_ok_and(|status| status.success()) {
        skip("libavformat", "pkg-config does not find it");
        return None;
    }
    let flags = [&["--cflags", "--libs"], &libraries[..]].concat();
    let flags = tool("pkg-config", &flags)?;
    let flags: Vec<_> = flags.split_whitespace().collect();
    Some(compile("examples/muxer.c", Link::Static, into, &flags))
}

/// What a power cut leaves of a recording that was killed can be played.
#[test]
fn the_durable_part_of_a_killed_recording_is_readable_up_to_its_last_fence() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = muxer(dir.path()) else { return };
    for kind in ["mp4", "mkv"] {
        let take = dir.path().join(format!("take.{kind}"));
        let mut killed = Command::new(&program);
        let output = killed.args(["--kill", "5"]).arg(&take).arg("8").output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        let durable = said.split(' ').next().unwrap().parse().unwrap();
        let cut = std::fs::File::options().write(true).open(&take).unwrap();
        assert!(cut.metadata().unwrap().len() >= durable);
        cut.set_len(durable).unwrap();
        let look = ["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames"];
        let look = [&look[..], &["-of", "csv=p=0", take.to_str().unwrap()]].concat();
        let Some(frames) = tool("ffprobe", &look) else { return };
        assert_eq!(frames.trim(), "125", "{kind}: five seconds of 25 pictures");
    }
}

#[test]
fn a_muxer_through_custom_io_makes_what_a_plain_file_makes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = muxer(dir.path()) else { return };
    for kind in ["mp4", "mkv"] {
        let (ours, plain) = (format!("ours.{kind}"), format!("plain.{kind}"));
        let (ours, plain) = (dir.path().join(ours), dir.path().join(plain));
        let (ours, plain) = (ours.to_str().unwrap(), plain.to_str().unwrap());
        run(&program, &[ours, "8"]);
        run(&program, &["--plain", plain, "8"]);
        let entries = "stream=nb_read_frames,width,height:format=duration";
        let look = ["-v", "error", "-count_frames", "-show_entries", entries, "-of", "csv"];
        let probe = |path| tool("ffprobe", &[&look[..], &[path]].concat());
        let Some(probed) = probe(ours) else { return };
        assert!(probed.contains("stream,320,240,200"), "{probed}");
        assert_eq!(Some(probed), probe(plain));
        let frames = |path| tool("ffmpeg", &["-v", "error", "-i", path, "-f", "framemd5", "-"]);
        let decoded = frames(ours).unwrap();
        assert_eq!(decoded.lines().filter(|line| !line.starts_with('#')).count(), 200);
        assert_eq!(decoded, frames(plain).unwrap());
    }
}
