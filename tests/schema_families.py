"""Many JSON Schemas, made from the ideas of what people and programs write.

Each is `(name, schema)`. The names say the keyword first, so that a failure
tells which one broke.
"""

import itertools


def list_schemas():
    """List all schemas, in an order that never changes."""
    families = (
        types(),
        strings(),
        patterns(),
        numbers(),
        values(),
        arrays(),
        objects(),
        object_counts(),
        logic(),
        conditions(),
        references(),
        drafts(),
        tools(),
        records(),
    )
    schemas = list(itertools.chain.from_iterable(families))
    names = [name for name, _ in schemas]
    assert len(names) == len(set(names)), "a name comes twice"
    return schemas


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
    pair = [{"type": "string", "maxLength": 3}, item]
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


def objects():
    text = {"type": "string", "maxLength": 5}
    whole = {"type": "integer", "minimum": 0, "maximum": 99}
    both = {"a": text, "b": whole}
    yield "properties", {"type": "object", "properties": both}
    for required in (["a"], ["b"], ["a", "b"], ["b", "a"]):
        yield f"required {required}", obj(both, *required)
    yield "required unknown", obj(both, "a", "z")
    yield "required alone", {"type": "object", "required": ["k"], "maxProperties": 1}
    for name, rest in (("false", False), ("true", True), ("typed", whole)):
        yield f"additionalProperties {name}", obj(both, additionalProperties=rest)
        yield (
            f"additionalProperties {name} alone",
            {
                "type": "object",
                "additionalProperties": rest,
            },
        )
    yield (
        "additionalProperties nested map",
        {
            "type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": whole},
        },
    )
    yield "properties empty", {"type": "object", "properties": {}}
    yield "properties false", obj({"a": text, "b": False}, "a")
    yield "properties without type", {"properties": both, "required": ["a"]}
    yield (
        "properties odd names",
        obj(
            {
                "a-b": whole,
                "c.d": whole,
                "e f": whole,
                'g"h': whole,
                "é": whole,
                "": whole,
            }
        ),
    )
    yield (
        "properties named as keywords",
        obj(
            {
                "$ref": text,
                "const": text,
                "enum": text,
                "type": text,
                "properties": text,
            }
        ),
    )
    yield (
        "patternProperties",
        {
            "type": "object",
            "patternProperties": {"^s_": text, "^n_": whole},
            "additionalProperties": False,
        },
    )
    yield (
        "patternProperties open",
        {
            "type": "object",
            "patternProperties": {"^s_": text},
        },
    )
    yield (
        "patternProperties with properties",
        obj({"id": whole}, patternProperties={"^x-": text}, additionalProperties=False),
    )
    yield (
        "patternProperties meets property",
        obj({"x-id": {"minLength": 1}}, patternProperties={"^x-": text}),
    )
    yield (
        "patternProperties overlap",
        {
            "type": "object",
            "patternProperties": {"^a": text, "b$": whole},
        },
    )
    yield (
        "propertyNames pattern",
        {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z]{1,4}$"},
            "additionalProperties": whole,
        },
    )
    yield (
        "propertyNames enum",
        {
            "type": "object",
            "propertyNames": {"enum": ["en", "de"]},
            "additionalProperties": text,
        },
    )
    yield "propertyNames length", {"type": "object", "propertyNames": {"maxLength": 3}}
    yield (
        "propertyNames with properties",
        obj(both, propertyNames={"pattern": "^[a-z]$"}),
    )
    yield "unevaluatedProperties", {**obj(both), "unevaluatedProperties": False}
    yield (
        "unevaluatedProperties allOf",
        {
            "allOf": [obj({"a": text}), obj({"b": whole})],
            "unevaluatedProperties": False,
        },
    )
    yield "dependentRequired", obj(both, "b", dependentRequired={"a": ["b"]})
    yield (
        "dependentRequired optional",
        {
            "type": "object",
            "properties": {"card": text, "address": text, "name": text},
            "dependentRequired": {"card": ["address"]},
        },
    )
    yield (
        "dependentSchemas",
        {
            "type": "object",
            "properties": {"card": text},
            "dependentSchemas": {"card": obj({"address": text})},
        },
    )
    yield (
        "dependencies",
        {
            "type": "object",
            "properties": both,
            "dependencies": {"a": ["b"]},
        },
    )


def object_counts():
    text = {"type": "string", "maxLength": 5}
    names = dict.fromkeys("abc", text)
    for least, most in ((0, 0), (1, None), (0, 1), (1, 1), (2, None), (0, 2), (1, 3)):
        counts = {"minProperties": least} | (
            {"maxProperties": most} if most is not None else {}
        )
        yield (
            f"counts {least} {most}",
            {
                "type": "object",
                "properties": names,
                "additionalProperties": False,
                **counts,
            },
        )
        yield (
            f"counts {least} {most} of a map",
            {
                "type": "object",
                "additionalProperties": text,
                **counts,
            },
        )
    yield "counts required", obj(names, minProperties=3)


