"""The picture of the design, read from the code: who may import whom, and where a dataset's or method's name stands."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from dir_bench import config

PACKAGE = Path(config.config_dir()).parent / "dir_bench"
if not PACKAGE.is_dir():
    PACKAGE = Path(config.__file__).resolve().parents[1]

ALLOWED = {
    "labels": {"errors"},
    "evaluation": {"labels", "errors"},
    "toggles": {"labels", "errors", "methods", "schema"},
    "backbones": {"errors", "atomic", "tensors"},
    "results": {"labels", "evaluation", "schema", "errors", "atomic", "files", "lazy", "toggles", "workers"}
    | {"bars", "cycles"},
    "files": {"errors", "lazy"},
}
"""What a room may import of the package, beside itself; others are bound by `FORBIDDEN` alone."""

FORBIDDEN = {
    "datasets": {"training", "experiment", "assembly", "cli", "results"},
    "methods": {"training", "experiment", "assembly", "cli", "results"},
    "training": {"experiment", "assembly", "cli"},
    "assembly": {"experiment", "cli"},
    "experiment": {"cli"},
    "sweeps": {"cli"},
}


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "_configs" in path.parts:
            continue
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@cache
def imports(name: str, tree: ast.AST, top_only: bool) -> set[str]:
    """Return the modules of the package that one imports; `top_only`: when it is imported itself."""

    def walk(node: ast.AST):
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if typing_only or (top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                continue
            yield child
            yield from walk(child)

    found = set()
    for node in walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name} imports relatively"
            found |= {m if (m := f"{node.module}.{alias.name}") in modules() else node.module for alias in node.names}
    return {module for module in found if module in modules()} - {name}


def room(module: str) -> str:
    return module.removeprefix("dir_bench").lstrip(".").split(".")[0]


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_room_imports_what_stands_below_it(name):
    wrong = {
        f"{module} imports {other}"
        for module, tree in modules().items()
        if room(module) == name
        for other in imports(module, tree, top_only=name == "toggles")
        if room(other) not in ALLOWED[name] | {name, ""}
    }
    assert not wrong


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_no_arrow_points_back(name):
    wrong = {
        f"{module} imports {other}"
        for module, tree in modules().items()
        if room(module) == name
        for other in imports(module, tree, top_only=False)
        if room(other) in FORBIDDEN[name]
    }
    assert not wrong


def test_no_import_goes_round_in_a_circle():
    graph = {name: imports(name, tree, top_only=True) for name, tree in modules().items()}
    assert tuple(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_labels_know_nothing_of_torch():
    for name, tree in modules().items():
        if room(name) == "labels":
            named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            assert "torch" not in named, name


def words_of(tree: ast.AST) -> set[str]:
    """Return the string constants of a module, but for docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and node.body
            and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
    return {node.value for node in constants if isinstance(node.value, str)}


@cache
def compared_words(tree: ast.AST) -> set[str]:
    """Return the string constants that a module compares something with."""
    compares = (node for node in ast.walk(tree) if isinstance(node, ast.Compare))
    parts = (part for node in compares for side in (node.left, *node.comparators) for part in ast.walk(side))
    return {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}


@pytest.mark.parametrize("dataset", config.options("dataset"))
def test_no_code_outside_of_its_module_asks_for_a_datasets_name(dataset):
    assert not {
        name for name, tree in modules().items() if room(name) != "datasets" and dataset in compared_words(tree)
    }


def test_a_methods_name_stands_in_its_module_alone():
    """Words that choose a method: in its module and its group's; in `naming`, which writes the rows of the paper."""
    words = {"smoter", "smogn", "rrt", "crt", "manifold", "focal_mse", "class_balanced", "stream"}
    homes = ("dir_bench.methods", "dir_bench.toggles", "dir_bench.labels.weights", "dir_bench.results.naming")
    wrong = {
        (name, word)
        for name, tree in modules().items()
        if not name.startswith(homes) and name != "dir_bench"
        for word in words & words_of(tree)
    }
    assert not wrong


def test_the_trainer_names_no_method():
    text = (PACKAGE / "training" / "trainer.py").read_text(encoding="utf-8")
    assert not [word for word in ("fds", "moments", "mix", "head ==", "lds", "reweight") if word in text.lower()]
    assert len(text.splitlines()) <= 350


def test_tests_look_for_shared_files_beside_the_checkout():
    tests = Path(__file__).parent
    for file in sorted(tests.rglob("*.py")):
        for steps in re.findall(r'\(__file__\)\.parents\[(\d)\] / "shared"', file.read_text(encoding="utf-8")):
            assert file.parents[int(steps)] == tests.parents[1], file
