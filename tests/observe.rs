//! What an operator sees: a page that a parser of others reads, whose numbers are the summary's.
#![cfg(all(unix, not(any(loom, shuttle))))]

mod common;
#[path = "common/prometheus.rs"]
mod prometheus;

use std::path::Path;

use common::{Config, bytes, directory, each_config};
use prometheus::Page;
use writeflush::observe::{self, Sample};
use writeflush::segments::{self, Event};
use writeflush::{Control, Error, Histogram, Medium, OnFull, Push, Stats};

#[track_caller]
fn assert_histogram(page: &Page, name: &str, expected: &Histogram) {
    let found = page.histogram(name);
    assert_eq!(found.count, Some(expected.count()), "{name}");
    let sum = found.sum.unwrap().as_f64();
    assert!((sum - expected.sum().as_secs_f64()).abs() < 1e-9, "{name}: {sum}");
    let below = |bound: f64| {
        let within = expected.buckets().filter(|(top, _)| top.as_secs_f64() <= bound);
        within.map(|(_, count)| count).sum::<u64>() as f64
    };
    assert!(found.buckets.last().unwrap().upper_bound.is_infinite());
    for bucket in &found.buckets {
        assert_eq!(bucket.count.as_f64(), below(bucket.upper_bound), "{name}");
    }
}

#[track_caller]
fn assert_stats(page: &Page, stats: &Stats) {
    let figures = [
        ("overruns_total", stats.overruns),
        ("overrun_bytes_total", stats.overrun_bytes),
        ("fences_total", stats.fences),
        ("fences_coalesced_total", stats.fences_coalesced),
        ("flushes_total", stats.flushes),
        ("pushes_total", stats.writes),
        ("device_bytes_total", stats.device_bytes),
        ("zero_bytes_total", stats.zero_bytes),
        ("resubmitted_total", stats.resubmitted),
        ("memory_bytes", stats.memory),
        ("high_water_bytes", stats.high_water),
    ];
    for (name, expected) in figures {
        assert_eq!(page.get(name), expected, "{name}");
    }
    assert_histogram(page, "fence_seconds", &stats.fence_latency);
    assert_histogram(page, "device_write_seconds", &stats.device_writes);
    assert_histogram(page, "device_flush_seconds", &stats.device_flushes);
}

#[test]
fn the_page_of_a_file_says_what_its_close_says() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.options().on_full(OnFull::Drop).create(path).unwrap();
        let control = writer.control().clone();
        for round in 0..20 {
            let push = writer.write(&bytes(round, 3000)).unwrap();
            if round % 5 == 0 || matches!(push, Push::Lost(_)) {
                writer.write_flush(&[]).unwrap();
            }
        }
        writer.write(&bytes(99, 100)).unwrap();
        let lag = Page::of(&Sample::of(&control).prometheus(), &[]).get("lag_bytes");
        let summary = writer.close().unwrap();
        assert!(lag <= 3000 * 5, "{lag}");
        let page = Page::of(&Sample::of(&control).prometheus(), &[]);
        assert_stats(&page, &summary.stats);
        assert!(page.histogram("fence_seconds").count > Some(0));
        for name in ["accepted_bytes_total", "written_bytes_total", "durable_bytes_total"] {
            assert_eq!(page.get(name), summary.positions.durable, "{name}");
        }
        assert_eq!(
            [page.get("lag_bytes"), page.get("failed"), page.get("waiting_for_space")],
            [0; 3]
        );
        let is_stable = summary.durability.medium == Medium::StableMedia;
        assert_eq!(page.get("stable_media"), u64::from(is_stable));
        // These, and what was compared above: nothing has been forgotten.
        assert_eq!(page.figures.len() + page.histograms.len(), 3 + 11 + 3 + 4);
    });
}

#[test]
fn what_is_not_durable_is_lag() {
    let directory = directory();
    let mut writer = Config::STILL.options().create(directory.path().join("take")).unwrap();
    writer.write_flush(&[1; 100]).unwrap();
    writer.write(&[2; 23]).unwrap();
    let page = Page::of(&Sample::of(writer.control()).prometheus(), &[]);
    assert_eq!((page.get("lag_bytes"), page.get("durable_bytes_total")), (23, 100));
}

