"""The operations of every model as committed text: what each reads, computes, and with which settings.

`python -m tests.rawcnn.models.fingerprints` writes `fingerprints/MODEL.txt`, from a symbolic trace in training mode at
the model's own size and classes, so that dropout and auxiliary heads are in it. After a change of a model compare the
new text with the paper or the published code before you commit it; `fingerprints/README.md` says what each was checked
against.

An operation is a line: its name within the module, what it computes, and what it reads. Modules that differ only in
their name and their inputs are listed once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rawcnn import models
from rawcnn.nn.trace import Operation, symbolic_trace
from tests.rawcnn.conformance import TABLE, Case

FOLDER = Path(__file__).parent / "fingerprints"
CASES = {case.id: case for case in TABLE}


def fingerprint(case: Case) -> str:
    """Return the text of a model's operations."""
    model = models.find_model(case.name)
    function = model.configured(model.classes, **case.options)
    operations = symbolic_trace(function, (1, model.size, model.size, 3), train=True).operations
    modules: dict[str, list[Operation]] = {}  # a NASNet cell's last ReLU comes after the first step of the next cell
    for operation in operations:
        modules.setdefault(operation.name.split("/")[0], []).append(operation)
    lines, known = [], {}
    for module, members in modules.items():
        body, reads = _module(module, members)
        header = f"{module} reads {', '.join(reads)}"
        if body in known:
            lines.append(f"{header}: as {known[body]}")
        else:
            known[body] = module
            lines += [header, *body]
    return "\n".join(lines) + "\n"


def _module(module: str, operations: Iterable[Operation]) -> tuple[tuple[str, ...], list[str]]:
    """Return the lines of a module's operations, and the operations of other modules that they read.

    In the lines, `$1` is the first of the latter.
    """
    reads: list[str] = []
    lines = []
    for operation in operations:
        inputs = []
        for name in operation.inputs:
            own = name == module or name.startswith(f"{module}/")
            if not own and name not in reads:
                reads.append(name)
            inputs.append("." + name.removeprefix(module) if own else f"${reads.index(name) + 1}")
        lines.append(f"  .{operation.name.removeprefix(module)} = {_describe(operation)} of {', '.join(inputs)}")
    return tuple(lines), reads


def _describe(operation: Operation) -> str:
    """Return the kind, the shapes of the parameters and the settings of an operation, and the shape of its output."""
    shapes = [f"{p.path.rsplit('/', 1)[1]} {'×'.join(map(str, p.shape))}" for p in operation.parameters]
    settings = [f"{key} {value}" for key, value in sorted(operation.settings.items())]
    output = "×".join(map(str, operation.output_shape[1:]))
    return f"{operation.kind}[{', '.join((*shapes, *settings))}] → {output}"


def main() -> None:
    """Write all fingerprints."""
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        (FOLDER / f"{name}.txt").write_text(fingerprint(case))


if __name__ == "__main__":
    main()