def logic():
    text = {"type": "string", "maxLength": 5}
    whole = {"type": "integer", "minimum": 0, "maximum": 99}
    yield "anyOf types", obj({"v": {"anyOf": [text, whole, {"type": "null"}]}})
    yield "anyOf objects", {"anyOf": [obj({"a": text}), obj({"b": whole})]}
    yield (
        "anyOf with siblings",
        {
            "type": "object",
            "properties": {"a": text, "b": whole},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
    )
    yield (
        "anyOf adds properties",
        {
            "type": "object",
            "properties": {"a": text},
            "required": ["a"],
            "anyOf": [obj({"b": whole}), obj({"c": whole})],
        },
    )
    yield "anyOf with false", obj({"v": {"anyOf": [False, text]}})
    yield "anyOf nested", {"anyOf": [{"anyOf": [text, whole]}, {"type": "boolean"}]}
    yield "oneOf types", obj({"v": {"oneOf": [text, whole]}})
    yield (
        "oneOf kinds",
        {
            "oneOf": [
                obj({"kind": {"const": "circle"}, "radius": whole}),
                obj({"kind": {"const": "square"}, "side": whole}),
            ]
        },
    )
    yield (
        "oneOf enums",
        {
            "oneOf": [
                obj({"kind": {"enum": ["a", "b"]}}),
                obj({"kind": {"enum": ["c"]}, "x": text}),
            ]
        },
    )
    yield "oneOf by required", {"oneOf": [obj({"a": text}), obj({"b": text})]}
    yield "oneOf overlapping", {"oneOf": [whole, {"type": "integer", "minimum": 5}]}
    yield (
        "oneOf ranges",
        {
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": 4},
                {"type": "integer", "minimum": 6, "maximum": 9},
            ]
        },
    )
    yield (
        "oneOf and anyOf",
        obj({"v": {"oneOf": [text, whole], "anyOf": [text, {"type": "null"}]}}),
    )
    yield "allOf objects", {"allOf": [obj({"a": text}), obj({"b": whole})]}
    yield "allOf one", {"allOf": [obj({"a": text})]}
    yield (
        "allOf refines",
        obj({"v": {"allOf": [{"type": "string"}, {"minLength": 2}, {"maxLength": 4}]}}),
    )
    yield (
        "allOf numbers",
        obj({"v": {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 5}]}}),
    )
    yield (
        "allOf deep",
        {
            "allOf": [
                obj({"p": obj({"x": whole})}),
                obj({"p": obj({"y": whole})}),
            ]
        },
    )
    yield (
        "allOf with anyOf",
        {"allOf": [{"anyOf": [obj({"a": text}), obj({"b": text})]}, obj({"c": whole})]},
    )
    yield "not type", obj({"v": {"not": {"type": "object"}, "maxLength": 4}})
    yield "not null", obj({"v": {"type": ["string", "null"], "not": {"type": "null"}}})
    yield "not const", obj({"v": {"enum": ["a", "b"], "not": {"const": "a"}}})
    yield "not enum", obj({"v": {"enum": [1, 2, 3], "not": {"enum": [1, 2]}}})
    yield (
        "not required",
        {
            "type": "object",
            "properties": {"a": text, "b": text},
            "not": {"required": ["a", "b"]},
        },
    )
    yield "not empty", obj({"v": text, "w": {"not": {}}}, "v")
    yield "not boolean", obj({"v": {"type": "boolean", "not": {"const": True}}})
    yield (
        "not anyOf",
        obj({"v": {"not": {"anyOf": [{"type": "object"}, {"type": "array"}]}}}),
    )
    yield "not pattern", obj({"v": {"type": "string", "not": {"pattern": "^x"}}})


