"""JSON Schemas of objects, and of what programs make of their classes."""

from tests.schema_families_values import obj


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


def objects_2():
    text = {"type": "string", "maxLength": 5}
    whole = {"type": "integer", "minimum": 0, "maximum": 99}
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


def objects_3():
    text = {"type": "string", "maxLength": 5}
    whole = {"type": "integer", "minimum": 0, "maximum": 99}
    both = {"a": text, "b": whole}
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


def objects_4():
    text = {"type": "string", "maxLength": 5}
    whole = {"type": "integer", "minimum": 0, "maximum": 99}
    both = {"a": text, "b": whole}
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


def records_2():
    text, whole = {"type": "string"}, {"type": "integer"}
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


def records_3():
    text = {"type": "string"}
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
