"""What tests make in processes of their own; nothing here takes long to import."""

import os
import time

import numpy as np


class Answering:
    """A contestant whose answers are all ones, and what can go wrong with one."""

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
    """Its answers are right, but it fails while it is timed."""

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
    """As `benchmarks.stablehlo.peers.make`."""
    if name == "tired":
        from benchmarks.stablehlo.program import programs

        return {name: Tired(programs({"rawcnn": folder}, batch)["rawcnn"].first())}
    return {name: {"wrong": Answering, "broken": broken}[name]()}
