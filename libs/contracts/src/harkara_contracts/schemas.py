"""The JSON Schemas of all contracts, and the rules by which one may follow another within a major version.

A reader of yesterday must survive a writer of today: nothing it relies on may vanish, narrow or become compulsory for
those who do not know of it yet.
"""

from typing import Any

from harkara_contracts.events import Event

Schema = dict[str, Any]

_LOWER_BOUNDS = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems"})
_UPPER_BOUNDS = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems"})


def schema_of(event: type[Event]) -> Schema:
    """Return an event's JSON Schema, self-contained, with its type name as title."""
    schema: Schema = event.model_json_schema(mode="serialization")
    schema["title"] = event.type_name()
    return schema


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Say how `new` would break a reader or a writer of `old`; an empty list is a compatible change."""
    return _compare(old, new, old.get("$defs", {}), new.get("$defs", {}), "")


def _compare(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, path: str) -> list[str]:
    old, new = _resolve(old, old_defs), _resolve(new, new_defs)
    place = path or "the event"
    old_kinds, new_kinds = _kinds(old, old_defs), _kinds(new, new_defs)
    problems = [f"{place}: {kind} is no longer allowed" for kind in sorted(old_kinds - new_kinds)]
    problems += [f"{place}: the value {value!r} is no longer allowed" for value in _lost_values(old, new)]
    problems += [f"{place}: {name} was tightened" for name in _tightened(old, new)]
    problems += _compare_fields(old, new, old_defs, new_defs, path)
    for keyword in ("items", "additionalProperties"):
        if isinstance(old.get(keyword), dict) and isinstance(new.get(keyword), dict):
            problems += _compare(old[keyword], new[keyword], old_defs, new_defs, f"{path}[]")
    problems += _compare_alternatives(old, new, old_defs, new_defs, path)
    return problems


def _compare_fields(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, path: str) -> list[str]:
    problems: list[str] = []
    fields = new.get("properties", {})
    for name, field in old.get("properties", {}).items():
        if name in fields:
            problems += _compare(field, fields[name], old_defs, new_defs, f"{path}.{name}")
        else:
            problems.append(f"{path}.{name}: the field was removed")
    compulsory = set(new.get("required", [])) - set(old.get("required", []))
    problems += [f"{path}.{name}: the field became compulsory" for name in sorted(compulsory)]
    relaxed = set(old.get("required", [])) - set(new.get("required", []))
    problems += [f"{path}.{name}: readers rely on the field, it became optional" for name in sorted(relaxed)]
    return problems


def _compare_alternatives(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, path: str) -> list[str]:
    """Compare `anyOf` branch by branch where the branches are objects, arrays or enums of the same kind."""
    branches = {next(iter(_kinds(one, new_defs)), ""): one for one in new.get("anyOf", [])}
    problems: list[str] = []
    for one in old.get("anyOf", []):
        kind = next(iter(_kinds(one, old_defs)), "")
        if kind in branches:
            problems += _compare(one, branches[kind], old_defs, new_defs, path)
    return problems


def _resolve(schema: Schema, definitions: Schema) -> Schema:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _kinds(schema: Schema, definitions: Schema) -> set[str]:
    schema = _resolve(schema, definitions)
    if "anyOf" in schema:
        return set().union(*(_kinds(one, definitions) for one in schema["anyOf"]))
    kind = schema.get("type")
    return {kind} if isinstance(kind, str) else set(kind or ())


def _lost_values(old: Schema, new: Schema) -> list[Any]:
    if "enum" not in new:
        return []
    return [value for value in old.get("enum", []) if value not in new["enum"]] if "enum" in old else list(new["enum"])


def _tightened(old: Schema, new: Schema) -> list[str]:
    found: list[str] = []
    for name in new:
        if name in _LOWER_BOUNDS and new[name] > old.get(name, float("-inf")):
            found.append(name)
        if name in _UPPER_BOUNDS and new[name] < old.get(name, float("inf")):
            found.append(name)
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        found.append("pattern")
    return found
