"""Objects that tests create in separate processes; this module is fast to import."""

import os
import time

import numpy as np


class Answering:
    """A contestant whose results are ones, with methods that fail in several ways."""

    def first(self):
        return np.ones((4, 10))

    def run(self, count):
        return count

    def fail(self):
        raise ValueError("no such luck\nsecond line")

    def sleep(self):
        time.sleep(60)

    def die(self):
        os._exit(3)


class Tired(Answering):
    """A contestant with correct results that fails while it is timed."""

    def __init__(self, first):
        self._first = first

    def first(self):
        return self._first

    def run(self, count):
        raise RuntimeError("no more")


def answering():
    return {"it": Answering()}


def broken():
    return 1 / 0


def peer(name, folder, batch):
    """Create a peer, in place of `benchmarks.stablehlo.peers.make`."""
    if name == "tired":
        from benchmarks.stablehlo.program import programs

        return {name: Tired(programs({"rawcnn": folder}, batch)["rawcnn"].first())}
    return {name: {"wrong": Answering, "broken": broken}[name]()}
