"""Write requirements/dev.lock: every package with its version and hashes, for all platforms, without addresses.

Needs `uv` on the PATH.
"""

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "requirements" / "dev.lock"


def main() -> None:
    """Compile the project's dependencies, its extras and the development group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    own = [extras[name] for name in ("node", "javascript", "testing", "demo")]
    wanted = [*project["project"]["dependencies"], *(one for extra in own for one in extra)]
    wanted += [one for one in project["dependency-groups"]["dev"] if not one.startswith("crdtdb")]
    compiled = subprocess.run(
        ["uv", "pip", "compile", "--universal", "--generate-hashes", "--python-version", "3.11", "--no-header",
         "--no-emit-index-url", "--no-annotate", "-"],
        input="\n".join(wanted), text=True, capture_output=True, check=True,
    )  # fmt: skip
    OUTPUT.write_text(compiled.stdout)


if __name__ == "__main__":
    main()
