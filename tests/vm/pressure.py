# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts a machine under memory pressure, and what was written meanwhile to the test.

pressure.py press PID KEEP PRESS STUCK FOLDER...
    In each folder one process writes blocks of a file here and there, with fsync; one stores to the
    pages of a shared mapping, and leaves them to the system; one makes small files, with fsync and
    sync. Meanwhile, and for PRESS seconds at most, a hog takes all memory but KEEP KiB of what is
    free or clean. When the writers are done a line of JSON tells what was seen, also of the threads
    of the process PID. If in a folder none gets on for STUCK seconds, it tells who waits where, and
    fails: one alone may be waiting for what all the others write, sync(2) does.

pressure.py check NOTES
    Reads back what the writers have noted, in that folder, to have written.

NOTES is where they note it.
"""

import glob
import json
import mmap
import os
import random
import sys
import time

BLOCK = 64 * 1024
FILE = 16 << 20
PAGE = mmap.PAGESIZE

# One page, shared by all: how far each writer has come.
STEPS = mmap.mmap(-1, PAGE)


def step(seed):
    """Of the writer with that seed."""
    done = int.from_bytes(STEPS[seed * 8:seed * 8 + 8], "little") + 1
    STEPS[seed * 8:seed * 8 + 8] = done.to_bytes(8, "little")


def content(seed, number, generation, length):
    """As many bytes that say whose they are, where, and which time it is."""
    return b"%12d.%12d.%5d\n" % (seed, number, generation) * (length // 32)


# --- writers


def note(path, seed, length, generations):
    with open(f"{os.environ['NOTES']}/{path.replace('/', '_')}", "w", encoding="ascii") as file:
        json.dump({"path": path, "seed": seed, "length": length, "generations": generations}, file)


def write_blocks(path, seed):
    dice = random.Random(seed)
    generations = [0] * (FILE // BLOCK)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    order = list(range(len(generations))) * 2
    dice.shuffle(order)
    for i, number in enumerate(order):
        generations[number] += 1
        data = content(seed, number, generations[number], BLOCK)
        if os.pwrite(fd, data, number * BLOCK) != BLOCK:
            sys.exit(f"{path}: a short write")
        step(seed)
        if i % 64 == 63:
            os.fsync(fd)
    note(path, seed, BLOCK, generations)


def write_pages(path, seed):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(fd, FILE)
    memory = mmap.mmap(fd, FILE)
    for generation in 1, 2:
        for number in range(FILE // PAGE):
            memory[number * PAGE:(number + 1) * PAGE] = content(seed, number, generation, PAGE)
            step(seed)
    note(path, seed, PAGE, [2] * (FILE // PAGE))


def write_files(path, seed):
    os.mkdir(path)
    for number in range(90):
        name = f"{path}/{number}"
        with open(name, "wb", buffering=0) as file:
            file.write(content(seed, 0, number, 16384))
            if number % 5 == 0:
                os.fsync(file.fileno())
        note(name, seed, 16384, [number])
        step(seed)
        if number % 45 == 44:
            os.sync()


def check(notes):
    names = glob.glob(notes + "/*")
    for name in names:
        with open(name, encoding="ascii") as file:
            wanted = json.load(file)
        length = wanted["length"]
        with open(wanted["path"], "rb") as file:
            for number, generation in enumerate(wanted["generations"]):
                if file.read(length) != content(wanted["seed"], number, generation, length):
                    sys.exit(f"{wanted['path']}: block {number} is not what was written")
            if file.read(1):
                sys.exit(f"{wanted['path']} is longer than it was")
    print(len(names))


# --- pressure


def memory_now():
    """KiB that could be had at once, and that would have to be written first."""
    with open("/proc/meminfo", encoding="ascii") as file:
        info = {line.split(":")[0]: int(line.split()[1]) for line in file}
    dirty = info["Dirty"] + info["Writeback"]
    return info["MemFree"] + info["Active(file)"] + info["Inactive(file)"] - dirty, dirty


def hog(keep):
    taken = []
    while True:
        n = min(memory_now()[0] - keep, 4096) * 1024 // PAGE
        if n > 0:
            taken.append(mmap.mmap(-1, n * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS |
                                   mmap.MAP_POPULATE))
        else:
            time.sleep(0.05)


def oom_score_adj(value):
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(value))


def start(what, *arguments):
    pid = os.fork()
    if pid == 0:
        try:
            if what is hog:
                oom_score_adj(1000)
            what(*arguments)
            sys.stdout.flush()
            os._exit(0)
        except BaseException as error:  # pylint: disable=broad-except # nothing of the parent's may run here
            print(f"{what.__name__}: {error!r}", flush=True)
            os._exit(1)
    return pid


def look_at_tasks(pid, tasks):
    """Of each name: the flags that all have, and the faults of the one that had most."""
    for path in glob.glob(f"/proc/{pid}/task/*/stat"):
        try:
            with open(path, encoding="ascii") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(") ", 1)
        except OSError:
            continue
        fields = rest.split()
        kind = "iou-wrk" if name.startswith("iou-wrk") else name
        task = tasks.setdefault(kind, {"flags": -1, "minor": 0, "major": 0})
        task["flags"] &= int(fields[6])
        task["minor"] = max(task["minor"], int(fields[7]))
        task["major"] = max(task["major"], int(fields[9]))


def stalls():
    """How often somebody had to look for memory himself."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("allocstall"))


