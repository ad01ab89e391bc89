import re
import time

from server.dialects.openai.answers import json_response, make_head


def test_each_answer_has_an_identity_of_its_own():
    first, second = make_head("cmpl-"), make_head("cmpl-")
    assert re.fullmatch(r"cmpl-[0-9a-z]{21}", first.id)
    assert first.id != second.id
    assert abs(first.created_s - time.time()) < 60


def test_an_answer_is_json_in_utf8():
    response = json_response({"a": "é"})
    assert '{"a":"é"}'.encode() == response.body
    assert "application/json; charset=utf-8" == response.headers["content-type"]