def conditions():
    text = {"type": "string", "maxLength": 5}
    base = {"country": {"enum": ["us", "ca", "de"]}, "code": text}
    is_us = {"properties": {"country": {"const": "us"}}, "required": ["country"]}
    digits = {"properties": {"code": {"pattern": "^[0-9]{5}$"}}}
    yield "if then", obj(base, **{"if": is_us, "then": digits})
    yield (
        "if then else",
        obj(
            base,
            **{
                "if": is_us,
                "then": digits,
                "else": {"properties": {"code": {"const": ""}}},
            },
        ),
    )
    yield (
        "if optional",
        {
            "type": "object",
            "properties": base,
            "if": is_us,
            "then": {"required": ["code"]},
        },
    )
    yield (
        "if without required",
        {
            "type": "object",
            "properties": base,
            "if": {"properties": {"country": {"const": "us"}}},
            "then": {"required": ["code"]},
        },
    )
    yield (
        "if present",
        {
            "type": "object",
            "properties": {"a": text, "b": text},
            "if": {"required": ["a"]},
            "then": {"required": ["b"]},
            "else": {"properties": {"b": False}},
        },
    )
    yield (
        "if boolean",
        {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "level": {"type": "integer"}},
            "required": ["on"],
            "if": {"properties": {"on": {"const": True}}},
            "then": {"required": ["level"]},
        },
    )
    yield (
        "if in allOf",
        obj(
            base,
            allOf=[
                {"if": is_us, "then": digits},
                {
                    "if": {"properties": {"country": {"const": "de"}}},
                    "then": {"properties": {"code": {"minLength": 2}}},
                },
            ],
        ),
    )
    yield (
        "if range",
        obj(
            {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
            **{
                "if": {"properties": {"n": {"minimum": 5}}},
                "then": {"properties": {"n": {"multipleOf": 5}}},
            },
        ),
    )
    yield "if alone", {"type": "string", "maxLength": 4, "if": {"minLength": 2}}


def references():
    text = {"type": "string", "maxLength": 5}
    leaf = {"$defs": {"leaf": text}}
    yield "ref defs", {**obj({"a": {"$ref": "#/$defs/leaf"}}), **leaf}
    yield (
        "ref definitions",
        {
            **obj({"a": {"$ref": "#/definitions/leaf"}}),
            "definitions": {"leaf": text},
        },
    )
    yield (
        "ref with title",
        {
            **obj({"a": {"$ref": "#/$defs/leaf", "description": "d"}}),
            **leaf,
        },
    )
    yield (
        "ref with siblings",
        {
            **obj({"a": {"$ref": "#/$defs/leaf", "minLength": 2}}),
            **leaf,
        },
    )
    yield "ref at root", {"$ref": "#/$defs/leaf", **leaf}
    yield (
        "ref chain",
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"$ref": "#/$defs/b"}, "b": obj({"x": text})},
        },
    )
    yield (
        "ref anchor",
        {
            **obj({"a": {"$ref": "#leaf"}}),
            "$defs": {"x": {"$anchor": "leaf", **text}},
        },
    )
    yield (
        "ref id",
        {
            "$id": "https://example.com/root.json",
            **obj({"a": {"$ref": "leaf.json"}}),
            "$defs": {"x": {"$id": "leaf.json", **text}},
        },
    )
    yield (
        "ref escaped",
        {
            **obj({"a": {"$ref": "#/$defs/a~1b%20c"}}),
            "$defs": {"a/b c": text},
        },
    )
    yield "ref into properties", obj({"a": text, "b": {"$ref": "#/properties/a"}})
    yield (
        "ref tree",
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": obj(
                    {
                        "name": text,
                        "children": {
                            "type": "array",
                            "items": {"$ref": "#/$defs/node"},
                            "maxItems": 2,
                        },
                    }
                )
            },
        },
    )
    yield (
        "ref root list",
        {
            "type": "object",
            "properties": {
                "value": text,
                "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        },
    )
    yield (
        "ref mutual",
        {
            "$ref": "#/$defs/a",
            "$defs": {
                "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}},
                "b": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}},
            },
        },
    )
    yield (
        "ref recursive with siblings",
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {
                        "child": {"$ref": "#/$defs/node", "minProperties": 1},
                        "v": text,
                    },
                }
            },
        },
    )
    yield (
        "ref twice in allOf",
        {
            "allOf": [{"$ref": "#/$defs/base"}, obj({"extra": text})],
            "$defs": {"base": obj({"id": text})},
        },
    )
    yield (
        "ref expression",
        {
            "$ref": "#/$defs/e",
            "$defs": {
                "e": {
                    "anyOf": [
                        {"type": "integer", "minimum": 0, "maximum": 9},
                        obj(
                            {
                                "op": {"enum": ["+", "*"]},
                                "left": {"$ref": "#/$defs/e"},
                                "right": {"$ref": "#/$defs/e"},
                            }
                        ),
                    ]
                }
            },
        },
    )
    yield (
        "ref oneOf by kind",
        {
            "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
            "discriminator": {"propertyName": "kind"},
            "$defs": {
                "cat": obj({"kind": {"const": "cat"}, "lives": {"type": "integer"}}),
                "dog": obj({"kind": {"const": "dog"}, "name": text}),
            },
        },
    )


