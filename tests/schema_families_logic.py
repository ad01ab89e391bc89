"""JSON Schemas that are made of others."""

from tests.schema_families_values import obj


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


def logic_2():
    text = {"type": "string", "maxLength": 5}
    whole = {"type": "integer", "minimum": 0, "maximum": 99}
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


def logic_3():
    text = {"type": "string", "maxLength": 5}
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


def conditions_2():
    text = {"type": "string", "maxLength": 5}
    base = {"country": {"enum": ["us", "ca", "de"]}, "code": text}
    is_us = {"properties": {"country": {"const": "us"}}, "required": ["country"]}
    digits = {"properties": {"code": {"pattern": "^[0-9]{5}$"}}}
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


def references_2():
    text = {"type": "string", "maxLength": 5}
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


def references_3():
    text = {"type": "string", "maxLength": 5}
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


def references_4():
    text = {"type": "string", "maxLength": 5}
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
