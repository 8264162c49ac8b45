"""JSON Schemas of tools as an endpoint can take them: without references.

A schema is read as a tree whose leaves are raw, so numbers, strings, and what stands where a value
stands and no schema (`default`, `enum`) remain the bytes they were.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias
from urllib.parse import unquote

from xzpipe.core.rawjson import NotJson, Raw, array_of, fields, items, object_of, text

MAX_SCHEMA = 256 * 2**10  # bytes; references within references can grow exponentially

_DEFINITIONS = ("$defs", "definitions")
_NAMED = ("dependencies", "dependentSchemas", "patternProperties", "properties")
_VALUES = ("const", "default", "enum", "examples")
_DYNAMIC = ("$dynamicRef", "$recursiveRef")  # what they mean depends on who asks

Tree: TypeAlias = Raw | list["Tree"] | dict[str, "Tree"]


class _Named(dict[str, Tree]):
    """Schemas under names, which are no keywords even if they look like some."""


class _Definitions(_Named):
    """What stands under `$defs`."""


class _TooLarge(Exception):
    """More than `MAX_SCHEMA`."""


def inlined(schema: bytes | Raw) -> bytes | Raw:
    """A raw JSON Schema with every reference into itself replaced by what it refers to.

    What stands beside a `$ref` is merged over that and wins. A reference that is part of a cycle
    stays, with the definitions that it needs; so do references elsewhere and to nothing. Other
    definitions are dropped. What has no `$ref`, cannot be read, or is or becomes larger than
    `MAX_SCHEMA`, comes back as it is.
    """
    raw = bytes(schema)
    if b'"$ref"' not in raw or len(raw) > MAX_SCHEMA:
        return schema
    try:
        found = _dump(_Inliner(_schema(fields(raw))).whole())
    except (NotJson, RecursionError, _TooLarge):
        return schema
    return found if len(found) <= MAX_SCHEMA else schema


class _Inliner:
    """One schema. Its graph: the root and what is referred to, and which of these refers to which.

    Every reference stands in one of them, its home; nodes of the tree are known by their `id`.
    """

    def __init__(self, root: dict[str, Tree]) -> None:
        self._root = root
        self._left = MAX_SCHEMA
        self._uses: dict[int, list[list[Tree]]] = {}
        self._order: dict[int, int] = {}
        self._open: list[int] = []
        self._cycle: dict[int, int] = {}
        self._kept: set[int] = set()
        self._keep_all = False

    def whole(self) -> Tree:
        """The root with its references replaced. Raises `_TooLarge`."""
        self._find_kept()
        return self._expanded(self._root, self._root, in_place=True)

    def _find_kept(self) -> None:
        """Which definitions the references need that stay."""
        todo: list[Tree] = [self._root]
        seen: set[int] = set()
        while todo:
            home = todo.pop()
            if id(home) in seen:
                continue
            seen.add(id(home))
            for path in self._used(home):
                if not path:
                    self._keep_all = True  # it may mean one of them in a way that we do not know
                    continue
                if self._is_cyclic(home, path[-1]):
                    needed = [node for up, node in pairwise(path) if isinstance(up, _Definitions)]
                    self._kept.update(map(id, needed))
                    todo += needed
                todo.append(path[-1])

    def _expanded(self, node: Tree, home: Tree, in_place: bool) -> Tree:
        """A node of `home` with its references replaced. Definitions stay only `in_place`, where
        pointers find them, and not in copies."""
        self._spend(1)
        if isinstance(node, Raw):
            self._spend(len(node))
            return node
        if isinstance(node, list):
            return [self._expanded(each, home, in_place) for each in node]
        found: dict[str, Tree] = {}
        for key, value in node.items():
            if isinstance(value, _Definitions):
                kept = {
                    name: each for name, each in value.items() if in_place and self._keeps(each)
                }
                value = {name: self._expanded(each, each, True) for name, each in kept.items()}
                if not value:
                    continue
            else:
                value = self._expanded(value, home, in_place)
            self._spend(len(key))
            found[key] = value
        reference = _reference(node)
        path = self._path(reference) if reference is not None else []
        if not path or self._is_cyclic(home, path[-1]):
            return found
        del found["$ref"]
        meant = self._expanded(path[-1], path[-1], in_place=False)
        if isinstance(meant, dict):
            return {**meant, **found}
        if found and meant == Raw(b"false"):
            return {"not": {}, **found}
        return found or meant

    def _keeps(self, definition: Tree) -> bool:
        return self._keep_all or id(definition) in self._kept

    def _spend(self, count: int) -> None:
        """Count what goes out while it grows: to stop only at the end may be too late."""
        self._left -= count
        if self._left < 0:
            raise _TooLarge

    def _used(self, home: Tree) -> list[list[Tree]]:
        """The paths of all references that stand in `home`."""
        if id(home) not in self._uses:
            self._uses[id(home)] = [self._path(each) for each in _references(home)]
        return self._uses[id(home)]

    def _path(self, reference: str) -> list[Tree]:
        """The nodes from the root to what a reference means; none, if that is no schema in here."""
        pointer = unquote(reference.removeprefix("#"))
        if not reference.startswith("#") or not (pointer + "/").startswith("/"):
            return []
        path: list[Tree] = [self._root]
        for token in pointer.split("/")[1:]:
            node = _child(path[-1], token.replace("~1", "/").replace("~0", "~"))
            if node is None:
                return []
            path.append(node)
        return path if _is_schema(path[-1]) else []

    def _is_cyclic(self, home: Tree, target: Tree) -> bool:
        """Whether a reference that stands in `home` leads from its target back to `home`."""
        for node in (home, target):
            if id(node) not in self._order:
                self._visit(node)
        return self._cycle[id(home)] == self._cycle[id(target)]

    def _visit(self, node: Tree) -> int:
        """Tarjan's strongly connected components: sets `_cycle`, the same for all nodes of one."""
        key = id(node)
        low = self._order[key] = len(self._order)
        self._open.append(key)
        for target in (path[-1] for path in self._used(node) if path):
            if id(target) not in self._order:
                low = min(low, self._visit(target))
            elif id(target) not in self._cycle:
                low = min(low, self._order[id(target)])
        if low == self._order[key]:
            while key not in self._cycle:
                self._cycle[self._open.pop()] = key
        return low


