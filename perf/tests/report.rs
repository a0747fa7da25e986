//! `report` as its user meets it, and its page in a real browser.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/skip.rs"]
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_writeflush")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Measures something small, and returns where the result is kept.
fn measured(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let (file, data) = (folder.join(name), directory());
    let places = ["--json", file.to_str().unwrap(), data.path().to_str().unwrap()];
    let output = tool(&[arguments, &places].concat());
    // A probe says by its status what it found.
    let well = output.status.code().is_some_and(|code| code == 0 || arguments[0] == "probe");
    assert!(well, "{}", text(&output.stderr));
    file
}

fn result(file: &Path) -> Value {
    serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap()["result"].clone()
}

/// What the browser says of the page it shows: of every figure its title, the names in its plot,
/// how many bars and lines of data it has; and every colour in use, with its contrast.
const LOOK: &str = r##"<script>
const data = ["#6E7781", "#0969DA", "#BC4C00", "#1A7F37"];
const parts = colour => colour.match(/[\d.]+/g).slice(0, 3).map(Number);
const light = colour => parts(colour)
  .map(part => part / 255)
  .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const contrast = (one, other) => {
  const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
};
const colours = [];
const figures = [...document.querySelectorAll("figure")].map(figure => {
  const plot = figure.querySelector("svg");
  const all = kind => plot ? [...plot.querySelectorAll(kind)] : [];
  const paper = getComputedStyle(figure).backgroundColor;
  const used = (shape, attribute, kind) => {
    const colour = getComputedStyle(shape)[attribute];
    colours.push({ kind, attribute, colour, contrast: contrast(colour, paper) });
  };
  const bars = all("rect").filter(shape => data.includes(shape.getAttribute("fill")));
  const lines = all("polyline").filter(shape => data.includes(shape.getAttribute("stroke")));
  bars.forEach(shape => used(shape, "fill", "data"));
  lines.forEach(shape => used(shape, "stroke", "data"));
  all("text").forEach(shape => used(shape, "fill", "text"));
  const frame = plot ? plot.getBoundingClientRect() : null;
  const cut = all("text").filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1;
  });
  const box = shape => shape.getBBox();
  return {
    title: figure.querySelector("h4").textContent,
    bars: bars.length,
    high: bars.filter(shape => box(shape).height > 0 && box(shape).width > 0).length,
    lines: lines.length,
    names: all("text").map(text => text.textContent.trim()),
    rows: [...figure.querySelectorAll("table")].map(table => table.querySelectorAll("tbody tr").length),
    cut: cut.map(text => text.textContent.trim()),
  };
});
const root = document.documentElement;
const seen = document.createElement("pre");
seen.id = "seen";
const unique = [...new Map(colours.map(colour => [JSON.stringify(colour), colour])).values()];
const deadLinks = [...document.querySelectorAll("a")]
  .map(link => link.getAttribute("href"))
  .filter(link => !document.getElementById(link.slice(1)));
seen.textContent = JSON.stringify({
  figures, colours: unique, deadLinks, width: root.clientWidth, full: root.scrollWidth,
});
document.body.append(seen);
</script>"##;

/// Shows a page in a frame as wide as a phone: a window can't be made that narrow.
const PHONE: &str = r##"<!DOCTYPE html><iframe id="phone" width="390" height="844" style="border: 0"></iframe>
<script>
const frame = document.getElementById("phone");
frame.onload = () => {
  const seen = document.createElement("pre");
  seen.id = "seen";
  seen.textContent = frame.contentDocument.getElementById("seen").textContent;
  document.body.append(seen);
};
frame.srcdoc = PAGE;
</script>"##;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What a browser makes of the text of a page, and what it complains of. `None`: there is none.
fn opened(page: &str, dark: bool) -> Option<(String, Vec<String>)> {
    let here = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let browser = BROWSERS.iter().find(here)?;
    let folder = directory();
    let copy = folder.path().join("page.html");
    fs::write(&copy, page).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(["--window-size=1200,900", "--hide-scrollbars"])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", copy.display()))
        .output()
        .unwrap();
    let complaints = text(&output.stderr);
    let complaints = complaints.lines().filter(|line| line.contains("CONSOLE"));
    Some((text(&output.stdout), complaints.map(ToOwned::to_owned).collect()))
}

