"""Print the N-th command of README.md's "two commands", so that CI runs what README says and nothing else."""

import re
import sys
from pathlib import Path

readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
section = readme.split("## The two commands", 1)[1].split("\n## ", 1)[0]
print(re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)[int(sys.argv[1]) - 1].strip())
