"""Watch the memory of a process and all its descendants: `peak_memory.py PID FILE` writes the peak to FILE.

FILE holds one line, the largest sum of resident memory so far, and is replaced whenever that grows. A page that
several processes share, such as one of TensorFlow's library, counts once. Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def parents() -> dict[int, int]:
    """Process → its parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The second field, the name in parentheses, may hold spaces: split after it.
            found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    return found


def family(root: int) -> list[int]:
    """Return `root` and all its descendants, without this process."""
    table = parents()
    found = [root]
    for parent in found:  # which grows
        found += [pid for pid, its_parent in table.items() if its_parent == parent and pid != os.getpid()]
    return found


def resident(process: int) -> int:
    """Resident bytes of a process, all shared pages among them; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def proportional(process: int) -> int:
    """Resident bytes of a process, with its share of the pages that others have, too; 0 if it has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def watch(root: int, file: Path, interval: float = 2.0) -> None:
    peak = 0
    while Path(f"/proc/{root}").exists():
        processes = family(root)
        # Counting the shares stops a process for as long as its pages are read, so only what may be a new peak is
        now = sum(map(proportional, processes)) if sum(map(resident, processes)) > peak else 0
        if now > peak:
            peak = now
            file.write_text(f"{peak / 2**30:.2f} GiB\n")
        time.sleep(interval)


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
