"""Open hostile model files, each in a process of its own with limited memory and time.

Usage: python -m benchmarks.robustness.hostile_models [--count 200] [--seed 0]
Each is a small model of dbsn with one to three wrong values in its header or tensors. It reports how many ran code,
took over 20 seconds, crashed, raised anything but a ValueError of one line that names the file, or took more memory
than twice their size and 32 MB, beyond what Python and torch take for a sound model.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from dbsn.config import NETWORKS, STUDENTS, ModelConfig, StudentConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.store.tensors import FORMAT, load_tensors

SPARE = 32 * 2**20
SECONDS, ADDRESSES = 20, 16 * 2**30
CODE = ("os:_exit", "ctypes:string_at", "time:sleep", "hostile_probe:ran", "PROBE.py:ran", "os.path:join")
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2, 10**9, 10**4000, 1.5, float("nan"), float("inf"), "", "a\x1b[31m\u202e", [], {}, [[1]],
    {"kind": "module"}, "x" * 10**5, ["a"] * 10**4, 2**63,
)  # fmt: skip


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the upper levels of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if len(path) > 6:
        return [path]
    return [path, *(place for key, each in inside for place in places(each, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with a new one at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def hostile(tensors: dict[str, torch.Tensor], header: dict[str, Any], chance: random.Random, probe: Path) -> bytes:
    """A model file with something wrong in it."""
    tensors, header = dict(tensors), json.loads(json.dumps(header))
    for _ in range(chance.randint(1, 3)):
        kind = chance.choice(("value", "value", "value", "code", "nan", "shape", "missing", "extra", "deep", "bytes"))
        name = chance.choice(list(tensors))
        if kind == "value" and isinstance(header, dict):
            header = put(header, chance.choice(places(header)[1:]), chance.choice(VALUES))
        elif kind == "code":
            code = chance.choice(CODE).replace("PROBE.py", str(probe))
            header = {"student": {"network": {"kind": "module", "factory": code}, "channels": 1}}
        elif kind == "nan":
            tensors[name] = torch.full_like(tensors[name], float("nan"))
        elif kind == "shape":
            tensors[name] = torch.zeros(chance.choice(((0,), (1,), (3, 5), (1000, 1000), (2**20,))))
        elif kind == "missing":
            tensors.pop(name)
        elif kind == "extra":
            tensors[chance.choice(("a/b", "student/x", "noise/kernel", "\x1b]0;a\x07"))] = torch.zeros(3)
        elif kind == "deep":
            header = {**header, "about": nested(900)} if isinstance(header, dict) else header
        if not tensors or not isinstance(header, dict):
            break
    text = json.dumps(header)
    if chance.random() < 0.05:
        text = "[" * 100_000 + "]" * 100_000
    content = bytearray(save(tensors, {"format": FORMAT, "header": text}))
    if chance.random() < 0.15:
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content[: chance.randrange(len(content))] if chance.random() < 0.05 else content)


def opened(path: Path, sound: Path, marks: Path) -> str:
    """What becomes of opening a file; in a process of its own, which has opened a sound one before."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        signal.alarm(SECONDS)
        load_model(sound)
        before, said = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "loaded"
        try:
            load_model(path)
        except ValueError as error:
            text = str(error)
            said = "refused" if text.startswith(str(path)) and "\n" not in text else f"not one line: {text[:200]!r}"
        except BaseException as error:
            said = f"traceback: {type(error).__name__}: {str(error)[:200]!r}"
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if taken > 2 * path.stat().st_size + SPARE:
            said = f"memory: {taken / 1e6:.0f} MB for {path.stat().st_size} bytes ({said})"
        os.write(writing, said.encode(errors="replace"))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitpid(process, 0)[1]
    if marks.exists():
        marks.unlink()
        return "ran code"
    return said or f"crash or hang: status {status}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marks, path, sound = folder / "ran", folder / "m.safetensors", folder / "sound.safetensors"
        (folder / "hostile_probe.py").write_text(f"open({str(marks)!r}, 'w')\n")
        sys.path.insert(0, name)
        blind = BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))
        student = Student(StudentConfig(network=STUDENTS["unet-tiny"]))
        save_model(sound, ModelFile(model=blind, student=student, about={"images": 3, "train": {"steps": 2}}))
        tensors, header = load_tensors(sound)
        found = Counter[str]()
        for _ in range(arguments.count):
            path.write_bytes(hostile(tensors, header, chance, folder / "hostile_probe.py"))
            found[opened(path, sound, marks)] += 1
    print(json.dumps(found, indent=2))
    sys.exit(0 if not set(found) - {"loaded", "refused"} else 1)


if __name__ == "__main__":
    main()
