"""The check of TF_CONFIG, the environment variable that describes the workers of a run."""

from __future__ import annotations

import json
import os

EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


def check_configuration() -> None:
    """Check TF_CONFIG. Raises ValueError that says what is wrong with it."""
    if problem := _problem(os.environ.get("TF_CONFIG")):
        raise ValueError(f"--strategy multiworker needs TF_CONFIG in the environment, such as {EXAMPLE}; {problem}")


def _problem(text: str | None) -> str | None:
    """What is wrong with a configuration; None where nothing is."""
    if not text:
        return "it is not set"
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        workers, task_type, index = cluster["worker"], task["type"], task["index"]
    except json.JSONDecodeError as error:
        return f"it is not JSON ({error})"
    except KeyError as error:
        return f"it has no {error.args[0]}"
    except (TypeError, IndexError):
        return "it has no objects cluster and task"
    if not isinstance(workers, list) or not all(isinstance(w, str) and ":" in w for w in workers):
        return f"its workers are {workers!r}, expected a list of HOST:PORT"
    ports = [worker.rpartition(":")[2] for worker in workers]
    if wrong := [port for port in ports if not port.isdecimal() or not 0 < int(port) < 2**16]:
        return f"{wrong[0]!r} is not a port, expected 1 to 65535"
    if len(set(workers)) < len(workers):
        return "it names a worker twice"
    if others := set(cluster) - {"worker"}:  # TensorFlow would let a chief write checkpoints, too
        return f"its cluster has {', '.join(sorted(others))}, expected worker alone"
    if task_type != "worker":
        return f"its task is of type {task_type!r}, expected worker"
    if not isinstance(index, int) or not 0 <= index < len(workers):
        return f"its index is {index!r}, expected 0 to {len(workers) - 1}"
    return None