def _schema(members: dict[str, Raw]) -> dict[str, Tree]:
    return {key: _member(key, raw) for key, raw in members.items()}


def _member(key: str, raw: Raw) -> Tree:
    if key in _VALUES:
        return raw
    if key in _DEFINITIONS + _NAMED and bytes(raw).startswith(b"{"):
        kind = _Definitions if key in _DEFINITIONS else _Named
        return kind((name, _tree(each)) for name, each in fields(raw).items())
    return _tree(raw)


def _tree(raw: Raw) -> Tree:
    start = bytes(raw)[:1]
    if start == b"[":
        return [_tree(each) for each in items(raw)]
    if start != b"{":
        return raw
    members = fields(raw)
    return raw if "$id" in members else _schema(members)  # with an id, its references start at it


def _dump(node: Tree) -> bytes:
    if isinstance(node, dict):
        return object_of({key: _dump(value) for key, value in node.items()})
    return array_of(map(_dump, node)) if isinstance(node, list) else bytes(node)


def _reference(node: dict[str, Tree]) -> str | None:
    found = node.get("$ref")
    return text(found) if isinstance(found, Raw) and not isinstance(node, _Named) else None


def _references(node: Tree) -> Iterator[str]:
    """The references that stand in a schema, though not those in its definitions."""
    if isinstance(node, list):
        for each in node:
            yield from _references(each)
    elif isinstance(node, dict):
        reference = _reference(node)
        if reference is not None:
            yield reference
        if not isinstance(node, _Named):
            yield from (key for key in _DYNAMIC if key in node)
        for value in node.values():
            if not isinstance(value, _Definitions):
                yield from _references(value)


_index = re.compile(r"0|[1-9][0-9]{0,5}").fullmatch


def _child(node: Tree, token: str) -> Tree | None:
    if isinstance(node, dict):
        return node.get(token)
    if isinstance(node, list) and _index(token) and int(token) < len(node):
        return node[int(token)]
    return None


def _is_schema(node: Tree) -> bool:
    if isinstance(node, Raw):
        return bytes(node) in (b"true", b"false")
    return isinstance(node, dict) and not isinstance(node, _Named)
