"""Write the lock files: every package with its version and hashes, for all platforms, without addresses.

`dev.lock` is for everything, `test.lock` the part of it that the unit tests need. Versions that are locked stay, and only
what is new in `pyproject.toml` is added, unless `--upgrade` chooses the newest of all. Needs `uv`, which is in `dev.lock`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = ("node", "javascript", "testing", "demo")


def compile_lock(group: str, *options: str) -> None:
    """Lock the project's dependencies, its extras and one group in `requirements/GROUP.lock`."""
    extras = [word for name in EXTRAS for word in ("--extra", name)]
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    subprocess.run(
        [uv, "pip", "compile", "pyproject.toml", *extras, "--group", group, "--output-file", f"requirements/{group}.lock",
         "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
         "--no-emit-index-url", "--quiet", *options],
        cwd=ROOT, check=True,
    )  # fmt: skip


def main() -> None:
    """Lock the `dev` group, then `test` at the same versions."""
    compile_lock("dev", *sys.argv[1:])
    compile_lock("test", "--constraint", "requirements/dev.lock")


if __name__ == "__main__":
    main()
