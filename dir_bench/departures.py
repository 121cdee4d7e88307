"""What has to be said beside a run's numbers where published ones stand next to them."""

from dir_bench.schema import Config, Start, look_up


def missing_starts(config: Config) -> list[Start]:
    """Return what runs of this benchmark begin with as published, and this one does not."""
    return [start for start in config.dataset.start if look_up(config, start.key) is None]


def departures(config: Config) -> list[str]:
    """Return in short phrases what is missing at a run's start, and its groups of batch norm."""
    found = [start.without for start in missing_starts(config)]
    if config.trainer.batch_norm_groups > 1:
        found.append(f"batch norm in {config.trainer.batch_norm_groups} groups")
    return found
