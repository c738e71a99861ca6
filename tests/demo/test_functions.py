"""The data of the demo: real functions, and a split that leaks nothing."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

from surgery.demo.functions import Function, split, standard_library


@pytest.fixture(scope="module")
def functions() -> list[Function]:
    return standard_library()


def test_there_is_enough_to_learn_and_to_measure(functions: list[Function]) -> None:
    train, test = split(functions)
    assert len(train) > 2000
    assert len(test) > 1000
    assert len(train) + len(test) == len(functions)


def test_train_and_test_share_nothing(functions: list[Function]) -> None:
    train, test = split(functions)
    assert not {f.family for f in train} & {f.family for f in test}
    assert not {f.summary.lower() for f in train} & {f.summary.lower() for f in test}
    assert not {f.code for f in train} & {f.code for f in test}


def test_every_answer_is_unambiguous(functions: list[Function]) -> None:
    assert len({f.summary.lower() for f in functions}) == len({f.code for f in functions}) == len(functions)


def test_python_and_c_versions_of_a_module_are_one_family() -> None:
    assert Function("_pydecimal", "f", "", "").family == Function("decimal", "f", "", "").family == "decimal"
    assert Function("_collections_abc", "f", "", "").family == "collections_abc"
    assert Function("email.mime.text", "f", "", "").family == "email"


def test_a_known_function_is_read_as_python_sees_it(functions: list[Function]) -> None:
    [found] = [f for f in functions if (f.module, f.name) == ("shlex", "quote")]
    real = importlib.import_module("shlex").quote
    assert found.summary == (inspect.getdoc(real) or "").splitlines()[0]
    assert found.code.startswith("quote(s)\n")
    own = ast.parse(inspect.getsource(real)).body[0]
    assert isinstance(own, ast.FunctionDef)
    assert found.code.endswith(ast.unparse(own.body[-1]))


def test_the_question_is_not_written_in_the_answer(functions: list[Function]) -> None:
    long = [f for f in functions if len(f.summary) > 40]
    assert sum(f.summary in f.code for f in long) / len(long) < 0.01
