"""What the server of forks imports last: Hydra's parser and all YAML files, read once and not by each fork."""

from dir_bench import config

config.compose([])  # without Hydra's own settings
config.compose_job([])  # with them
