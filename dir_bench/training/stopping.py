"""When a run gives up: the paper's words and the published STS-B code disagree."""

from collections.abc import Sequence
from typing import Literal

StopRule = Literal["no_progress", "newest_is_largest"]


def stops(values: Sequence[float], patience: int | None, rule: StopRule) -> bool:
    """Tell whether to stop after the newest of these evaluations.

    Args:
        values: What selects the best epoch, of each evaluation so far, newest last; lower is better.
        patience: Evaluations, at least one; None: never.
        rule: "no_progress", as the paper says: the last `patience` evaluations were all no better than the best before
            them. "newest_is_largest", as the published code does: there are more than `patience` + 1 evaluations, and
            none of the last `patience` + 1 is larger than the newest. A run whose error goes up and down above its
            best goes on for long under this rule, and one that rises at last ends at once.

    Source:
        Yang et al. 2021, App. C.1; behaviour of sts-b-dir/trainer.py.
    """
    if patience is None:
        return False
    if rule == "no_progress":
        return len(values) > 0 and len(values) - 1 - values.index(min(values)) >= patience
    return len(values) > patience + 1 and values[-1] >= max(values[-patience - 1 :])
