"""JSON Schemas of single values and of arrays."""

import itertools


def obj(properties, *required, **more):
    return {
        "type": "object",
        "properties": properties,
        "required": list(required or properties),
        **more,
    }


def types():
    names = ("null", "boolean", "integer", "number", "string", "array", "object")
    for name in names:
        yield f"type {name}", {"type": name}
        yield f"type {name} in object", obj({"v": {"type": name}})
    for one, other in itertools.combinations(names, 2):
        yield f"type {one} or {other}", obj({"v": {"type": [one, other]}})
    yield "type any", True
    yield "type empty", {}
    yield "type with titles", {"type": "string", "title": "T", "description": "D"}


def strings():
    for least, most in ((0, 0), (1, 1), (2, 5), (0, 40), (10, 12), (3, None)):
        schema = {"type": "string", "minLength": least}
        if most is not None:
            schema["maxLength"] = most
        yield f"length {least} {most}", obj({"s": schema})
    for name in (
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
    ):
        yield f"format {name}", obj({"s": {"type": "string", "format": name}})
        yield (
            f"format {name} or null",
            obj(
                {"s": {"anyOf": [{"type": "string", "format": name}, {"type": "null"}]}}
            ),
        )
    for name in (
        "int32",
        "int64",
        "byte",
        "password",
        "uri-reference",
        "color",
        "json",
    ):
        yield f"format unknown {name}", obj({"s": {"type": "string", "format": name}})
    yield "format and length", {"type": "string", "format": "email", "maxLength": 30}
    yield "contentEncoding", {"type": "string", "contentEncoding": "base64"}


def patterns():
    for number, pattern in enumerate(
        (
            r"^[a-z]+$",
            r"^[A-Z]{3}$",
            r"^\d{5}(-\d{4})?$",
            r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$",
            r"^#[0-9a-fA-F]{6}$",
            r"^v?\d+\.\d+\.\d+$",
            r"^[\w.+-]+@[\w-]+\.[a-z]{2,4}$",
            r"^(red|green|blue)$",
            r"^a|b$",
            r"foo",
            r"^x",
            r"y$",
            r"^.{3}$",
            r"^\S+$",
            r"^[^\s]+$",
            r"^$",
            r"^[a-z][a-z0-9_]{0,10}$",
            r"^(?:[01]\d|2[0-3]):[0-5]\d$",
            r"^\+?[1-9]\d{1,14}$",
            r"^https?://[^\s/]+/.*$",
            r"^\/[a-z\/]*$",
            r"^[\-\_\.]+$",
            r"^(a+?b*?)+?$",
            r"^(?<year>\d{4})-(?<month>\d\d)$",
            r"^(?=.*\d)(?=.*[a-z])[a-z0-9]{4,8}$",
            r"^\u0041\x42$",
            r"^[\u00e0-\u00ff]+$",
            r"^a{2,}$",
            r"^{a}$",
            r"^[]]$",
            r"^[a\]b]+$",
            r"^[.*+?]+$",
            r"^\t\n$",
            r"^\cJ$",
            r"^(?!foo)\w+$",
            r"\bword\b",
            r"^(a)\1$",
            r"^(?<=a)b$",
        )
    ):
        yield (
            f"pattern {number} {pattern}",
            obj({"s": {"type": "string", "pattern": pattern}}),
        )
    yield (
        "pattern and length",
        {
            "type": "string",
            "pattern": "^[ab]*$",
            "minLength": 2,
            "maxLength": 4,
        },
    )
    yield "pattern without type", obj({"s": {"pattern": "^[ab]+$"}})


