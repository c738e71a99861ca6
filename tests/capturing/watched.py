"""Watching how parameters are made: what the tests of initial values share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from first_values import agrees
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from surgery.capturing.initialisation import InitRecorder
from surgery.graph import Init

Build = Callable[[], nn.Parameter]


class Ways:
    """Ways of making a parameter that a test file lists, each tried on fake tensors and for real.

    A line with the comment `# decides` is the one that its initial value has to be traced to.
    """

    def __init__(self, file: str) -> None:
        self._file = Path(file)
        self._cases: dict[str, tuple[str, Build]] = {}
        self._for_real: set[str] = set()  # torch cannot move, cast or materialise modules of fake tensors

    def __call__(self, value: str, *, fake: bool = True) -> Callable[[Build], Build]:
        """Enters a function that makes a parameter, and what its first value is."""

        def register(build: Build) -> Build:
            self._cases[build.__name__] = (value, build)
            self._for_real.update(() if fake else (build.__name__,))
            return build

        return register

    def cases(self) -> list[tuple[str, bool]]:
        return [(name, fake) for name in self._cases for fake in (True, False) if not (fake and name in self._for_real)]

    def check(self, name: str, fake: bool) -> None:
        value, build = self._cases[name]
        torch.manual_seed(0)
        with watching(fake=fake) as recorder:
            parameter = build()
        init = recorder.of(parameter)
        assert init.value == value, init
        assert agrees(value, build()), f"it is not {value}"
        assert source_line(init.place, self._file).endswith("# decides"), init


@contextmanager
def watching(*, fake: bool) -> Iterator[InitRecorder]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = InitRecorder(mode if fake else None)
    if fake:
        with mode, recorder:
            yield recorder
    else:
        with recorder:
            yield recorder


def on_fake_tensors(build: Build) -> Init:
    with watching(fake=True) as recorder:
        parameter = build()
    return recorder.of(parameter)


def source_line(place: str | None, of: Path) -> str:
    """The line of a file that a place names."""
    file, _, line = (place or "").rpartition(":")
    assert file == of.name or file.endswith("/" + of.name), place
    return of.read_text(encoding="utf-8").splitlines()[int(line) - 1]
