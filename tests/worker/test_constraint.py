"""Constraints: compiled, copied, masked, forced, and never silently lost."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import numpy as np
import pytest

from server.core.errors import EngineFailed, InvalidRequest
from server.text.schema import relax
from server.text.schema_fallback import settle, write_check
from server.worker import constraint as module
from server.worker import constraint_matcher
from server.worker.constraint import Constrainer
from tests.schema_families import list_schemas
from tests.worker import constraint_walk as walks

LONG = os.environ.get("CLOISTER_TEST_LONG") == "1"
SCHEMAS = list_schemas()
# Python's re reads these otherwise, or the schema is of another world than Python's.
NOT_FOR_PYTHON = ("(?<year>", "^\\cJ$", "type upper case", "type of Python")
# A text that has to hold something somewhere: chance does not find it.
SEARCHED = ("^a|b$", "pattern 9 foo", "pattern 11 y$", "^https?")


@pytest.fixture(scope="module")
def constrainer():
    return walks.make_constrainer()


def settled(constrainer, schema):
    relaxed = relax(schema, strict=False, param="response_format")
    return settle(relaxed, constrainer.check, strict=False, param="response_format")


def validate(schema, warnings, value):
    target = walks.strip_relaxed(schema, warnings)
    is_old = isinstance(schema, dict) and (
        "draft-04" in schema.get("$schema", "") or "exclusiveM" in json.dumps(schema)
    )
    kind = jsonschema.Draft202012Validator
    if is_old and ("true" in json.dumps(schema) or "draft-04" in json.dumps(schema)):
        kind = jsonschema.Draft4Validator
    kind(target, format_checker=kind.FORMAT_CHECKER).validate(value)


def test_the_set_of_schemas_is_large_enough():
    assert len(SCHEMAS) >= 300


@pytest.mark.parametrize(("name", "schema"), SCHEMAS, ids=[name for name, _ in SCHEMAS])
def test_random_answers_validate(constrainer, name, schema):
    written, warnings = settled(constrainer, schema)
    grammar = write_check(written)
    for seed in range(20 if LONG else 2):
        tokens = walks.walk(constrainer, grammar, seed)
        if tokens is None:
            assert any(part in name for part in SEARCHED)
            continue
        value = walks.read_json(tokens)
        if not any(part in name for part in NOT_FOR_PYTHON):
            validate(schema, warnings, value)


def test_all_schemas_but_the_impossible_ones_compile(constrainer):
    relaxed = [name for name, schema in SCHEMAS if settled(constrainer, schema)[1]]
    # Each of them has a keyword that SCHEMAS.md calls relaxed or in part.
    assert len(relaxed) <= 30


def test_a_mask_holds_exactly_what_is_accepted(constrainer):
    grammar = 'start: "ab" | "c"'
    allowed = np.flatnonzero(constrainer.compile(grammar).mask())
    assert [ord("a"), ord("c")] == allowed.tolist()
    for token in range(constrainer.compile(grammar).mask().size):
        expected = token in (ord("a"), ord("c"))
        assert expected == constrainer.compile(grammar).accept(token)


def test_a_token_that_must_not_come_changes_nothing(constrainer):
    constraint = constrainer.compile('start: "ab"')
    assert not constraint.accept(ord("b"))
    assert not constraint.accept(-1)
    assert not constraint.accept(10**6)
    assert constraint.accept(ord("a"))
    assert constraint.accept(ord("b"))
    assert constraint.is_complete


def test_apply_forbids_the_rest_and_keeps_what_is_allowed(constrainer):
    constraint = constrainer.compile('start: "a" | "b"')
    logits = np.arange(300, dtype=np.float32)
    constraint.prepare()
    constraint.apply(logits)
    assert [97, 98] == np.flatnonzero(np.isfinite(logits)).tolist()
    assert [97.0, 98.0] == logits[97:99].tolist()


def test_apply_after_accept_uses_a_new_mask(constrainer):
    constraint = constrainer.compile('start: "ab"')
    constraint.prepare()
    assert constraint.accept(ord("a"))
    logits = np.zeros(268, dtype=np.float32)
    constraint.apply(logits)
    assert [ord("b")] == np.flatnonzero(np.isfinite(logits)).tolist()


def test_prepare_may_run_in_another_thread(constrainer):
    constraint = constrainer.compile('start: "a"')
    thread = threading.Thread(target=constraint.prepare)
    thread.start()
    thread.join()
    logits = np.zeros(268, dtype=np.float32)
    constraint.apply(logits)
    assert 97 == int(logits.argmax())


def test_forced_tokens_are_what_must_come_and_no_end(constrainer):
    constraint = constrainer.compile('start: "ab" ("c" | "d")')
    assert list(b"ab") == constraint.forced()
    assert list(b"ab") == constraint.forced()
    assert constraint.replay(list(b"ab"))
    assert [] == constraint.forced()
    assert constraint.replay(list(b"c"))
    assert constraint.is_complete
    assert [] == constraint.forced()


def test_accepting_is_not_complete(constrainer):
    constraint = constrainer.compile("start: /a+/")
    assert not constraint.is_accepting
    assert constraint.accept(ord("a"))
    assert constraint.is_accepting
    assert not constraint.is_complete
    assert constraint.accept(walks.EOS)
    assert constraint.is_complete


def test_replay_keeps_what_came_before_the_first_misfit(constrainer):
    constraint = constrainer.compile('start: "abc"')
    assert not constraint.replay(list(b"abx"))
    assert list(b"c") == constraint.forced()


def test_a_copy_goes_on_by_itself(constrainer):
    one = constrainer.compile('start: "ab" | "ac"')
    assert one.accept(ord("a"))
    other = one.copy()
    assert one.accept(ord("b"))
    one.close()
    assert not other.is_complete
    assert not other.accept(ord("a"))
    assert other.accept(ord("c"))
    assert other.is_complete


def test_control_tokens_are_no_text(constrainer):
    grammar = 'start: /[^x]*/ <[257]> "x"'
    assert walks.takes(constrainer, grammar, "ab<|a|>x")
    assert not constrainer.compile(grammar).accept(walks.CONTROL["<|b|>"])
    spelled = constrainer.compile('start: "<|a|>"')
    assert not spelled.accept(walks.CONTROL["<|a|>"])
    assert spelled.replay(list(b"<|a|>"))


def test_a_bad_grammar_names_the_field_and_the_reason(constrainer):
    with pytest.raises(InvalidRequest, match=r"cannot be used: .*Correct or") as raised:
        constrainer.compile("start: missing", param="grammar")
    assert "grammar" == raised.value.param


def test_half_a_character_is_an_error_of_the_request(constrainer):
    grammar = 'start: "\ud800"'
    with pytest.raises(InvalidRequest, match="Character 8 is half of a surrogate"):
        constrainer.compile(grammar)
    assert "Character 8 is half" in constrainer.check(grammar)


def test_a_grammar_that_is_too_long_is_refused_with_both_numbers(constrainer):
    with pytest.raises(InvalidRequest) as raised:
        constrainer.compile("x" * (module.MAX_GRAMMAR_BYTES + 1))
    assert "4194305 characters, but at most 4194304" in raised.value.message


def go_on(constraint, n_tokens):
    for _ in range(n_tokens):
        assert constraint.accept(ord("x"))
        constraint.prepare()


AMBIGUOUS = 'start: a\na: "x" | "x" a | "x" a a | a a a "x"'


def test_a_grammar_whose_steps_grow_is_stopped_by_its_cost(constrainer, monkeypatch):
    monkeypatch.setattr(module, "FREE_S", 0.05)
    monkeypatch.setattr(module, "FREE_S_PER_TOKEN", 0.0005)
    constraint = constrainer.compile(AMBIGUOUS)
    with pytest.raises(EngineFailed, match=r"took 0\.\d s for \d+ tokens"):
        go_on(constraint, 3_000)


def test_a_matcher_in_error_is_an_error_and_lets_nothing_pass(constrainer, monkeypatch):
    monkeypatch.setattr(constraint_matcher, "_MAX_ITEMS_IN_ROW", 60)
    constraint = constrainer.compile(AMBIGUOUS + '\nb: "y"')
    with pytest.raises(EngineFailed, match="Simplify the schema or grammar"):
        go_on(constraint, 3_000)
    for use in (constraint.mask, constraint.prepare, lambda: constraint.accept(120)):
        with pytest.raises(EngineFailed):
            use()


def test_a_closed_constraint_is_an_error(constrainer):
    constraint = constrainer.compile('start: "a"')
    constraint.close()
    with pytest.raises(EngineFailed, match="closed and is still in use"):
        constraint.prepare()


def test_answers_with_the_same_grammar_do_not_touch_each_other(constrainer):
    one, two = (constrainer.compile('start: "ab"') for _ in range(2))
    assert one.replay(list(b"ab"))
    assert list(b"ab") == two.forced()


def test_the_vocabulary_is_read_once_and_only_when_wanted():
    made = []

    def make():
        made.append(1)
        return walks.make_tokenizer()

    constrainer = Constrainer(make)
    assert not constrainer.is_ready
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: constrainer.compile('start: "a"'), range(8)))
    assert [1] == made
    assert constrainer.is_ready


def test_only_some_grammars_are_kept():
    constrainer = walks.make_constrainer()
    for number in range(module.MAX_CACHED_GRAMMARS + 5):
        constrainer.compile(f'start: "{number}"')
    assert module.MAX_CACHED_GRAMMARS == len(constrainer._cache)
    assert sum(map(len, constrainer._cache)) == constrainer._cached_bytes


def test_a_verdict_tells_the_compilers_reason_without_the_grammar(constrainer):
    schema = {"patternProperties": {"^a": True, "b$": True}}
    verdict = constrainer.check(write_check(schema))
    assert "patternProperty regexes /^a/ and /b$/ are not disjoint" == verdict
    assert None is constrainer.check(write_check({"type": "string"}))


HOSTILE = {
    "counts in counts": "^(?:(?:a{1,1000}){1,1000}){1,1000}$",
    "blow-up": "^(?:a|b)*a(?:a|b){18}$",
    "blow-up in search": "a.{300}b.{300}c",
    "many classes": "^" + "".join(f"(?=.*{c})" for c in "abcdefghijklmnop") + ".{20,}$",
    "unicode": "^\\p{L}{1,5000}$",
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pattern_ends_soon(constrainer, pattern):
    written, _ = settled(constrainer, {"type": "string", "pattern": pattern})
    walks.walk(constrainer, write_check(written), 1)


@pytest.mark.timeout(30)
def test_hostile_schemas_end_soon(constrainer):
    doubling = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(25)
    }
    doubling["d25"] = {"type": "object", "properties": {"a": {"type": "string"}}}
    settled(constrainer, {"$ref": "#/$defs/d0", "$defs": doubling})
    options = [
        {"anyOf": [{"type": "object", "required": [f"a{i}_{j}"]} for j in range(8)]}
        for i in range(8)
    ]
    _, warnings = settled(constrainer, {"allOf": options})
    assert "Not enforced anywhere: allOf. schema too large." in warnings
