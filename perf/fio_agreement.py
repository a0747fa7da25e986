#!/usr/bin/env python3
"""Do the floors agree with fio? Both in turn, on a file in the same state, in the same minutes.

    cargo build --release -p writeflush-perf
    python3 perf/fio_agreement.py target/release/writeflush-perf DIRECTORY

Needs fio (Debian: fio). 4 KiB records into a written file, one committer. Prints for each floor the
median over the rounds of (floor / fio), with the least and the greatest.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

# The tool commits as many to each of twenty files (and two more to warm up); fio goes twenty times
# over one of the same length, since the page cache keeps longer files in larger pieces.
LAPS = 20
COMMITS = 102
ROUNDS = 15
# What fio does for the same system calls; `synced` adds the time of its own fdatasync.
FLOORS = {
    "floor pwrite+fdatasync": ("--ioengine=psync --direct=1 --fdatasync=1", True),
    "floor page cache+fdatasync": ("--ioengine=psync --direct=0 --fdatasync=1", True),
    "floor O_DSYNC pwrite": ("--ioengine=psync --direct=1 --sync=dsync", False),
    "floor io_uring write DSYNC": ("--ioengine=io_uring --direct=1 --sync=dsync", False),
    "floor mmap+msync": ("--ioengine=mmap --fdatasync=1", True),
}


def fio(options, synced, folder):
    """Median and mean time of a durable write, in µs."""
    path = os.path.join(folder, "fio")
    with open(path, "wb") as file:
        file.write(os.urandom(COMMITS * 4096))
        os.fsync(file.fileno())
    command = f"fio --name=x --filename={path} --rw=write --bs=4k --size={COMMITS * 4096}"
    command += f" --loops={LAPS} --overwrite=1 --invalidate=0 --fallocate=none --lat_percentiles=1 --output-format=json {options}"
    job = json.loads(subprocess.check_output(command.split()))["jobs"][0]
    median = job["write"]["lat_ns"]["percentile"]["50.000000"]
    if synced:
        median += job["sync"]["lat_ns"]["percentile"]["50.000000"]
    os.remove(path)
    return median / 1e3, job["write"]["runtime"] * 1e3 / job["write"]["total_ios"]


def floor(tool, name, folder):
    result = os.path.join(folder, "floor.json")
    command = [tool, "compare", "--samples", str(LAPS * (COMMITS - 2)), "--records", "4KiB", "--states", "written"]
    command += ["--committers", "1", "--stream", "0", "--subjects", name, "--json", result, "--force"]
    subprocess.run(command + [folder], check=True, capture_output=True)
    with open(result) as file:
        rows = json.load(file)["result"]["cells"][0]["rows"]
    latency = next(row for row in rows if row["subject"] == name)["measured"]["flush_us"]
    return latency["p50"], latency["mean"]


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: fio_agreement.py TOOL DIRECTORY")
    tool, directory = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        print("floor / fio: median of the rounds (least to greatest)")
        for name, (options, synced) in FLOORS.items():
            ratios = []
            for turn in range(ROUNDS):
                # Who begins changes.
                if turn % 2:
                    theirs, ours = fio(options, synced, folder), floor(tool, name, folder)
                else:
                    ours, theirs = floor(tool, name, folder), fio(options, synced, folder)
                ratios.append([a / b for a, b in zip(ours, theirs)])
            line = f"{name:30}"
            for what, values in zip(("p50", "mean"), zip(*ratios)):
                low, middle, high = min(values), statistics.median(values), max(values)
                line += f"  {what} {middle:.3f} ({low:.3f} to {high:.3f})"
            print(line, flush=True)


main()