/// Opens the page with a look at it appended, on a desk or on a phone.
fn looked_at(page: &Path, phone: bool, dark: bool) -> Option<Value> {
    let page = fs::read_to_string(page).unwrap() + LOOK;
    let page = match phone {
        // The end of a script inside a string would end the outer script.
        true => {
            let page = serde_json::to_string(&page).unwrap().replace("</script>", "<\\/script>");
            PHONE.replace("PAGE", &page)
        }
        false => page,
    };
    let (dom, complaints) = opened(&page, dark)?;
    assert_eq!(complaints, [""; 0]);
    let seen = dom.split("<pre id=\"seen\">").nth(1).unwrap_or_else(|| panic!("{dom}"));
    let seen = seen.split("</pre>").next().unwrap();
    let seen = seen.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&");
    Some(serde_json::from_str(&seen).unwrap())
}

fn no_browser() {
    skip::skip("a page in a browser", "there is no Chromium");
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// A figure as the result files say that it has to be.
#[derive(Default)]
struct Expected {
    title: String,
    subjects: Vec<String>,
    bars: usize,
    /// `None`: lines trace the bars.
    lines: Option<usize>,
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn subject(row: &Value) -> String {
    row["subject"].as_str().unwrap().to_owned()
}

fn figures_of_comparison(comparison: &Value) -> Vec<Expected> {
    let mut figures = Vec::new();
    for cell in array(&comparison["cells"]) {
        for class in ["durable", "page cache"] {
            let measured = |row: &&Value| row["class"] == class && row.get("measured").is_some();
            let rows: Vec<&Value> = array(&cell["rows"]).iter().filter(measured).collect();
            figures.push(Expected {
                title: format!("Flush latency ({class})"),
                subjects: rows.iter().map(|row| subject(row)).collect(),
                bars: rows.iter().map(|row| array(&row["measured"]["steps"]).len()).sum(),
                lines: None,
            });
            let with_ratio = rows.iter().filter(|row| !row["measured"]["ratio"].is_null());
            let subjects: Vec<String> = with_ratio.map(|row| subject(row)).collect();
            if !subjects.is_empty() {
                let lines = Some(2 * subjects.len());
                let title = format!("Ratio to the floor ({class})");
                figures.push(Expected { title, subjects, bars: 0, lines });
            }
        }
    }
    let streams = array(&comparison["streams"]);
    let mut subjects: Vec<String> = streams.iter().map(subject).collect();
    subjects.sort();
    subjects.dedup();
    let bars = streams.iter().filter(|stream| stream.get("refused").is_none()).count();
    let title = "Throughput by buffer size".into();
    figures.push(Expected { title, subjects, bars, lines: Some(0) });
    figures
}

fn figures_of_pace(pace: &Value) -> Vec<Expected> {
    let mut figures = Vec::new();
    let searches = array(&pace["smallest"]);
    if !searches.is_empty() {
        let found = searches.iter().filter(|search| !search["memory_bytes"].is_null()).count();
        let title = "The smallest memory that lost nothing".into();
        figures.push(Expected { title, lines: Some(2 * found), ..Expected::default() });
    }
    for (neighbour, company) in [(false, "alone"), (true, "beside a neighbour")] {
        let takes = array(&pace["takes"]).iter().filter(|take| take["neighbour"] == neighbour);
        let takes: Vec<&Value> = takes.collect();
        let sum = |what: &str| takes.iter().map(|take| array(&take[what]).len()).sum();
        let subjects: Vec<String> = takes.iter().map(|take| subject(take)).collect();
        figures.push(Expected {
            title: format!("Stalls of the producer, {company}"),
            subjects: subjects.clone(),
            bars: sum("stalls"),
            lines: None,
        });
        let title = format!("At risk in a power cut, {company}");
        figures.push(Expected { title, subjects, bars: sum("lag"), lines: Some(0) });
    }
    figures
}

/// One of each kind of result, small.
fn results(folder: &Path) -> [PathBuf; 4] {
    let small = ["--samples", "200", "--records", "4KiB", "--committers", "1", "--stream", "8MiB"];
    let compare = [&["compare", "--states", "written"], &small[..]].concat();
    let fast = ["pace", "--rate", "2MB/s", "--record", "4KiB", "--for", "300ms"];
    [
        measured(folder, "probe.json", &["probe", "--fences", "20"]),
        measured(folder, "compare.json", &compare),
        measured(folder, "pace.json", &fast),
        measured(folder, "buffer.json", &[&fast[..], &["--find-buffer"]].concat()),
    ]
}

fn page_of(results: &[PathBuf], page: &Path) {
    let mut arguments = vec!["report", "--html", page.to_str().unwrap()];
    arguments.extend(results.iter().map(|file| file.to_str().unwrap()));
    let output = tool(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn every_plot_has_all_its_data_in_a_browser() {
    let folder = directory();
    let results = results(folder.path());
    let page = folder.path().join("page.html");
    page_of(&results, &page);
    let html = fs::read_to_string(&page).unwrap();
    for check in array(&result(&results[0])["checks"]) {
        assert!(html.contains(check["reason"].as_str().unwrap()), "{check}");
    }

    let Some(seen) = looked_at(&page, false, false) else { return no_browser() };
    let mut expected = figures_of_comparison(&result(&results[1]));
    expected.extend(figures_of_pace(&result(&results[2])));
    expected.extend(figures_of_pace(&result(&results[3])));
    let figures = array(&seen["figures"]);
    let titles = |figures: &[Value]| figures.iter().map(|f| f["title"].clone()).collect::<Vec<_>>();
    assert_eq!(figures.len(), expected.len(), "{:?}", titles(figures));
    let mut drawn = 0;
    for (figure, expected) in figures.iter().zip(&expected) {
        assert!(figure["title"].as_str().unwrap().starts_with(&expected.title), "{figure}");
        let names = strings(&figure["names"]);
        let subjects = &expected.subjects;
        assert!(subjects.iter().all(|name| names.contains(&name.as_str())), "{figure}");
        assert_eq!(figure["bars"], expected.bars, "{figure}");
        assert!(expected.lines.is_none_or(|lines| figure["lines"] == lines), "{figure}");
        // Some of them can be seen, if only by the line that traces them; all stand in a table.
        let seen = figure["high"].as_u64().unwrap() + figure["lines"].as_u64().unwrap();
        assert!(expected.bars == 0 || seen > 0, "{figure}");
        let rows = array(&figure["rows"]);
        // Where a row has more than one mark, a second table has every one of them.
        let many = expected.lines.is_none() || expected.title.starts_with("At risk");
        assert_eq!(rows.len() >= 2, many || expected.subjects.is_empty(), "{figure}");
        assert!(!rows.is_empty(), "{figure}");
        assert!(subjects.is_empty() || rows.iter().all(|rows| *rows == subjects.len()), "{figure}");
        assert_eq!(strings(&figure["cut"]), [""; 0], "{figure}");
        drawn += expected.bars + expected.lines.unwrap_or(0);
    }
    assert!(drawn > 1000, "{drawn}");
    assert_eq!(strings(&seen["deadLinks"]), [""; 0]);
    assert_eq!(seen["width"], seen["full"], "it runs out of the window");

    // On a phone nothing runs out of the page, and no word out of its plot.
    let phone = looked_at(&page, true, false).unwrap();
    assert_eq!((&phone["width"], &phone["full"]), (&390.into(), &390.into()));
    assert!(array(&phone["figures"]).iter().all(|figure| strings(&figure["cut"]).is_empty()));

    // In the dark every colour is another, and everything can be read either way.
    let dark = looked_at(&page, false, true).unwrap();
    let colours = |seen: &Value| -> Vec<String> {
        let all = array(&seen["colours"]).iter();
        all.map(|colour| colour["colour"].as_str().unwrap().to_owned()).collect()
    };
    let (by_day, by_night) = (colours(&seen), colours(&dark));
    assert!(by_day.len() >= 5 && by_day.len() == by_night.len(), "{by_day:?} {by_night:?}");
    assert!(by_day.iter().all(|colour| !by_night.contains(colour)), "{by_day:?} {by_night:?}");
    for colour in array(&seen["colours"]).iter().chain(array(&dark["colours"])) {
        let least = if colour["kind"] == "text" { 4.5 } else { 3.0 };
        assert!(colour["contrast"].as_f64().unwrap() >= least, "{colour}");
    }
    let kinds = |attribute: &str| {
        array(&dark["colours"]).iter().any(|c| c["kind"] == "data" && c["attribute"] == attribute)
    };
    assert!(kinds("fill") && kinds("stroke"));
}

/// Else the test above would see no error in the browser's console, either.
#[test]
fn an_error_in_a_page_is_seen() {
    let broken = "<!DOCTYPE html><p>page</p><script>nobodyKnowsThis();</script>";
    let Some((_, complaints)) = opened(broken, false) else { return no_browser() };
    assert!(complaints.iter().any(|line| line.contains("nobodyKnowsThis")), "{complaints:?}");
    let (_, complaints) = opened("<!DOCTYPE html><p>page</p>", false).unwrap();
    assert_eq!(complaints, [""; 0]);
}

/// A run that kept only some of its stalls, one in which nothing was found, and older files.
#[test]
fn a_page_says_what_its_files_do_not_have() {
    let folder = directory();
    let fast = ["pace", "--rate", "2MB/s", "--record", "4KiB", "--for", "200ms"];
    let few =
        [&fast[..], &["--find-buffer", "--subjects", "ring", "--neighbour", "without"]].concat();
    let file = measured(folder.path(), "buffer.json", &few);
    let page = folder.path().join("page.html");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut document: Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        change(&mut document);
        let other = folder.path().join("changed.json");
        fs::write(&other, document.to_string()).unwrap();
        let _ = fs::remove_file(&page);
        page_of(&[other], &page);
        fs::read_to_string(&page).unwrap()
    };
    let html = changed(&|document| document["result"]["takes"][0]["missed_slots"] = 2345.into());
    assert!(html.contains("longest missed slots that were kept") && html.contains("2345"));
    let html = changed(&|document| {
        document["result"]["smallest"][0]["memory_bytes"] = Value::Null;
    });
    assert!(html.contains("every size that was tried lost something"));
    // As the first version wrote it.
    let html = changed(&|document| {
        for gone in ["held", "below", "least_held_bytes", "confirmed", "error"] {
            document["result"]["smallest"][0].as_object_mut().unwrap().remove(gone);
        }
        for gone in ["way", "disks", "in_memory", "load_start", "revision"] {
            document["environment"].as_object_mut().unwrap().remove(gone);
        }
    });
    assert!(html.contains("not confirmed"));
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
    fs::write(&bad, r#"{"format":99,"kind":"compare"}"#).unwrap();
    refused(&[bad_name, "--html", page_name], "format 99");
    fs::write(&bad, r#"{"format":1,"kind":"selftest"}"#).unwrap();
    refused(&[bad_name, "--html", page_name], "`selftest`");
    fs::write(&bad, r#"{"format":1,"kind":"pace"}"#).unwrap();
    refused(&[bad_name, "--html", page_name], "damaged");
    refused(&["--html", page_name], "RESULTS");
    refused(&[bad_name, "--html", bad_name], "--force");
    assert!(!page.exists());
}