def numbers():
    for kind in ("integer", "number"):
        for name, bounds in (
            ("min", {"minimum": 0}),
            ("max", {"maximum": 10}),
            ("range", {"minimum": -5, "maximum": 5}),
            ("percent", {"minimum": 0, "maximum": 100}),
            ("above", {"exclusiveMinimum": 0}),
            ("below", {"exclusiveMaximum": 0}),
            ("between", {"exclusiveMinimum": 1, "exclusiveMaximum": 4}),
            ("one", {"minimum": 7, "maximum": 7}),
            ("large", {"minimum": 1000000, "maximum": 999999999}),
            ("multiple", {"multipleOf": 5}),
            ("multiple in range", {"multipleOf": 3, "minimum": 1, "maximum": 20}),
            ("machine", {"minimum": -(2**63), "maximum": 2**63 - 1}),
        ):
            yield f"{kind} {name}", obj({"n": {"type": kind, **bounds}})
    for name, bounds in (
        ("fraction", {"minimum": 0.5, "maximum": 1.25}),
        ("latitude", {"minimum": -90, "maximum": 90}),
        ("quarter", {"multipleOf": 0.25, "minimum": 0, "maximum": 3}),
        ("tiny", {"minimum": 0.001, "maximum": 0.002}),
    ):
        yield f"number {name}", obj({"n": {"type": "number", **bounds}})


def values():
    for number, value in enumerate(
        (None, True, False, 0, -1, 42, 1.5, "", "x", 'a"b\n', "é", [], [1, "a"], {})
    ):
        yield f"const {number}", {"const": value}
        yield f"const {number} in object", obj({"v": {"const": value}})
    yield "const object", {"const": {"a": [1, None], "b": {"c": True}}}
    yield "enum texts", obj({"v": {"type": "string", "enum": ["celsius", "kelvin"]}})
    yield "enum without type", obj({"v": {"enum": ["a", "b", "ab"]}})
    yield "enum mixed", obj({"v": {"enum": ["a", 1, None, True, [1], {"k": 2}]}})
    yield "enum numbers", obj({"v": {"type": "integer", "enum": [1, 2, 40, 400]}})
    yield "enum type filters", obj({"v": {"type": "integer", "enum": [1, "a"]}})
    yield "enum long", obj({"v": {"enum": [f"item-{n}" for n in range(300)]}})
    yield "enum null", obj({"v": {"type": ["string", "null"], "enum": ["a", None]}})


def arrays():
    item = {"type": "integer", "minimum": 0, "maximum": 9}
    pair = [{"type": "string", "maxLength": 3}, item]
    for least, most in ((0, 0), (0, 3), (1, 1), (2, 4), (3, None), (0, 50)):
        schema = {"type": "array", "items": item, "minItems": least}
        if most is not None:
            schema["maxItems"] = most
        yield f"items {least} {most}", obj({"a": schema})
    yield "items any", obj({"a": {"type": "array", "maxItems": 3}})
    yield "items objects", {"type": "array", "items": obj({"x": item}), "maxItems": 3}
    yield (
        "items nested",
        {
            "type": "array",
            "items": {"type": "array", "items": item, "maxItems": 2},
            "maxItems": 2,
        },
    )
    yield "items false", {"type": "array", "items": False}
    yield "prefixItems", {"type": "array", "prefixItems": pair, "maxItems": 3}
    yield "prefixItems only", {"type": "array", "prefixItems": pair, "items": False}
    yield (
        "prefixItems all",
        {
            "type": "array",
            "prefixItems": pair,
            "minItems": 2,
            "items": item,
            "maxItems": 4,
        },
    )
    yield "uniqueItems", {"type": "array", "items": item, "uniqueItems": True}
    yield "uniqueItems one", {"type": "array", "uniqueItems": True, "maxItems": 1}
    yield "contains", {"type": "array", "contains": {"const": 5}, "maxItems": 4}
    yield (
        "contains with items",
        {
            "type": "array",
            "items": item,
            "contains": {"minimum": 5},
            "maxItems": 4,
        },
    )


def arrays_2():
    item = {"type": "integer", "minimum": 0, "maximum": 9}
    pair = [{"type": "string", "maxLength": 3}, item]
    yield (
        "minContains",
        {
            "type": "array",
            "contains": {"const": "x"},
            "minContains": 2,
            "maxItems": 4,
        },
    )
    yield "maxContains", {"type": "array", "contains": {"const": 1}, "maxContains": 1}
    yield (
        "unevaluatedItems",
        {
            "type": "array",
            "prefixItems": pair,
            "unevaluatedItems": False,
        },
    )
    yield "maxItems huge", {"type": "array", "items": item, "maxItems": 10**9}