#[test]
fn many_recordings_on_one_page() {
    let directory = directory();
    let names = ["plain", "a \"quoted\" \\ name\nof two lines, {x=\"y\"}"];
    let mut samples = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let mut writer = Config::STILL.options().create(path).unwrap();
        writer.write_flush(&vec![7; 10 + number]).unwrap();
        samples.push(Sample::of(writer.control()).label("stream", name).unwrap());
    }
    let text = observe::prometheus(&samples);
    for (number, name) in names.iter().enumerate() {
        // The parser leaves what is escaped as it is.
        let name = name.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        let page = Page::of(&text, &[&name]);
        assert_eq!(page.get("durable_bytes_total"), 10 + number as u64);
        assert_eq!(page.histogram("fence_seconds").count, Some(1));
    }
}

#[test]
fn names_of_labels_that_nobody_could_read_are_refused() {
    for name in ["", "le", "__name", "1st", "a-b", "stream", "größe"] {
        let sample = Sample::default().label("stream", "1").unwrap();
        let refused = sample.label(name, "x").unwrap_err();
        assert!(matches!(refused, Error::Options(_)), "{name}");
    }
}

#[test]
fn a_failure_is_told_and_a_close_is_none() {
    let directory = directory();
    let path = directory.path().join("take");
    let writer = Config::STILL.options().create(&path).unwrap();
    let control = writer.control().clone();
    control.close().unwrap();
    assert!(Sample::of(&control).error.is_none());
    let writer = Config::STILL.options().create(&path).unwrap();
    let failed = writer.control().clone();
    failed.panicked(); // poisons it
    assert_eq!(Page::of(&Sample::of(&failed).prometheus(), &[]).get("failed"), 1);
}

/// Runs a recording over several segments, and looks at it behind every push.
fn in_segments(
    folder: &Path,
    looks: &mut dyn FnMut(&segments::Control),
) -> (segments::Control, Stats) {
    let (told, closed) = std::sync::mpsc::channel();
    let options = segments::Options::new(folder.join("take-{seq}")).size(10_000);
    let below = Config { drive: writeflush::Drive::Thread, ..Config::STILL }.options();
    let options = options.below(below).on_event(move |event| {
        if let Event::Closed(closed) = event {
            let _ = told.send(closed.summary.stats.clone());
        }
    });
    let mut writer = options.open().unwrap();
    let control = writer.control().clone();
    for round in 0..50 {
        writer.write_flush(&bytes(round, 1000)).unwrap();
        looks(&control);
    }
    writer.close().unwrap();
    let mut all = Stats::default();
    for mut stats in closed {
        stats.memory = 0; // it has gone back
        all += &stats;
    }
    (control, all)
}

#[test]
fn of_segments_no_count_goes_back_at_a_rotation() {
    let directory = directory();
    let mut last = Stats::default();
    let (control, closed) = in_segments(directory.path(), &mut |control| {
        let now = control.totals();
        assert!(now.fences >= last.fences && now.bytes >= last.bytes && now.writes >= last.writes);
        assert!(now.fence_latency.count() >= last.fence_latency.count());
        last = now;
    });
    let page = Page::of(&Sample::of_segments(&control).prometheus(), &[]);
    assert_stats(&page, &closed);
    assert_eq!(page.get("durable_bytes_total"), 50_000);
    let stats = control.stats();
    assert!(stats.rotations > 0);
    for (name, expected) in [
        ("rotations", stats.rotations),
        ("late", stats.late_rotations),
        ("closed", stats.closed),
        ("removed", stats.removed),
        ("removed_bytes", stats.removed_bytes),
    ] {
        assert_eq!(page.get(&format!("segments_{name}_total")), expected, "{name}");
    }
}

/// A writer that has lost bytes, twice.
#[allow(dead_code)] // without the facades
fn with_losses(path: &Path, looks: &mut dyn FnMut(&Control)) -> writeflush::Summary {
    let mut writer = Config::STILL.options().on_full(OnFull::Drop).create(path).unwrap();
    let control = writer.control().clone();
    for _ in 0..2 {
        while !matches!(writer.write(&[7; 1000]).unwrap(), Push::Lost(_)) {}
        looks(&control);
        writer.write_flush(&[]).unwrap();
        looks(&control);
    }
    writer.close().unwrap()
}

