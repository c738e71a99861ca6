import pytest

from surgery.diagnostics import SurgeryError
from surgery.training import Task, load_task


@pytest.fixture
def names(tmp_path, monkeypatch):
    (tmp_path / "good_tasks.py").write_text(
        "class T:\n"
        "    def train_dataset(self): return [1]\n"
        "    def loss(self, model, batch): return 0\n"
        "def regression(): return T()\n"
        "def half(): return type('Half', (), {'loss': lambda s, m, b: 0})()\n"
        "number = 3\n"
    )
    (tmp_path / "bad_tasks.py").write_text("raise RuntimeError('no data here')\n")
    monkeypatch.syspath_prepend(tmp_path)


def problem(name):
    with pytest.raises(SurgeryError) as caught:
        load_task(name)
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.helps
    return diagnostic


@pytest.mark.usefixtures("names")
class TestLoading:
    def test_a_factory_gives_a_task(self):
        assert isinstance(load_task("good_tasks:regression"), Task)

    @pytest.mark.parametrize("name", ["good_tasks", ":regression", "good_tasks:", ""])
    def test_a_name_of_another_form(self, name):
        assert problem(name).code == "E0507"

    def test_a_package_that_is_not_installed(self):
        found = problem("no_such_package.tasks:regression")
        assert found.code == "E0507"
        assert "no_such_package" in found.message

    def test_a_module_that_fails(self):
        assert "RuntimeError: no data here" in problem("bad_tasks:regression").message

    def test_a_misspelt_factory_is_answered_with_the_nearest_name(self):
        found = problem("good_tasks:regresion")
        assert (found.code, found.helps) == ("E0507", ("did you mean `regression`?",))

    def test_what_is_no_factory_and_what_is_no_task(self):
        assert problem("good_tasks:number").code == "E0515"
        found = problem("good_tasks:half")
        assert (found.code, "`train_dataset`" in found.message) == ("E0515", True)
