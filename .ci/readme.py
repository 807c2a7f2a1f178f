"""Run the README's shell and Python blocks in the order in which they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
text = (root / "README.md").read_text(encoding="utf-8")
blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
if not blocks:
    sys.exit("README.md has no block to run")
for language, code in blocks:
    print(f"--- README block ({language})\n{code}", flush=True)
    if language == "python":
        command = [sys.executable, "-c", code]
    else:
        # `make check` ran just before; `make test` would run the same tests again
        code = code.replace("make test", "true")
        path = f"{root / '.venv' / 'bin'}:"
        command = ["bash", "-euo", "pipefail", "-c", f'export PATH="{path}$PATH"\n{code}']
    subprocess.run(command, cwd=root, check=True)
print(f"{len(blocks)} README blocks ran")
