"""Run the README's blocks in the order in which they stand: all, or those of one language.

Usage: readme.py [sh | python]

Shell blocks run in the checkout. Python blocks run where this is called, with this interpreter, or
with the one in the checkout's .venv that the shell blocks made.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
text = (root / "README.md").read_text(encoding="utf-8")
blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
only = sys.argv[1] if sys.argv[1:] else None
python = sys.executable if only == "python" else str(root / ".venv" / "bin" / "python")
ran = 0
for language, code in blocks:
    if only not in (None, language):
        continue
    # the tests have a step of their own, which installs what they need
    code = code.replace("make test", "true")
    print(f"--- README block ({language})\n{code}", flush=True)
    if language == "python":
        subprocess.run([python, "-c", code], check=True)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=root, check=True)
    ran += 1
if not ran:
    sys.exit(f"README.md has no block to run of {only or 'sh or python'}")
print(f"{ran} README blocks ran")
