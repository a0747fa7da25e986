//! Every option of every command, given badly: status 2, one sentence that names what is wrong and
//! says what to do, and nothing that lies there is touched.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// When a test that waits gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command, what it is given (at the spaces it falls apart), and the words that its sentence has.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// `new` is not there, `old` is; `linked` is a link to `old`, `dangling` to nothing in no directory,
/// `loop` to itself; `LONG` is a name that is too long, `ODD` one that ends the line and turns it
/// red. Nobody can write into /sys.
const ROWS: &[Row] = &[
    // ---- Where to record to.
    ("record", "", &["<OUTPUT>"]),
    ("record", "-", &["standard output", "./-"]),
    ("record", "old", &["old exists", "--force", "--append", "--resume", "another name"]),
    ("record", "linked", &["linked exists", "--force"]),
    ("record", "missing/new", &["no directory missing", "make it"]),
    ("record", "dangling", &["no directory missing", "make it"]),
    ("record", "loop", &["loop", "name another file"]),
    ("record", "directory", &["directory is not a regular file", "name a file"]),
    ("record", "fifo", &["fifo is not a regular file", "name a file"]),
    ("record", "old/new", &["old/new", "name another file"]),
    ("record", "LONG", &["too long", "name another file"]),
    ("record", "/sys/new", &["/sys/new", "name another file"]),
    ("record", "--force directory", &["not a regular file"]),
    ("record", "--append fifo.wav", &["not a regular file"]),
    ("record", "ODD/new", &["an odd\u{fffd}[31m\u{fffd}name", "make it"]),
    ("record", "new other", &["unexpected argument 'other'"]),
    ("record", "--loud new", &["--loud"]),
    // ---- Where from.
    ("record", "--input missing new", &["the input missing", "name a file"]),
    ("record", "--input directory new", &["directory", "name a file"]),
    ("record", "--input loop new", &["loop", "name a file"]),
    ("record", "--input LONG new", &["too long", "name a file"]),
    ("record", "--input old --force linked", &["linked is the input itself", "name another file"]),
    ("record", "--input broken.wav new.wav", &["the input", "--raw"]),
    ("record", "--reopen new", &["--input <FILE>"]),
    ("record", "--reopen --input - new", &["--input FIFO"]),
    ("record", "--reopen --input old new", &["--reopen", "name a FIFO"]),
    // ---- Numbers, sizes and times.
    ("record", "--survive-kill old new", &["old is no ring file", "name one"]),
    ("record", "--survive-kill other new", &["has to lie in memory", "/dev/shm"]),
    ("record", "--survive-kill /dev/shm/no/ring new", &["/dev/shm/no/ring", "No such file"]),
    ("record", "--survive-kill /dev/shm/x --split 1MiB new", &["--split", "leave one out"]),
    ("record", "--fence-every soon new", &["--fence-every", "100ms"]),
    ("record", "--fence-every 100 new", &["--fence-every", "100ms"]),
    ("record", "--fence-every -1s new", &["--fence-every", "negative"]),
    ("record", "--duration long new", &["--duration", "2s"]),
    ("record", "--duration 0 new", &["--duration", "more than 0"]),
    ("record", "--frame 0 new", &["--frame", "from 1 to 4294967295"]),
    ("record", "--frame many new", &["--frame", "from 1 to 4294967295"]),
    ("record", "--frame -4 new", &["--frame", "negative"]),
    ("record", "--frame 6 --wav new", &["--frame", "leave it out"]),
    ("record", "--frame 3000000 --buffers 2 new", &["--buffers", "--buffer-size"]),
    ("record", "--buffers 1 new", &["--buffers", "from 2 to 1000"]),
    ("record", "--buffers many new", &["--buffers", "from 2 to 1000"]),
    ("record", "--buffers 99999999999999999999 new", &["--buffers", "from 2 to 1000"]),
    ("record", "--buffer-size 1000 new", &["--buffer-size", "multiple of 4096"]),
    ("record", "--buffer-size 0 new", &["--buffer-size", "multiple of 4096"]),
    ("record", "--buffer-size big new", &["--buffer-size", "multiple of 4096"]),
    ("record", "--buffers 1000 --buffer-size 1GiB new", &["--buffers", "memory limit", "fewer"]),
    ("record", "--preallocate lots new", &["--preallocate", "64KiB"]),
    ("record", "--preallocate zero:x new", &["--preallocate", "64KiB"]),
    ("record", "--preallocate -1 new", &["--preallocate", "negative"]),
    ("record", "--preallocate 8000000000GB new", &["--preallocate"]),
    ("record", "--preallocate 9000000000000000000 new", &["smaller --preallocate"]),
    // ---- One of several words.
    ("record", "--backend magic new", &["--backend", "uring"]),
    ("record", "--direct maybe new", &["--direct", "auto"]),
    ("record", "--drive me new", &["--drive", "caller"]),
    ("record", "--on-full lose new", &["--on-full", "fill:BYTE"]),
    ("record", "--on-full fill:300 new", &["--on-full", "0 to 255"]),
    ("record", "--on-full wait:soon new", &["--on-full", "wait:20ms"]),
    ("record", "--on-disk-full pray new", &["--on-disk-full", "wait"]),
    ("record", "--on-disk-full delete new", &["--on-disk-full", "--split", "--min-free"]),
    // ---- WAV.
    ("record", "--rate fast --wav new", &["--rate", "44.1k"]),
    ("record", "--rate 0 --wav new", &["--rate", "44.1k"]),
    ("record", "--rate -48k --wav new", &["--rate", "negative"]),
    ("record", "--rate 48k new", &["--rate needs a WAV file", "--wav"]),
    ("record", "--rate 4000000000 --wav new", &["lower --rate"]),
    ("record", "--channels 0 --wav new", &["--channels", "from 1 to 1024"]),
    ("record", "--channels 1025 --wav new", &["--channels", "from 1 to 1024"]),
    ("record", "--channels two --wav new", &["--channels", "from 1 to 1024"]),
    ("record", "--channels 2 new", &["--channels needs a WAV file", "--wav"]),
    ("record", "--bits 12 --wav new", &["--bits", "8, 16, 24 or 32"]),
    ("record", "--bits 64 --wav new", &["--float", "another --bits"]),
    ("record", "--bits 16 --float --wav new", &["--float 32 or 64", "another --bits"]),
    ("record", "--bits 16 new", &["--bits needs a WAV file", "--wav"]),
    ("record", "--float new", &["--float needs a WAV file", "--wav"]),
    ("record", "--wav --raw new", &["--wav", "--raw", "leave one out"]),
    // ---- A file that is there, or not.
    ("record", "--append --force old", &["--append", "--force", "leave one out"]),
    ("record", "--resume --append old", &["--resume", "--append", "leave one out"]),
    ("record", "--append --append-at 3 old", &["--append-at", "leave one out"]),
    ("record", "--append old.wav", &["old.wav is no WAV file", "--raw"]),
    ("record", "--append --frame 2 old", &["old would go on at 9", "--append-at"]),
    ("record", "--append directory", &["not a regular file"]),
    ("record", "--append-at soon old", &["--append-at", "10m"]),
    ("record", "--append-at -1 old", &["--append-at", "negative"]),
    ("record", "--append-at 10 old", &["old has 9 bytes", "--append-at"]),
    ("record", "--append-at 10 new", &["there is no new", "leave --append-at out"]),
    ("record", "--append-at 2s old", &["--append-at with a time", "--wav"]),
    ("record", "--append-at 3 --frame 2 old", &["--append-at", "frames of 2"]),
    ("record", "--append-at 8 old.wav", &["old.wav is no WAV file", "--raw"]),
    ("record", "--resume directory", &["not a regular file"]),
    ("record", "--resume old.wav", &["old.wav", "--raw", "another file"]),
    // ---- Files of a recording.
    ("record", "--preroll soon new", &["--preroll", "1GiB"]),
    ("record", "--preroll 0 new", &["--preroll", "above 0"]),
    ("record", "--preroll 10s new", &["--preroll", "64MiB"]),
    ("record", "--preroll 1MB --append old", &["--preroll", "--append", "leave one out"]),
    ("record", "--split often new", &["--split", "1GiB"]),
    ("record", "--split 0 new", &["--split", "more than 0"]),
    ("record", "--split -1 new", &["--split", "negative"]),
    ("record", "--split 1h,2h new", &["--split", "4GB,1h"]),
    ("record", "--split 1h,1GB,2GB new", &["--split", "4GB,1h"]),
    ("record", "--split 1GB --append old", &["--split", "--append", "leave one out"]),
    ("record", "--split 1GB --resume old", &["--split", "--resume", "leave one out"]),
    ("record", "--split 1000 --frame 1001 new", &["--split", "frame of 1001", "give more"]),
    ("record", "--split 1h missing/new", &["no directory missing"]),
    ("record", "--split 1h /sys/new", &["/sys", "name another file"]),
    ("record", "--split 1h new{seq", &["new{seq", "}"]),
    ("record", "--keep 3 new", &["--split"]),
    ("record", "--keep all --split 1h new", &["--keep", "100GB"]),
    ("record", "--keep 0 --split 1h new", &["--keep", "100GB"]),
    ("record", "--metrics new new", &["--metrics", "name another file"]),
    ("record", "--min-free 1GB new", &["--split"]),
    ("record", "--min-free much --split 1h new", &["--min-free", "64KiB"]),
    ("record", "--min-free 1EB --split 1h new", &["--min-free", "give less"]),
    // ---- What is said.
    ("record", "--json --json-lines new", &["--json", "--json-lines", "leave one out"]),
    ("record", "--followed=yes new", &["--followed"]),
    ("record", "--quiet=1 new", &["--quiet"]),
    ("follow", "", &["<FILE>"]),
    ("follow", "missing", &["missing", "name a recording"]),
    ("follow", "directory", &["not a regular file", "name a recording"]),
    ("follow", "fifo", &["not a regular file", "name a recording"]),
    ("follow", "dangling", &["dangling", "name a recording"]),
    ("follow", "LONG", &["too long", "name a recording"]),
    ("follow", "old", &["old can't be followed", "--followed"]),
    ("follow", "--written=1 old", &["--written"]),
    ("recover", "", &["<FILE>"]),
    ("recover", "missing", &["missing", "name a recording"]),
    ("recover", "directory", &["not a regular file", "name a recording"]),
    ("recover", "fifo", &["not a regular file", "name a recording"]),
    ("recover", "dangling", &["dangling", "name a recording"]),
    ("recover", "loop", &["loop", "name a recording"]),
    ("recover", "LONG", &["too long", "name a recording"]),
    ("recover", "broken.wav", &["broken.wav is left as it was"]),
    ("recover", "--frame 0 old", &["--frame", "from 1 to"]),
    ("recover", "--frame x old", &["--frame", "from 1 to"]),
    ("recover", "--ring old linked", &["old is left as it was", "it is no ring file"]),
    ("recover", "--frame -1 old", &["--frame", "negative"]),
    ("cat", "", &["<FILE>"]),
    ("cat", "missing", &["missing", "name a recording"]),
    ("cat", "directory", &["not a regular file", "name a recording"]),
    ("cat", "fifo", &["not a regular file", "name a recording"]),
    ("cat", "dangling", &["dangling", "name a recording"]),
    ("cat", "LONG", &["too long", "name a recording"]),
    ("cat", "old", &["no framed file", "cat(1)"]),
    ("cat", "--lines=1 old", &["--lines"]),
    ("probe", "missing", &["missing does not exist", "name a directory"]),
    ("probe", "old", &["old is no directory", "name the one"]),
    ("probe", "/sys", &["/sys", "name another directory"]),
    ("probe", "--fences 0", &["--fences", "from 1 to 100000"]),
    ("probe", "--fences 100001", &["--fences", "from 1 to 100000"]),
    ("probe", "--fences few", &["--fences", "from 1 to 100000"]),
    ("probe", "--fences -1", &["--fences", "negative"]),
    ("probe", "--json old", &["old exists", "--force"]),
    ("probe", "--json dangling", &["dangling exists", "--force"]),
    ("probe", "--json directory --force", &["directory is a directory", "name a file in it"]),
    ("probe", "--json fifo --force", &["fifo is not a regular file", "name another"]),
    ("probe", "--json missing/new", &["no directory missing", "make it"]),
    ("probe", "--json /sys/new", &["/sys/new can't be written", "another directory"]),
    ("probe", "--json LONG", &["can't be written", "name another file"]),
    ("probe", "--force=1", &["--force"]),
    ("probe", "--replay missing", &["missing can't be read", "name a result file"]),
    ("probe", "--replay directory", &["directory can't be read", "name a result file"]),
    ("probe", "--replay old", &["old is no result of this tool", "--json"]),
    ("probe", "--replay old --json new", &["--replay", "--json", "leave one out"]),
    ("probe", "--replay old --fences 3", &["--replay", "--fences", "leave one out"]),
    ("compare", "missing", &["missing does not exist", "name a directory"]),
    ("compare", "old", &["old is no directory", "name the one"]),
    ("compare", "--quick=1", &["--quick"]),
    ("compare", "--for long", &["--for", "2s"]),
    ("compare", "--for 0", &["--for", "more than 0"]),
    ("compare", "--for 1m --samples 200", &["--for", "--samples", "leave one out"]),
    ("compare", "--samples 99", &["--samples", "from 100 to"]),
    ("compare", "--samples all", &["--samples", "from 100 to"]),
    ("compare", "--records 0", &["--records", "1 byte to 64 MiB"]),
    ("compare", "--records 65MiB", &["--records", "1 byte to 64 MiB"]),
    ("compare", "--records 4KiB,big", &["--records", "64KiB"]),
    ("compare", "--states melted", &["--states", "growing, reserved, written"]),
    ("compare", "--committers 0", &["--committers", "from 1 to 64"]),
    ("compare", "--committers 65", &["--committers", "from 1 to 64"]),
    ("compare", "--committers 1,x", &["--committers", "from 1 to 64"]),
    ("compare", "--direct maybe", &["--direct", "on or off"]),
    ("compare", "--stream 1MiB", &["--stream", "multiple of 8 MiB"]),
    ("compare", "--stream long", &["--stream", "64KiB"]),
    ("compare", "--subjects tape", &["'tape'", "--list"]),
    ("compare", "--list=1", &["--list"]),
    ("compare", "--peers=1", &["--peers"]),
    ("compare", "--seed x", &["--seed", "whole number"]),
    ("compare", "--seed -1", &["--seed", "negative"]),
    ("compare", "--json old", &["old exists", "--force"]),
    ("compare", "--json missing/new", &["no directory missing", "make it"]),
    ("compare", "--csv old", &["old exists", "--force"]),
    ("compare", "--csv /sys/new", &["/sys/new can't be written", "another directory"]),
    ("compare", "--markdown directory", &["directory is a directory", "name a file in it"]),
    ("compare", "--json new --csv new", &["new", "name another file"]),
    ("compare", "--force=1", &["--force"]),
    ("compare", "--replay missing", &["missing can't be read", "name a result file"]),
    ("compare", "--replay old", &["old is no result of this tool", "--json"]),
    ("compare", "--replay old --quick", &["--replay", "--quick", "leave one out"]),
    ("pace", "", &["--rate"]),
    ("pace", "--rate 1MB/s missing", &["missing does not exist", "name a directory"]),
    ("pace", "--rate 1MB/s old", &["old is no directory", "name the one"]),
    ("pace", "--rate 0", &["--rate", "200MB/s"]),
    ("pace", "--rate fast", &["--rate", "200MB/s"]),
    ("pace", "--rate 1EB/s", &["free some space", "another directory"]),
    ("pace", "--rate 1MB/s --record 0", &["--record", "1 byte to 64 MiB"]),
    ("pace", "--rate 1MB/s --record 65MiB", &["--record", "1 byte to 64 MiB"]),
    ("pace", "--rate 1MB/s --split 0", &["--split", "1 byte or more"]),
    ("pace", "--rate 1MB/s --split much", &["--split", "64KiB"]),
    ("pace", "--streams 2 --split 1MiB", &["--split", "leave one out"]),
    ("pace", "--rate 1MB/s --subjects segments", &["no recorder", "--split"]),
    ("pace", "--streams 0", &["--streams", "from 1 to 4096"]),
    ("pace", "--streams many", &["--streams", "from 1 to 4096"]),
    ("pace", "--streams 2 --find-buffer", &["--find-buffer", "leave one out"]),
    ("pace", "--streams 2 --laps 0", &["--laps", "from 1 to 1000"]),
    ("pace", "--rate 1MB/s --laps 3", &["--streams"]),
    ("pace", "--streams 2 --phases never", &["--phases", "spread"]),
    ("pace", "--rate 1MB/s --phases together", &["--streams"]),
    ("pace", "--rate 1MB/s --for 0", &["--for", "more than 0"]),
    ("pace", "--rate 1MB/s --for long", &["--for", "2s"]),
    ("pace", "--rate 1MB/s --fence-every soon", &["--fence-every", "100ms"]),
    ("pace", "--rate 1MB/s --memory little", &["--memory", "64KiB"]),
    ("pace", "--rate 1MB/s --memory 64KiB", &["--memory", "give at least"]),
    ("pace", "--rate 1MB/s --memory 64TiB", &["--memory", "give less"]),
    ("pace", "--rate 1MB/s --memory 1MiB --find-buffer", &["--find-buffer", "leave one out"]),
    ("pace", "--rate 1MB/s --backend spdk", &["--backend", "auto, uring or sync"]),
    ("pace", "--rate 1MB/s --drive caller", &["--drive", "thread or poll"]),
    ("pace", "--rate 1MB/s --drive me", &["--drive", "thread or poll"]),
    ("pace", "--rate 1MB/s --file melted", &["--file", "growing, reserved or written"]),
    ("pace", "--rate 1MB/s --seed x", &["--seed", "whole number"]),
    ("pace", "--rate 1MB/s --neighbour loud", &["--neighbour", "with"]),
    ("pace", "--rate 1MB/s --subjects tape", &["'tape'", "--list"]),
    (
        "pace",
        "--rate 1MB/s --subjects poll --drive thread",
        &["--subjects", "--drive", "leave one"],
    ),
    ("pace", "--list=1", &["--list"]),
    ("pace", "--replay missing", &["missing can't be read", "name a result file"]),
    ("pace", "--replay old", &["old is no result of this tool", "--json"]),
    ("pace", "--replay old --rate 1MB/s", &["--replay", "--rate", "leave one out"]),
    ("pace", "--rate 1MB/s --json old", &["old exists", "--force"]),
    ("pace", "--rate 1MB/s --json missing/new", &["no directory missing", "make it"]),
    ("pace", "--force=1", &["--force"]),
    ("gate", "", &["no git repository", "--base-program"]),
    ("gate", "TRUE missing", &["missing does not exist", "name a directory"]),
    ("gate", "TRUE old", &["old is no directory", "name the one"]),
    ("gate", "--base none", &["no git repository", "--base-program"]),
    ("gate", "--base none --base-path directory", &["--base-path", "leave one out"]),
    ("gate", "--base-path missing", &["missing is no directory", "name a checkout"]),
    ("gate", "--base-path directory", &["directory lacks", "take a base"]),
    ("gate", "--base-program missing", &["missing can't be used", "name a program"]),
    ("gate", "TRUE", &["/bin/true"]),
    ("gate", "--base-program /bin/true --candidate-path old", &["old is no directory"]),
    (
        "gate",
        "--base-program /bin/true --candidate-program missing",
        &["missing", "name a program"],
    ),
    ("gate", "--build make", &["--program <FILE>"]),
    ("gate", "--program old", &["--build <COMMAND>"]),
    ("gate", "--cache old", &["no git repository"]),
    ("gate", "--operations", &["--operations"]),
    ("gate", "--tiers all", &["--tiers", "counts"]),
    ("gate", "--turns 35", &["--turns", "from 36 to 1000000"]),
    ("gate", "--turns x", &["--turns", "from 36 to 1000000"]),
    ("gate", "--limit 0", &["--limit", "0.1 to 100"]),
    ("gate", "--limit much", &["--limit", "0.1 to 100"]),
    ("gate", "--ignore-steal=1", &["--ignore-steal"]),
    ("gate", "--seed x", &["--seed", "whole number"]),
    ("gate", "--json old", &["old exists", "--force"]),
    ("gate", "--markdown old", &["old exists", "--force"]),
    ("gate", "--baseline old --tiers counts", &["--baseline", "--tiers", "leave one out"]),
    (
        "gate",
        "--candidate-program /bin/true --baseline old",
        &["old is no result of this tool", "--json"],
    ),
    ("gate", "--write-baseline new --json other", &["--write-baseline", "--json", "leave one out"]),
    ("gate", "--bisect --base-path directory", &["--bisect", "--base-path", "leave one out"]),
    ("gate", "--force=1", &["--force"]),
    ("gate", "--replay missing", &["missing can't be read", "name a result file"]),
    ("gate", "--replay old --bisect", &["--replay", "--bisect", "leave one out"]),
    ("selftest", "missing", &["missing does not exist", "name a directory"]),
    ("selftest", "--quick=1", &["--quick"]),
    ("selftest", "--nulls few", &["--nulls", "whole number"]),
    ("selftest", "--each -1", &["--each", "negative"]),
    ("selftest", "--counted x", &["--counted", "whole number"]),
    ("selftest", "--turns 1", &["--turns", "from 36 to 1000000"]),
    ("selftest", "--limit 101", &["--limit", "0.1 to 100"]),
    ("selftest", "--by moonlight", &["--by", "turns"]),
    ("selftest", "--operations", &["--operations"]),
    ("selftest", "--seed x", &["--seed", "whole number"]),
    ("selftest", "--neighbour=1", &["--neighbour"]),
    ("selftest", "--program old", &["--relinked <FILE>"]),
    ("selftest", "--relinked old", &["--program <FILE>"]),
    (
        "selftest",
        "--program missing --relinked old",
        &["missing can't be copied", "name a program"],
    ),
    ("selftest", "--json old", &["old exists", "--force"]),
    ("selftest", "--resume", &["--json <FILE>"]),
    ("selftest", "--resume --json old", &["old is no result of this tool", "--json"]),
    ("selftest", "--resume --json new --force", &["--resume", "--force", "leave one out"]),
    ("selftest", "--plot old", &["old exists", "--force"]),
    ("selftest", "--keep old", &["old", "folder"]),
    ("selftest", "--force=1", &["--force"]),
    ("selftest", "--replay missing", &["missing can't be read", "name a result file"]),
    ("selftest", "--replay old --each 1", &["--replay", "--each", "leave one out"]),
    ("report", "", &["RESULTS", "--html"]),
    ("report", "missing --html new", &["missing can't be read", "name a result file"]),
    ("report", "directory --html new", &["directory can't be read", "name a result file"]),
    ("report", "old --html new", &["old is no result of this tool", "--json"]),
    ("report", "old --html old", &["old exists", "--force"]),
    ("report", "old --html missing/new", &["no directory missing", "make it"]),
    ("report", "old --html /sys/new", &["/sys/new can't be written", "another directory"]),
    ("report", "old", &["--html <FILE>"]),
    ("report", "--force=1 old", &["--force"]),
    // ---- No command.
    ("", "", &["nothing to do", "--help"]),
    ("", "recrod", &["recrod", "'record'", "--help"]),
    ("", "--loud", &["--loud"]),
];

