"""No module imports itself by way of others, neither at its top, nor in a function, nor for its types alone."""

import ast
from pathlib import Path

REPO = Path(__file__).parent.parent
ROOTS = {name: REPO / name for name in ("schemas", "warehouse", "pipelines", "jobs", "tailrace")}
ROOTS["tailrace_emitter"] = REPO / "emitter" / "tailrace_emitter"
FOR_TYPES = "pipelines.detect."
"""Here the scan and the bound of a detector name its class, for types alone: the class imports them when it runs."""


def modules():
    """Name of each module -> its file."""
    found = {}
    for name, folder in ROOTS.items():
        for file in folder.rglob("*.py"):
            parts = [name, *file.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(file, known, *, types):
    """Modules that ``file`` imports anywhere; those for types alone where ``types``."""
    tree, found = ast.parse(file.read_text()), set()
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for each in node.body
        for inner in ast.walk(each)
    }
    for node in ast.walk(tree):
        if id(node) in guarded and not types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (full & known) | ({node.module} if full - known else set())
    return found & known


def circles(graph):
    """Modules that reach themselves."""
    found = set()
    for start in graph:
        seen, left = set(), list(graph[start])
        while left:
            if (module := left.pop()) not in seen:
                seen.add(module)
                left += graph[module]
        if start in seen:
            found.add(start)
    return found


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    assert len(known) > 500, "the folders were found"
    graph = {name: imports(file, set(known), types=False) - {name} for name, file in known.items()}
    assert circles(graph) == set()


def test_nor_for_types_alone_but_in_the_detectors():
    known = modules()
    graph = {name: imports(file, set(known), types=True) - {name} for name, file in known.items()}
    assert {name for name in circles(graph) if not name.startswith(FOR_TYPES)} == set()


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}
