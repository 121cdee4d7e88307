import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from dir_bench.errors import UserError
from dir_bench.evaluation.extra import check_name, extra_terms, more_is_better, names


def test_a_room_with_metrics_is_found_by_its_name() -> None:
    assert names() == ("none", "depth")
    assert extra_terms("none") is None
    terms = extra_terms("depth")
    assert terms is not None
    assert terms(np.array([2.0]), np.array([1.0]))["abs_rel"] == 1


def test_a_dataset_elsewhere_brings_its_own_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("their_house.reading")
    module.__dict__.update(terms=lambda p, t: {"hit": p == t}, HIGHER=("hit",))
    with pytest.raises(UserError, match=r"their_house.reading is not loaded"):
        extra_terms("their_house.reading")
    monkeypatch.setitem(sys.modules, "their_house.reading", module)
    assert not more_is_better("hit")
    terms = extra_terms("their_house.reading")
    assert terms is not None
    assert terms(np.array([1, 2]), np.array([1, 3]))["hit"].tolist() == [True, False]
    assert more_is_better("hit")


def test_an_unknown_word_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"dataset.extra_errors=dephts .*did you mean 'depth'"):
        check_name("dephts")
    with pytest.raises(UserError, match="has no function `terms`"):
        extra_terms("os.path")


@pytest.mark.parametrize("metric", ["mae", "gm", "abs_rel", "log10", "rmse"])
def test_errors_are_better_low(metric: str) -> None:
    assert not more_is_better(metric)


def test_the_direction_of_a_metric_is_known_without_torch() -> None:
    program = (
        "import sys; from dir_bench.evaluation.extra import more_is_better as m; "
        "assert all(map(m, ['delta1', 'delta3', 'pearson', 'f1_score'])); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