fn writeflush(arguments: impl IntoIterator<Item = OsString>, folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writeflush"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    // This checkout is not the user's repository.
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let limit = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > limit {
            child.kill().unwrap();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

/// What the rows speak of.
fn place() -> TempDir {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("old"), "old bytes").unwrap();
    fs::write(at("old.wav"), "no header").unwrap();
    fs::write(at("broken.wav"), "RIFF\x04\0\0\0WAVE").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("old", at("linked")).unwrap();
    symlink("missing/new", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for name in ["fifo", "fifo.wav"] {
        assert!(Command::new("mkfifo").arg(at(name)).status().unwrap().success());
    }
    place
}

/// Every name, and what it stands for.
fn contents(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let what = |entry: &fs::DirEntry| {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_vec()
        } else if kind.is_dir() {
            fs::read_dir(path).unwrap().count().to_le_bytes().to_vec()
        } else if kind.is_fifo() {
            b"FIFO".to_vec()
        } else {
            fs::read(path).unwrap()
        }
    };
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), what(&entry))).collect()
}

/// The words of a row as arguments.
fn words(row: &Row) -> Vec<OsString> {
    let (command, given, _) = row;
    let long = "n".repeat(300);
    let given = given.replace("LONG", &long).replace("ODD", "an\nodd\x1b[31m\tname");
    let given = given.replace("TRUE", "--base-program /bin/true --candidate-program /bin/true");
    [*command]
        .into_iter()
        .chain(given.split(' '))
        .filter(|word| !word.is_empty())
        .map(Into::into)
        .collect()
}