def drafts():
    yield (
        "draft 4 bounds",
        obj(
            {
                "n": {
                    "type": "integer",
                    "minimum": 0,
                    "exclusiveMinimum": True,
                    "maximum": 9,
                    "exclusiveMaximum": False,
                }
            }
        ),
    )
    yield (
        "draft 4 tuple",
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "type": "array",
            "items": [{"type": "integer"}, {"type": "boolean"}],
            "additionalItems": False,
        },
    )
    yield (
        "draft 7",
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "http://example.com/x",
            **obj({"a": {"type": "integer", "default": 3, "examples": [1]}}),
        },
    )
    yield "nullable", obj({"a": {"type": "string", "nullable": True, "maxLength": 3}})
    yield "float counts", {"type": "string", "minLength": 1.0, "maxLength": 3.0}
    yield (
        "unknown keywords",
        obj(
            {"a": {"type": "string", "x-order": 1, "deprecated": True, "example": "e"}}
        ),
    )
    yield "type upper case", {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    yield "type of Python", obj({"a": {"type": "int"}, "b": {"type": "list"}})
    yield "type unknown", obj({"a": {"type": "any"}, "b": {"type": "file"}})
    yield "required true", obj({"a": {"type": "integer", "required": True}})
    yield "comment", {"$comment": "c", "type": "boolean"}


def tools():
    text, whole = {"type": "string"}, {"type": "integer"}
    for number, properties in enumerate(
        (
            {"location": text, "unit": {"enum": ["celsius", "fahrenheit"]}},
            {"query": text, "limit": {**whole, "minimum": 1, "maximum": 50}},
            {"path": text, "content": text, "append": {"type": "boolean"}},
            {"command": text, "timeout_s": {"type": "number", "minimum": 0}},
            {"to": {"type": "array", "items": text}, "subject": text, "body": text},
            {"latitude": {"type": "number"}, "longitude": {"type": "number"}},
            {"sql": text, "parameters": {"type": "array"}},
            {"url": {**text, "format": "uri"}, "method": {"enum": ["GET", "POST"]}},
            {"headers": {"type": "object", "additionalProperties": text}},
            {"start": {**text, "format": "date"}, "end": {**text, "format": "date"}},
            {"expression": text},
            {"items": {"type": "array", "items": obj({"id": whole, "n": whole})}},
        )
    ):
        first = next(iter(properties))
        yield f"tool {number}", obj(properties, first)
        yield f"tool {number} strict", obj(properties, additionalProperties=False)


def records():
    """What programs generate from classes: pydantic, zod, TypeScript."""
    text, whole = {"type": "string"}, {"type": "integer"}
    person = obj({"name": text, "age": {**whole, "minimum": 0}, "email": text})
    yield "record person", person
    yield (
        "record optional",
        obj(
            {
                "name": text,
                "nick": {"anyOf": [text, {"type": "null"}], "default": None},
            },
            "name",
        ),
    )
    yield (
        "record defs",
        {
            "$defs": {"Person": person, "Color": {"enum": ["red", "blue"]}},
            **obj(
                {
                    "owner": {"$ref": "#/$defs/Person"},
                    "color": {"allOf": [{"$ref": "#/$defs/Color"}], "default": "red"},
                    "others": {"type": "array", "items": {"$ref": "#/$defs/Person"}},
                },
                "owner",
            ),
        },
    )
    yield (
        "record steps",
        obj(
            {
                "steps": {
                    "type": "array",
                    "items": obj({"explanation": text, "output": text}),
                },
                "final_answer": text,
            },
            additionalProperties=False,
        ),
    )
    yield (
        "record tuple",
        obj(
            {
                "point": {
                    "type": "array",
                    "prefixItems": [{"type": "number"}, {"type": "number"}],
                    "minItems": 2,
                    "maxItems": 2,
                }
            }
        ),
    )
    yield (
        "record map",
        obj({"scores": {"type": "object", "additionalProperties": {"type": "number"}}}),
    )
    for size in (1, 5, 20, 60):
        yield (
            f"record of {size}",
            obj(
                {
                    f"field_{n}": (text, whole, {"type": "boolean"})[n % 3]
                    for n in range(size)
                }
            ),
        )
        yield (
            f"record of {size} optional",
            {
                "type": "object",
                "properties": {f"f{n}": whole for n in range(size)},
            },
        )
    deep = text
    for _ in range(8):
        deep = obj({"inner": deep})
    yield "record deep", deep
    yield (
        "record widget",
        {
            "type": "object",
            "properties": {
                "type": {"const": "div"},
                "label": text,
                "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
            },
            "required": ["type", "label", "children"],
            "additionalProperties": False,
        },
    )
    yield (
        "record date range",
        obj(
            {
                "from": {**text, "format": "date-time"},
                "to": {**text, "format": "date-time"},
            }
        ),
    )
    yield (
        "record money",
        obj(
            {
                "amount": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
                "currency": {**text, "pattern": "^[A-Z]{3}$"},
            }
        ),
    )
