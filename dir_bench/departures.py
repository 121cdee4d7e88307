"""What has to be said beside a run's numbers where published ones stand next to them."""

from dir_bench.schema import Config, look_up


def departures(config: Config) -> list[str]:
    """Return in short phrases what a benchmark begins with and a run does not, and its groups of batch norm."""
    found = [start.without for start in config.dataset.start if look_up(config, start.key) is None]
    if config.trainer.batch_norm_groups > 1:
        found.append(f"batch norm in {config.trainer.batch_norm_groups} groups")
    return found