/// What is wrong with an answer to bad input.
fn complaint(output: &Output, needed: &[&str]) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let lacking: Vec<_> = needed.iter().filter(|word| !said.contains(**word)).collect();
    let well = output.status.code() == Some(2)
        && said.lines().count() == 1
        && said.starts_with("error: ")
        && !said.contains("panicked")
        && (output.stdout.is_empty() || output.stdout.starts_with(b"{")) // --json says it, too
        && lacking.is_empty();
    (!well).then(|| format!("{:?}, without {lacking:?}: {said}", output.status.code()))
}

#[test]
fn every_bad_option_is_told_in_a_sentence_and_touches_nothing() {
    let place = place();
    let before = contents(place.path());
    let mut bad = Vec::new();
    for row in ROWS {
        let output = writeflush(words(row), place.path());
        if std::env::var_os("WRITEFLUSH_SHOW_SENTENCES").is_some() {
            println!(
                "{} {}\n    {}",
                row.0,
                row.1,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        bad.extend(complaint(&output, row.2).map(|what| format!("{} {}: {what}", row.0, row.1)));
        assert!(contents(place.path()) == before, "{} {}: something was touched", row.0, row.1);
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// The options of a command, as its whole help has them.
fn options(command: &str) -> Vec<String> {
    let output =
        writeflush([command.into(), "--help".into()], Path::new(env!("CARGO_TARGET_TMPDIR")));
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.lines().filter_map(|line| line.trim_start().split_once("--"));
    // `  -q, --quiet`, and no line of prose.
    let options = lines.filter(|(before, _)| before.is_empty() || before.starts_with('-'));
    options
        .map(|(_, rest)| rest.split([' ', '[', '<']).next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn no_option_is_left_out() {
    let mut commands: Vec<&str> =
        ROWS.iter().map(|row| row.0).filter(|it| !it.is_empty()).collect();
    commands.dedup();
    assert_eq!(commands.len(), 10);
    for command in commands {
        let options = options(command);
        assert!(!options.is_empty(), "{command}");
        for option in options {
            let option = format!("--{option}");
            let is_of = |word: &str| {
                word == option || word.strip_prefix(&option).is_some_and(|it| it.starts_with('='))
            };
            let is_given = |row: &&Row| row.0 == command && row.1.split(' ').any(is_of);
            assert!(
                ROWS.iter().any(|row| is_given(&row)),
                "{command} {option} is never given badly"
            );
        }
    }
}

/// Names are bytes, and values are not.
#[test]
fn names_may_be_any_bytes_and_values_may_not() {
    let place = place();
    let name = OsStr::from_bytes(b"n\xff\xfe.raw");
    let of = |words: &[&str], last: &OsStr| {
        let words = words.iter().map(OsString::from).chain([last.into()]);
        writeflush(words, place.path())
    };
    assert_eq!(of(&["record", "--quiet", "--input", "old"], name).status.code(), Some(0));
    assert_eq!(fs::read(place.path().join(name)).unwrap(), b"old bytes");
    assert_eq!(of(&["recover"], name).status.code(), Some(0));
    assert_eq!(complaint(&of(&["cat"], name), &["no framed file"]), None);
    assert_eq!(complaint(&of(&["record", "--split", "1h"], name), &["has to be Unicode"]), None);
    let before = contents(place.path());
    for (words, needed) in [
        (&["record", "new", "--rate"][..], "--rate"),
        (&["record", "new", "--fence-every"], "--fence-every"),
        (&["record", "new", "--backend"], "--backend"),
        (&["gate", "--base"], "--base"),
        (&["gate", "--operations"], "--operations"),
    ] {
        assert_eq!(complaint(&of(words, name), &[needed]), None, "{words:?}");
    }
    assert!(contents(place.path()) == before);
}