#[cfg(feature = "metrics")]
#[test]
fn the_facade_of_metrics_gets_each_value_once() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let directory = directory();
    let exporter = DebuggingRecorder::new();
    let snapshots = exporter.snapshotter();
    let mut recorder = observe::Recorder::new();
    let mut last = Sample::default();
    let summary = metrics::with_local_recorder(&exporter, || {
        let mut look = |control: &Control| {
            last = Sample::of(control).label("stream", "1").unwrap();
            recorder.record(&last);
            recorder.record(&last);
        };
        with_losses(&directory.path().join("take"), &mut look)
    });
    let mut found = std::collections::HashMap::new();
    for (key, _, words, value) in snapshots.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|it| (it.key(), it.value())).collect();
        assert_eq!(labels, [("stream", "1")]);
        assert!(words.is_some());
        found.insert(key.key().name().to_owned(), value);
    }
    let bytes = DebugValue::Counter(summary.stats.overrun_bytes);
    assert_eq!(found["writeflush_overrun_bytes_total"], bytes);
    assert_eq!(found["writeflush_lag_bytes"], DebugValue::Gauge(0.0.into()));
    let DebugValue::Histogram(values) = &found["writeflush_fence_seconds"] else { panic!() };
    assert_eq!(values.len() as u64, last.stats.fence_latency.count());
}

#[cfg(feature = "tracing")]
mod traced {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(work: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .without_time()
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn losses_are_told_once_and_a_close_too() {
        let directory = directory();
        let mut summary = None;
        let lines = lines(|| {
            let mut tracer = observe::Tracer::new();
            let mut look = |control: &Control| {
                tracer.look(&Sample::of(control).label("stream", "1").unwrap());
                tracer.look(&Sample::of(control).label("stream", "1").unwrap());
            };
            summary = Some(with_losses(&directory.path().join("take"), &mut look));
            observe::tell_close(&Ok(summary.clone().unwrap()));
        });
        assert_eq!(summary.unwrap().stats.overrun_bytes, 2000);
        let lost: Vec<_> = lines.iter().filter(|it| it.contains("bytes were lost")).collect();
        assert_eq!(lost.len(), 2, "{lines:?}");
        for line in lost {
            assert!(line.contains("WARN writeflush:") && line.contains("bytes=1000"), "{line}");
        }
        assert!(lines.last().unwrap().contains("closed and durable"), "{lines:?}");
        assert_eq!(lines.len(), 3, "{lines:?}");
    }

    #[test]
    fn a_failure_waits_for_space_and_rotations_are_told_once() {
        let mut sample = Sample::default();
        let lines = lines(|| {
            let mut tracer = observe::Tracer::new();
            let mut look = |sample: &Sample| (0..2).for_each(|_| tracer.look(sample));
            look(&sample);
            sample.is_waiting_for_space = true;
            look(&sample);
            sample.is_waiting_for_space = false;
            look(&sample);
            sample.error = Some(Error::Options("it can't go on".into()));
            look(&sample);
        });
        let expected = ["WARN", "INFO", "ERROR"];
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, level) in lines.iter().zip(expected) {
            assert!(line.contains(level), "{line}");
        }
        assert!(lines[2].contains("it can't go on"));
    }

    #[test]
    fn segments_are_told_where_they_are_closed() {
        let directory = directory();
        let told = Lines::default();
        let to = told.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || to.clone()).finish();
        let keeper = tracing::Dispatch::new(subscriber);
        let pattern = directory.path().join("take-{seq}");
        let options = segments::Options::new(&pattern).on_event(move |event| {
            tracing::dispatcher::with_default(&keeper, || observe::tell_segment(&event));
        });
        let mut writer = options.open().unwrap();
        writer.write_flush(b"data").unwrap();
        writer.close().unwrap();
        let text = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("closed and durable") && text.contains("take-"), "{text}");
    }
}
