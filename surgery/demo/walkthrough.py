"""The demo, step by step: every step is a call of the public interface, or a command that a user would type."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import load_file
from torch import nn

import surgery
from surgery.capturing.build import build_model, example_inputs
from surgery.cli.main import main as surgery_command
from surgery.demo import embedding
from surgery.demo.pretrained import model_folder, spec_file
from surgery.demo.score import Score, score
from surgery.demo.task import Retrieval, retrieval

_EXAMPLES = 3
_SAME = 1e-5  # rounding of embeddings of length 1, where another process multiplies with other threads


@dataclass(frozen=True)
class Outcome:
    """What the demo measured: searches by the base model, and by the exported adapter under plain PEFT."""

    before: Score
    after: Score
    adapter: Path
    seconds: float


def walk_through(out: Path, *, steps: int, limit: int | None = None) -> Outcome:
    """Plan, adapt, train, export and check all-MiniLM-L6-v2, printing as it goes. Writes into the folder `out`.

    `limit` keeps only so many train and test functions each. Raises SurgeryError.
    """
    began = perf_counter()
    with _step("The task: find a standard-library function by the first line of its docstring"):
        task = _task(limit)
    with _step("The plan: what would be adapted, and what must not be touched"):
        print(f"$ surgery plan {_shown(spec_file())}\n")
        surgery_command(["plan", _shown(spec_file())])
        spec = surgery.load(spec_file())
        plan = surgery.plan(spec, surgery.read_graph(spec.graph_path))
    with _step("The base model, before"):
        model = build_model(spec, weights=model_folder() / "model.safetensors")
        before = task.score(model, progress="search")
        print(_figures("base model", before))
    with _step("Apply and verify, on the real weights"):
        torch.manual_seed(0)
        adapted = surgery.apply(model, plan)
        print(surgery.verify(adapted, plan, example_inputs(spec)))
    with _step(f"Train the adapters for {steps} steps"):
        result = surgery.train(adapted, plan, task, _training(out, steps))
        print(result.summary)
    with _step("Export, and search again by plain PEFT in a process that never imports surgery"):
        surgery.export(adapted, plan, out / "adapter", to="peft")
        reloaded = _embed_elsewhere(task, out)
        print(f"adapter   {_shown(out / 'adapter')}: {_size(out / 'adapter'):,} bytes")
        print(f"reloaded  max abs difference to the trained model {_difference(task, adapted, reloaded):.1g}")
        after = score(reloaded)
    seconds = perf_counter() - began
    _report(task, before, after)
    print(f"\n{seconds:.0f} s in all; the run, its logs and the adapter are in {_shown(out)}")
    return Outcome(before, after, out / "adapter", seconds)


@contextmanager
def _step(title: str) -> Iterator[None]:
    began = perf_counter()
    print(f"\n== {title}", flush=True)
    yield
    print(f"({perf_counter() - began:.1f} s)", flush=True)


def _task(limit: int | None) -> Retrieval:
    task = retrieval()
    task = Retrieval(task.train[:limit], task.test[:limit], task.tokenizer)
    families = {function.family for function in task.test}
    print(f"{len(task.train):,} functions to train on; {len(task.test):,} held out, from {len(families)} other modules")
    print(f"question  {task.test[0].summary!r}")
    print(f"answer    {task.test[0].module}.{task.test[0].name}, by its name, arguments and code without docstring")
    return task


def _training(out: Path, steps: int) -> surgery.TrainConfig:
    return surgery.TrainConfig(
        out=out / "run",
        steps=steps,
        batch_size=32,
        learning_rate=1e-3,
        warmup_steps=max(1, steps // 10),
        schedule="linear",
        weight_decay=0.01,
        log_every=10,
        progress=True,
    )


def _embed_elsewhere(task: Retrieval, out: Path) -> torch.Tensor:
    """The embeddings of all of `task.texts()` by plain transformers and PEFT, computed by a process of its own."""
    texts, embeddings = out / "texts.json", out / "embeddings.safetensors"
    texts.write_text(json.dumps(task.texts()), encoding="utf-8")
    arguments = [str(model_folder()), str(out / "adapter"), str(texts), str(embeddings)]
    # PEFT still uses a name that transformers is about to drop: nothing that a reader of the demo could act on.
    quiet = ["-W", "ignore::FutureWarning"]
    subprocess.run([sys.executable, "-I", *quiet, embedding.__file__, *arguments], check=True)
    return load_file(embeddings)["embeddings"]


def _difference(task: Retrieval, adapted: nn.Module, reloaded: torch.Tensor) -> float:
    """How far the reloaded model's embeddings of the summaries are from the trained model's."""
    summaries, _ = task.texts()
    own = embedding.embed_all(adapted, task.tokenizer, summaries, progress="compare")
    difference = (own - reloaded[: len(summaries)]).abs().max().item()
    assert difference < _SAME, f"plain PEFT embeds otherwise: {difference:g}"
    return difference


def _figures(name: str, found: Score) -> str:
    return (
        f"{name:<12} recall@1 {found.recall(1):6.1%} (standard error {found.standard_error(1):.1%})"
        f"   recall@10 {found.recall(10):6.1%}"
    )


def _report(task: Retrieval, before: Score, after: Score) -> None:
    gain, error = after.gain(before, 1)
    print(f"\n== Result, on {len(task.test):,} held-out functions")
    print(_figures("base model", before))
    print(_figures("adapted", after))
    print(f"{'gain':<12} recall@1 {100 * gain:+5.1f} points (standard error {100 * error:.1f})")
    wins = ((after.ranks == 0) & (before.ranks > 0)).nonzero().flatten().tolist()
    losses = ((after.ranks > 0) & (before.ranks == 0)).nonzero().flatten().tolist()
    print(f"now found first: {len(wins)}; no longer: {len(losses)}. Some of the first kind, and one of the second:")
    for index in [*wins[:: max(1, len(wins) // _EXAMPLES)][:_EXAMPLES], *losses[:1]]:
        found = [task.test[int(scored.first[index])] for scored in (before, after)]
        print(f"\n  {task.test[index].summary!r}")
        print(f"    before  {found[0].module}.{found[0].name}")
        print(f"    after   {found[1].module}.{found[1].name}")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _shown(path: Path) -> str:
    """A path as a user would type it from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
