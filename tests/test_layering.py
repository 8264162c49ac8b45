"""Who may import what, and that every module has its tests: the layout, checked by reading it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "xzpipe"
MAX_LINES = 270

# Each part and what of xzpipe it may import besides itself; all of it stands above it.
MAY_IMPORT = {
    "errors": (),
    "core": ("errors",),
    "config": ("core", "errors"),
    "agent_token": ("errors",),
    "background": (),
    "init": (),
    "outbox": (),
    "frames": (),
    "process": ("core", "errors", "outbox"),
    "websocket": ("core", "frames", "outbox"),
    "retry": ("core",),
    "logs": ("background", "core"),
    "guard": ("process",),
    "bridge": ("core",),
    "client": ("core", "errors"),
    "server_life": ("bridge", "core", "errors", "guard", "process", "retry"),
    "link_life": ("bridge", "core", "retry", "websocket"),
    "kept": (),
    "endpoint_life": ("bridge", "core", "kept", "link_life", "websocket"),
    "fleet": (
        "bridge", "config", "core", "endpoint_life", "guard", "kept", "server_life", "websocket",
    ),
    "agent": ("bridge", "core", "websocket"),
    "serve": ("agent", "bridge", "core", "frames", "websocket"),
    "hosting": ("agent_token", "bridge", "config", "core", "errors", "process", "serve"),
    "calling": ("bridge", "client", "config", "core", "errors", "fleet", "guard", "websocket"),
    "app": (
        "bridge", "calling", "client", "config", "core", "errors", "fleet", "guard", "process",
        "serve",
    ),
    "demo": ("app", "calling", "config", "core", "errors", "guard"),
    "cli": (
        "agent_token", "app", "calling", "config", "core", "demo", "errors", "guard",
        "hosting", "init", "logs", "process",
    ),
    "__main__": ("cli",),
}  # fmt: skip

# Third-party packages, and the only modules that may import them.
HOMES = {
    "click": {
        "cli/endpoint",
        "cli/inspect",
        "cli/main",
        "cli/options",
        "cli/render",
        "cli/run",
        "cli/serve",
    },
    "cryptography": {"agent_token"},
    "dotenv": {"config/env"},
    "rich": {"cli/render", "logs"},
    "tenacity": {"retry"},
    "websockets": {"frames", "serve", "websocket"},
    "yaml": {"config/load"},
}
ANYWHERE = {"anyio", "msgspec"}  # but see the core
DISTRIBUTIONS = {"dotenv": "python-dotenv", "yaml": "pyyaml"}  # where it has another name

IMPURE = {
    "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os", "pathlib",
    "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl",
    "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip

# Tests of what is no module of xzpipe: the test kit, an example, and this.
OTHER_TESTS = {
    "test_endpoints", "test_servers", "test_layering", "core/test_hub_properties",
    "core/test_policy_properties", "test_robots", "demo/test_example_calculator",
}  # fmt: skip

MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in PACKAGE.rglob("*.py")
}


def imported(name: str) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(dotted: str) -> str:
    return dotted.partition(".")[0]


def parts_of_xzpipe(name: str) -> set[str]:
    """The parts of xzpipe that a module imports."""
    own = (dotted.split(".")[1] for dotted in imported(name) if dotted.startswith("xzpipe."))
    return {part for part in own if part in MAY_IMPORT}


def attributes_of(name: str, module: str) -> set[str]:
    """What a module of xzpipe uses of `module`, as in `os.environ`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(MODULES[name].read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == module
    }


def test_the_table_itself_has_layers():
    seen: set[str] = set()
    for part, below in MAY_IMPORT.items():
        assert seen.issuperset(below), f"{part} may import what stands beside or below it"
        seen.add(part)


def test_the_table_names_every_part_and_nothing_else():
    assert set(MAY_IMPORT) == {top(name.replace("/", ".")) for name in MODULES} - {"__init__"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_its_layer_may(name):
    part = name.partition("/")[0]
    allowed = set(MAY_IMPORT.get(part, ())) | {part}
    assert parts_of_xzpipe(name) <= allowed


def test_the_table_allows_nothing_that_is_not_used():
    for part, below in MAY_IMPORT.items():
        used = [parts_of_xzpipe(name) for name in MODULES if name.partition("/")[0] == part]
        assert set().union(*used) - {part} == set(below), part


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("core/")))
def test_the_core_touches_nothing_outside_itself(name):
    tops = {top(dotted) for dotted in imported(name)}
    assert tops & IMPURE == set()
    third_party = tops - set(sys.stdlib_module_names) - {"xzpipe"}
    assert third_party <= {"msgspec"}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(MODULES[name].read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert calls.isdisjoint({"print", "open", "input", "exec", "eval", "__import__"})


def test_a_third_party_package_is_imported_in_its_home_alone():
    homes: dict[str, set[str]] = {}
    for name in MODULES:
        for package in {top(dotted) for dotted in imported(name)}:
            if package not in sys.stdlib_module_names and package not in {"xzpipe", *ANYWHERE}:
                homes.setdefault(package, set()).add(name)
    assert homes == HOMES


def test_what_is_imported_is_what_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.match(r"[\w-]+", each)[0] for each in project["dependencies"]}
    assert required == {DISTRIBUTIONS.get(each, each) for each in ANYWHERE | set(HOMES)}


def test_the_environment_is_read_in_one_place():
    readers = {
        name
        for name in MODULES
        if attributes_of(name, "os") & {"environ", "environb", "getenv", "putenv"}
    }
    assert readers == {"cli/options"}


def test_no_module_is_too_long():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name for name, length in lengths.items() if length > MAX_LINES} == set()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_says_what_it_is(name):
    assert ast.get_docstring(ast.parse(MODULES[name].read_text()))


def test_every_module_has_its_tests_and_every_test_its_module():
    tests = {
        path.relative_to(ROOT / "tests").with_suffix("").as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.relative_to(ROOT / "tests").parts[0] not in ("benchmarks", "e2e", "docs")
    }
    expected = {
        re.sub(r"(\w+)$", r"test_\1", name)
        for name in MODULES
        if not name.endswith(("__init__", "__main__"))
    }
    assert expected - tests == set(), "modules without tests"
    assert tests - expected - OTHER_TESTS == set(), "tests of no module"