def tell_who_waits():
    for path in glob.glob("/proc/[0-9]*/task/*/stat"):
        try:
            with open(path, encoding="ascii") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(") ", 1)
            with open(path[:-4] + "stack", encoding="ascii") as file:
                stack = file.read()
        except OSError:
            continue
        if rest[0] == "D" or "dmiod" in name or "loop" in name or "fuse" in stack:
            print(f"--- {path} {name} {rest[0]}\n{stack}", flush=True)
    with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
        file.write("w")


class Writers:
    """Three for each folder."""

    def __init__(self, folders):
        self.running = {}
        self.since = {folder: (b"", time.monotonic()) for folder in folders}
        for i, folder in enumerate(folders):
            for j, what in enumerate((write_blocks, write_pages, write_files)):
                pid = start(what, f"{folder}/{what.__name__}", 3 * i + j)
                self.running[pid] = folder, what.__name__

    def stuck(self, limit):
        """The folders where nobody has got on for so many seconds."""
        now, found = time.monotonic(), []
        for i, folder in enumerate(self.since):
            steps, since = self.since[folder]
            if STEPS[24 * i:24 * i + 24] != steps:
                self.since[folder] = STEPS[24 * i:24 * i + 24], now
            elif now - since > limit and any(folder == of for of, _ in self.running.values()):
                found.append(folder)
        return found


class Seen:
    """What is told in the end."""

    def __init__(self, pid):
        self.pid, self.begun, self.stalls = pid, time.monotonic(), stalls()
        self.first, self.tasks, self.hogs = {}, {}, 0
        self.least, self.most_dirty = memory_now()
        look_at_tasks(pid, self.first)

    def look(self):
        available, dirty = memory_now()
        self.least = min(self.least, available)
        self.most_dirty = max(self.most_dirty, dirty)
        look_at_tasks(self.pid, self.tasks)

    def seconds(self):
        return round(time.monotonic() - self.begun)

    def tell(self):
        for name, task in self.tasks.items():
            task["minor"] -= self.first.get(name, task)["minor"]
        print(json.dumps({"seconds": self.seconds(), "stalls": stalls() - self.stalls, "hogs": self.hogs,
                          "least_kib": self.least, "most_dirty_kib": self.most_dirty,
                          "tasks": self.tasks}), flush=True)


def press(pid, keep, press_seconds, stuck_seconds, folders):
    seen, writers = Seen(pid), Writers(folders)
    hog_pid, failed = None, []
    while writers.running and not failed:
        pressing = seen.seconds() < press_seconds
        if pressing and hog_pid is None:
            hog_pid = start(hog, keep)
            seen.hogs += 1
        elif hog_pid is not None and not pressing:
            os.kill(hog_pid, 9)
        time.sleep(0.2)
        seen.look()
        stuck = writers.stuck(stuck_seconds)
        if stuck:
            failed.append(f"nobody gets on in {', '.join(stuck)}")
            tell_who_waits()
        while writers.running:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            if ended == hog_pid:
                hog_pid = None
                continue
            writer = writers.running.pop(ended)
            if status != 0:
                failed.append(f"{writer} ended with {status}")
    for child in [hog_pid, *writers.running]:
        if child is not None:
            os.kill(child, 9)
    seen.tell()
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    if sys.argv[1] == "press":
        press(*map(int, sys.argv[2:6]), sys.argv[6:])
    else:
        check(sys.argv[2])
