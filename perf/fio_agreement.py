#!/usr/bin/env python3
"""Do the floors agree with fio? Both in turn, on files in the same state, in the same minutes.

    cargo build --release -p writeflush-cli
    python3 perf/fio_agreement.py target/release/writeflush DIRECTORY [WORD …]

Needs fio (Debian: fio). 4 KiB records into written files, one committer; only floors whose name
contains a WORD, if any is given. Prints for each floor the median over the rounds of (floor / fio),
with the least and the greatest. Exit status: 0 the p50 of every floor is within 10 % of fio's; 1 one
is off; 2 it can't be measured.

What both do, as strace shows it:

* Every file is written through the page cache, synced and dropped from it (fio: `invalidate`, the
  default), then 52 records go into it in order; 40 files. A longer file, or one that is still in the
  page cache, is another state: `msync` writes the whole folio that a byte lies in, and how large
  folios are depends on how they got there.
* fio gives the kernel no advice on mappings (`fadvise_hint=0`): sequential advice reads ahead more,
  in larger folios.
* fio's `mmap` engine answers `fdatasync` with an `msync` of the whole mapping, the floor with one of
  the record: the pages of older records are clean by then, so that both write the same.
* fio has no RWF_DSYNC: it opens the file with O_DSYNC, which the kernel turns into the same flag of
  each write (IOCB_DSYNC).
* fio can't link: its io_uring write and fdatasync are submitted one after the other, and both times
  are added. The floor saves a way into the kernel. The two times leave out a fifth of what passes
  from one record to the next, since fio's clock of an asynchronous fdatasync begins late; with
  system calls they leave out next to nothing. So what they leave out, on average, is added too.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

# The tool's laps: a floor and its A/A row have 20 blocks of two laps.
FILES = 40
WARM_UP, TURNS = 2, 50
RECORD = 4096
ROUNDS = 15
BAR = 0.10

URING = "--ioengine=io_uring --fixedbufs=1 --registerfiles=1 --nonvectored=1"
# What fio does for the same system calls; `--fdatasync` adds the time of its own flush.
FLOORS = {
    "floor pwrite+fdatasync": "--ioengine=psync --direct=1 --fdatasync=1",
    "floor page cache+fdatasync": "--ioengine=psync --direct=0 --fdatasync=1",
    "floor O_DSYNC pwrite": "--ioengine=psync --direct=1 --sync=dsync",
    "floor pwritev2 DSYNC": "--ioengine=pvsync2 --direct=1 --sync=dsync",
    "floor io_uring write DSYNC": f"{URING} --direct=1 --sync=dsync",
    "floor io_uring write→fdatasync": f"{URING} --direct=1 --fdatasync=1",
    "floor mmap+msync": "--ioengine=mmap --fdatasync=1",
}


class CantMeasure(Exception):
    pass


def run(command, **options):
    try:
        return subprocess.run(command, check=True, capture_output=True, **options).stdout
    except FileNotFoundError as error:
        raise CantMeasure(f"{command[0]} is not there: {error.strerror}; see --help") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise CantMeasure(f"{command[0]} failed: {said[-1]}") from error


def fio(options, folder):
    """Median and mean time of a durable write, in µs."""
    length = (WARM_UP + TURNS) * RECORD
    names = [f"fio-{index}" for index in range(FILES)]
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"\x5a" * length)
            file.flush()
            os.fsync(file.fileno())
    command = ["fio", "--name=x", f"--filename={':'.join(names)}", f"--filesize={length}"]
    command += ["--rw=write", f"--bs={RECORD}", "--file_service_type=sequential", "--overwrite=1"]
    command += ["--fallocate=none", "--fadvise_hint=0", "--lat_percentiles=1"]
    command += ["--output-format=json", *options.split()]
    job = json.loads(run(command, cwd=folder))["jobs"][0]
    times = [job["write"]["lat_ns"]]
    if "--fdatasync" in options:
        times.append(job["sync"]["lat_ns"])
    for name in names:
        os.remove(os.path.join(folder, name))
    median = sum(time["percentile"]["50.000000"] for time in times) / 1e3
    mean = sum(time["mean"] for time in times) / 1e3
    if len(times) > 1:
        passed = job["job_runtime"] * 1e3 / job["write"]["total_ios"]
        median, mean = median + passed - mean, passed
    return median, mean


def floor(tool, name, folder):
    result = os.path.join(folder, "floor.json")
    command = [tool, "compare", "--samples", str(FILES * TURNS), "--records", str(RECORD)]
    command += ["--states", "written", "--committers", "1", "--stream", "0", "--subjects", name]
    run([*command, "--json", result, "--force", folder])
    with open(result) as file:
        rows = json.load(file)["result"]["cells"][0]["rows"]
    figures = next(row for row in rows if row["subject"] == name).get("measured")
    if figures is None:
        raise CantMeasure(f"{name} can't be measured here")
    return figures["flush_us"]["p50"], figures["flush_us"]["mean"]


def circumstances():
    cpu = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    version = run(["fio", "--version"]).decode().strip()
    return f"{date}, Linux {platform.release()}, {version}, {os.cpu_count()} × {cpu}"


def compare(tool, name, folder):
    """Ratios of p50 and of the mean, a pair a round."""
    ratios = []
    for turn in range(ROUNDS):
        # Who begins changes.
        if turn % 2:
            theirs, ours = fio(FLOORS[name], folder), floor(tool, name, folder)
        else:
            ours, theirs = floor(tool, name, folder), fio(FLOORS[name], folder)
        ratios.append([a / b for a, b in zip(ours, theirs)])
    return zip(*ratios)


def main():
    parser = argparse.ArgumentParser(description="Do the floors of `cargo perf compare` agree with fio?")
    parser.add_argument("tool", help="the built writeflush")
    parser.add_argument("directory", help="on the disk to be measured")
    parser.add_argument("words", nargs="*", help="only floors whose name contains one of them")
    given = parser.parse_args()
    words = given.words or [""]
    names = [name for name in FLOORS if any(word in name for word in words)]
    if not names:
        parser.error(f"no floor's name contains that; there are: {', '.join(FLOORS)}")
    if not os.path.isdir(given.directory):
        parser.error(f"{given.directory} is no directory")
    tool = os.path.abspath(given.tool)
    off = []
    try:
        print(circumstances())
        print("floor / fio: median of the rounds (least to greatest)")
        with tempfile.TemporaryDirectory(dir=given.directory) as folder:
            for name in names:
                p50s, means = compare(tool, name, folder)
                line = f"{name:30}"
                for what, values in (("p50", p50s), ("mean", means)):
                    low, middle, high = min(values), statistics.median(values), max(values)
                    line += f"  {what} {middle:.3f} ({low:.3f} to {high:.3f})"
                if abs(statistics.median(p50s) - 1) > BAR:
                    off.append(name)
                    line += f"  OFF by more than {BAR:.0%}"
                print(line, flush=True)
    except CantMeasure as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if off else 0


sys.exit(main())
