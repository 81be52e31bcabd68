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


def answering():
    return {"it": Answering()}


def broken():
    return 1 / 0


def peer(name, folder, batch):
    """As `benchmarks.pjrt.peers.make`."""
    return {name: {"wrong": Answering, "broken": broken}[name]()}
