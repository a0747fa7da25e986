//! Figures for Prometheus: in a file that a parser of others reads, and whose numbers are those of the
//! JSON object.

use super::prometheus::Page;
use super::*;

fn page(file: &Path, recording: &Path) -> Page {
    let text = fs::read_to_string(file).unwrap();
    Page::of(&text, &[recording.to_str().unwrap()])
}

/// Each with the field of the JSON object that says the same.
const SAME: [(&str, &str); 6] = [
    ("written_bytes_total", "written_bytes"),
    ("durable_bytes_total", "durable_bytes"),
    ("fences_total", "fences"),
    ("overruns_total", "overruns"),
    ("overrun_bytes_total", "overrun_bytes"),
    ("high_water_bytes", "high_water_bytes"),
];

#[track_caller]
fn assert_as_told(page: &Page, told: &serde_json::Value) {
    for (name, field) in SAME {
        assert_eq!(Some(page.get(name)), told[field].as_u64(), "{name}");
    }
    let fences = page.get("fences_total") - page.get("fences_coalesced_total");
    assert_eq!(page.histogram("fence_seconds").count, Some(fences));
    assert_eq!([page.get("lag_bytes"), page.get("failed")], [0, 0]);
}

#[test]
fn the_file_says_what_the_json_object_says() {
    let place = directory();
    let file = place.path().join("writeflush.prom");
    let shapes: [(&str, &[&str]); 3] = [
        ("take.wav", &[]),
        ("take.raw", &["--fence-every", "1ms"]),
        ("takes.raw", &["--split", "100kB"]),
    ];
    for (name, options) in shapes {
        let path = place.path().join(name);
        let mut command = record();
        command.args(["--json", "--metrics"]).arg(&file).args(options).arg(&path);
        let output = fed(&mut command, &pattern(400_000));
        assert_status(&output, 0);
        let page = page(&file, &path);
        assert_as_told(&page, &json(&output));
        let rotations = page.figures.get("writeflush_segments_rotations_total");
        assert_eq!(rotations.is_some_and(|it| *it > 0.0), name == "takes.raw");
    }
    // Nothing is left beside, and who collects it is another user.
    let names = fs::read_dir(place.path()).unwrap().map(|it| it.unwrap().file_name());
    assert!(names.into_iter().all(|it| !it.to_string_lossy().starts_with(".writeflush")));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o444, 0o444 & mode | 0o400);
}

#[test]
fn events_of_a_preroll_are_summed() {
    let place = directory();
    let (file, path) = (place.path().join("writeflush.prom"), place.path().join("take.raw"));
    let mut command = record();
    command.args(["--json", "--preroll", "1MB", "--metrics"]).arg(&file).arg(&path);
    let (child, mut stdin) = begin(&mut command, &pattern(10_000));
    until("it listens to signals", || file.exists().then_some(()));
    let now = || page(&file, &path);
    let heard = |what: &str, holds: &dyn Fn(&Page) -> bool| {
        until(what, || {
            signal(&child, "-USR1");
            std::thread::sleep(Duration::from_millis(60));
            Some(now()).filter(|page| holds(page))
        })
    };
    heard("the input is kept", &|page| page.get("kept_bytes") >= 10_000);
    for event in 1..=2 {
        signal(&child, "-USR2");
        heard("it is recorded", &|page| page.get("durable_bytes_total") >= event * 10_000);
        signal(&child, "-USR2");
        heard("the event is over", &|page| page.get("segments_closed_total") == event);
        stdin.write_all(&pattern(10_000)).unwrap();
        heard("the next is kept", &|page| page.get("kept_bytes") >= 10_000);
    }
    drop(stdin);
    let output = ended(child);
    assert_status(&output, 0);
    assert_as_told(&now(), &json(&output));
}

#[test]
fn a_signal_has_it_written_at_once() {
    let place = directory();
    let (file, path) = (place.path().join("writeflush.prom"), place.path().join("take.wav"));
    let mut command = record();
    command.args(["--fence-every", "2ms", "--metrics"]).arg(&file).arg(&path);
    let (child, stdin) = begin(&mut command, &pattern(1000));
    until_described(&path, 1000);
    until("the figures are new", || {
        signal(&child, "-USR1");
        std::thread::sleep(Duration::from_millis(60));
        (page(&file, &path).get("durable_bytes_total") >= 1000).then_some(())
    });
    drop(stdin);
    assert_status(&ended(child), 0);
}

#[test]
fn a_file_that_can_t_be_written_is_said_once() {
    let place = directory();
    let path = place.path().join("take.raw");
    let mut command = record();
    command.args(["--json", "--metrics"]).arg(place.path().join("none/page.prom")).arg(&path);
    let (child, stdin) = begin(&mut command, &pattern(1000));
    until("it listens to signals", || path.exists().then_some(()));
    for _ in 0..3 {
        signal(&child, "-USR1");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(stdin);
    let output = ended(child);
    assert_status(&output, 0);
    let said = stderr(&output);
    assert_eq!(said.matches("could not write --metrics").count(), 1, "{said}");
    let warnings = json(&output)["warnings"].clone();
    assert!(warnings.to_string().contains("could not write --metrics"), "{warnings}");
    assert_eq!(fs::read(&path).unwrap(), pattern(1000));
}

/// It would take the place of the recording.
#[test]
fn the_recording_itself_is_no_place_for_figures() {
    let place = directory();
    let path = place.path().join("take.raw");
    let same = place.path().join("./take.raw");
    let output = fed(record().arg("--metrics").arg(same).arg(&path), b"");
    assert_status(&output, 2);
    assert!(stderr(&output).contains("name another file"), "{}", stderr(&output));
    assert!(!path.exists());
}
