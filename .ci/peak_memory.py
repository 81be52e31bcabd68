"""Watch the memory of a process and all its descendants: `peak_memory.py PID FILE` writes the peak to FILE.

FILE holds one line, the largest sum of resident memory so far, and is replaced whenever that grows. Processes that
share pages are counted in full each, so the sum is an upper bound. Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def processes() -> dict[int, tuple[int, int]]:
    """Process → (its parent, its resident bytes)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The second field, the name in parentheses, may hold spaces: split after it.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        found[int(folder.name)] = int(fields[1]), int(fields[21]) * PAGE
    return found


def resident(root: int) -> int:
    """Resident bytes of `root` and all its descendants, without this process."""
    table = processes()
    total, family = 0, [root]
    while family:
        parent = family.pop()
        total += table[parent][1] if parent in table else 0
        family += [pid for pid, (its_parent, _) in table.items() if its_parent == parent and pid != os.getpid()]
    return total


def watch(root: int, file: Path, interval: float = 0.5) -> None:
    peak = 0
    while Path(f"/proc/{root}").exists():
        now = resident(root)
        if now > peak:
            peak = now
            file.write_text(f"{peak / 2**30:.2f} GiB\n")
        time.sleep(interval)


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
