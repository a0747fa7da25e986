//! `report` as its user meets it, and its page in a real browser.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_writeflush-perf")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Measures something small, and returns where the result is kept.
fn measured(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let (file, data) = (folder.join(name), directory());
    let places = ["--json", file.to_str().unwrap(), data.path().to_str().unwrap()];
    let output = tool(&[arguments, &places].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    file
}

fn result(file: &Path) -> Value {
    serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap()["result"].clone()
}

/// What the browser says about every figure: its title, the names in its plot, and how many shapes
/// of data have an extent.
const LOOK: &str = r##"<script>
const data = ["#6E7781", "#0969DA", "#BC4C00", "#1A7F37"];
const figures = [...document.querySelectorAll("figure")].map(figure => {
  const shapes = [...figure.querySelectorAll("svg rect, svg polyline, svg path")].filter(shape => {
    const box = shape.getBBox();
    const drawn = data.includes(shape.getAttribute("fill")) || data.includes(shape.getAttribute("stroke"));
    return drawn && Math.max(box.width, box.height) > 0;
  });
  const plot = figure.querySelector("svg").getBoundingClientRect();
  const cut = [...figure.querySelectorAll("svg text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < plot.left - 1 || box.right > plot.right + 1;
  });
  return {
    title: figure.querySelector("h4").textContent,
    shapes: shapes.length,
    names: [...figure.querySelectorAll("svg text")].map(text => text.textContent.trim()),
    rows: figure.querySelectorAll("tbody tr").length,
    cut: cut.map(text => text.textContent.trim()),
    colour: shapes.length ? getComputedStyle(shapes[0]).fill : "",
  };
});
const root = document.documentElement;
const seen = document.createElement("pre");
seen.id = "seen";
seen.textContent = JSON.stringify({ figures, wide: root.scrollWidth > root.clientWidth });
document.body.append(seen);
</script>"##;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Opens the page with a look at it appended. `None`: there is no browser.
fn looked_at(page: &Path, width: u32, dark: bool) -> Option<Value> {
    let here = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let browser = BROWSERS.iter().find(here)?;
    let folder = directory();
    let copy = folder.path().join("page.html");
    fs::write(&copy, fs::read_to_string(page).unwrap() + LOOK).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .arg(format!("--window-size={width},900"))
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", copy.display()))
        .output()
        .unwrap();
    let complaints = text(&output.stderr);
    assert!(!complaints.contains("CONSOLE"), "{complaints}");
    let dom = text(&output.stdout);
    let seen = dom.split("<pre id=\"seen\">").nth(1).unwrap().split("</pre>").next().unwrap();
    Some(serde_json::from_str(&seen.replace("&gt;", ">").replace("&amp;", "&")).unwrap())
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// Subjects that have a plot in each figure, as the result files say.
fn expected(comparison: &Value, pace: &Value) -> Vec<(String, Vec<String>)> {
    let mut figures = Vec::new();
    let name = |row: &Value| row["subject"].as_str().unwrap().to_owned();
    for cell in comparison["cells"].as_array().unwrap() {
        let rows = cell["rows"].as_array().unwrap();
        for class in ["durable", "page cache"] {
            let measured = |row: &&Value| row["class"] == class && row.get("measured").is_some();
            let of_class: Vec<&Value> = rows.iter().filter(measured).collect();
            let names = of_class.iter().map(|row| name(row)).collect();
            figures.push((format!("Flush latency ({class})"), names));
            let with_ratio = of_class.iter().filter(|row| !row["measured"]["ratio"].is_null());
            let names: Vec<String> = with_ratio.map(|row| name(row)).collect();
            if !names.is_empty() {
                figures.push((format!("Ratio to the floor ({class})"), names));
            }
        }
    }
    let mut subjects: Vec<String> = Vec::new();
    for stream in comparison["streams"].as_array().unwrap() {
        if !subjects.contains(&name(stream)) {
            subjects.push(name(stream));
        }
    }
    figures.push(("Throughput by buffer size".into(), subjects));
    for (neighbour, company) in [(false, "alone"), (true, "neighbour")] {
        let takes = pace["takes"].as_array().unwrap().iter();
        let names: Vec<String> =
            takes.filter(|take| take["neighbour"] == neighbour).map(name).collect();
        figures.push((format!("Stalls of the producer, {company}"), names.clone()));
        figures.push((format!("Taken and not yet durable, {company}"), names));
    }
    figures
}

#[test]
fn every_plot_has_its_data_in_a_browser() {
    let folder = directory();
    let small = ["--samples", "100", "--records", "4KiB", "--committers", "1", "--stream", "8MiB"];
    let compare = [&["compare", "--states", "written"], &small[..]].concat();
    let compare = measured(folder.path(), "compare.json", &compare);
    let pace = ["pace", "--rate", "2MB/s", "--for", "200ms"];
    let pace = measured(folder.path(), "pace.json", &pace);
    let page = folder.path().join("page.html");
    let (first, second) = (compare.to_str().unwrap(), pace.to_str().unwrap());
    let output = tool(&["report", first, second, "--html", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let Some(seen) = looked_at(&page, 1200, false) else {
        assert!(std::env::var_os("CI").is_none(), "CI has a browser");
        return eprintln!("skipped: there is no Chromium");
    };
    let figures = seen["figures"].as_array().unwrap();
    let expected = expected(&result(&compare), &result(&pace));
    assert_eq!(figures.len(), expected.len(), "{figures:?}");
    for (figure, (title, subjects)) in figures.iter().zip(&expected) {
        assert_eq!(figure["title"], title.as_str());
        let names = strings(&figure["names"]);
        assert!(subjects.iter().all(|name| names.contains(&name.as_str())), "{figure}");
        assert!(figure["shapes"].as_u64().unwrap() >= subjects.len() as u64, "{figure}");
        assert_eq!(figure["rows"], subjects.len(), "{figure}");
        assert!(strings(&figure["cut"]).is_empty(), "{figure}");
    }

    // On a phone nothing runs out of the page, and in the dark the colours are others.
    let phone = looked_at(&page, 390, true).unwrap();
    assert_eq!((&seen["wide"], &phone["wide"]), (&false.into(), &false.into()));
    let colour = |seen: &Value| seen["figures"][0]["colour"].clone();
    assert_ne!(colour(&seen), colour(&phone));
}

#[test]
fn what_is_no_result_is_said_in_a_line() {
    let folder = directory();
    let page = folder.path().join("page.html");
    let bad = folder.path().join("bad.json");
    let refused = |arguments: &[&str], says: &str| {
        let output = tool(&[&["report"], arguments].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.lines().count() == 1 && error.contains(says), "{error}");
    };
    let (page_name, bad_name) = (page.to_str().unwrap(), bad.to_str().unwrap());
    fs::write(&bad, "{}").unwrap();
    refused(&["/no/such/file", "--html", page_name], "can't be read");
    refused(&[bad_name, "--html", page_name], "no result of this tool");
    fs::write(&bad, r#"{"format":1,"kind":"compare"}"#).unwrap();
    refused(&[bad_name, "--html", page_name], "format 1");
    fs::write(&bad, r#"{"format":1,"kind":"gate"}"#).unwrap();
    refused(&[bad_name, "--html", page_name], "`gate`");
    fs::write(&bad, r#"{"format":1,"kind":"pace"}"#).unwrap();
    refused(&[bad_name, "--html", page_name], "damaged");
    refused(&["--html", page_name], "RESULTS");
    refused(&[bad_name, "--html", bad_name], "--force");
    assert!(!page.exists());
}
