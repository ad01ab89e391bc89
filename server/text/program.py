"""A chat template, compiled, and run within all limits.

What goes in has the form that the template wants; what comes out is its text,
or an error in words for a client. Nothing here knows of control tokens: the
sentinel is only handed on to the sandbox.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from jinja2 import TemplateSyntaxError

from server.text.controls import NONCHARACTERS, ControlTexts
from server.text.deadline import run_limited
from server.text.meter import RefusedError
from server.text.sandbox import ChatEnvironment, TemplateRaisedError
from server.text.shapes import Turn

_log = logging.getLogger(__name__)

MAX_SOURCE_CHARS: Final = 256 * 1024
MAX_OUTPUT_CHARS: Final = 32 * 1024 * 1024
MAX_WORK_CHARS: Final = 256 * 1024 * 1024
"""How much text one render may make on its way, thrown away or not."""
MAX_RENDER_S: Final = 10.0
MAX_REASON_CHARS: Final = 1000

_PROBE: Final = "Cloister 7261"
_STUDY_TIME: Final = datetime(2001, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class TemplateError(Exception):
    """The template cannot be used, or not for this conversation.

    `message` says what happened and what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class TemplateProgram:
    """A compiled template.

    Args:
        source: Jinja text, at most `MAX_SOURCE_CHARS`.
        bos: Text of the token that begins a text, or "".
        eos: Text of the token that ends one, or "".
        controls: The control texts of the vocabulary.
        limit_s: Seconds that compiling and each render may take.

    Raises:
        TemplateError: The source is too long or is no valid template.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str,
        eos: str,
        controls: ControlTexts,
        limit_s: float,
    ) -> None:
        self._limit_s = limit_s
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(
                f"The model's chat template has {len(source)} characters, more than "
                f"the {MAX_SOURCE_CHARS} allowed. Use another file of this model."
            )
        self.source = source
        self.eos = eos
        self.controls = controls
        self._special = {"bos_token": bos, "eos_token": eos, "tools": None}
        self._environment = ChatEnvironment(controls)
        self._template = self.run(lambda: self._environment.compile_bounded(source))
        self._wants_parts = self._wants_tools = False
        self.run(self._adapt)

    @property
    def control_texts(self) -> frozenset[str]:
        """The texts of the vocabulary's control tokens."""
        return self.controls.texts

    def draw(
        self,
        turns: list[Turn],
        *,
        tools: list[dict[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = False,
    ) -> str | None:
        """Render turns as they are; None if the template fails on them.

        No text is protected, and no time limited but by `explore`.
        """
        settings = self.make_settings(
            _STUDY_TIME, tools, add_generation_prompt=add_generation_prompt
        )
        given = {**(variables or {}), **settings, "messages": turns}
        try:
            return self.generate(given, "")
        except Exception:  # noqa: BLE001 a foreign program: it shows nothing so
            return None

    def explore(self, action: Callable[[], T]) -> T | None:
        """Run something that draws; None if it failed or took too long."""
        try:
            return run_limited(action, self._limit_s)
        except TimeoutError:
            _log.warning("the chat template was too slow to be analysed")
        except Exception:  # noqa: BLE001 a strange template must not stop its model
            _log.exception("the chat template could not be analysed")
        return None

    def generate(self, variables: dict[str, Any], sentinel: str) -> str:
        """Run the template; it raises whatever the template raises."""
        self._environment.begin(sentinel=sentinel, limit_chars=MAX_WORK_CHARS)
        variables = {**variables, "messages": self._shape(variables["messages"])}
        parts, n_chars = [], 0
        for part in self._template.generate(variables):
            n_chars += len(part)
            if n_chars > MAX_OUTPUT_CHARS:
                msg = f"its output has more than {MAX_OUTPUT_CHARS} characters"
                raise RefusedError(msg)
            parts.append(part)
        return "".join(parts)

    def _adapt(self) -> None:
        """Find a shape in which the template shows what a user says."""
        shapes = ((False, False), (False, True), (True, False), (True, True))
        for self._wants_tools, self._wants_parts in shapes:
            shown = self.draw(
                [{"role": "user", "content": _PROBE}], add_generation_prompt=True
            )
            if shown is not None and _PROBE in shown:
                return
        self._wants_tools = self._wants_parts = False

    def _shape(self, turns: list[Turn]) -> list[Turn]:
        if not self._wants_parts:
            return turns
        return [
            {**turn, "content": [{"type": "text", "text": turn["content"] or ""}]}
            for turn in turns
        ]

    def make_settings(
        self,
        now: datetime | None,
        tools: list[dict[str, Any]] | None,
        *,
        add_generation_prompt: bool,
    ) -> dict[str, Any]:
        """Return the variables that the server sets itself."""
        settings: dict[str, Any] = {
            **self._special,
            "add_generation_prompt": add_generation_prompt,
        }
        if now is not None:
            settings["strftime_now"] = _make_clock(now)
        if tools or self._wants_tools:
            settings["tools"] = tools or []
        if self._wants_tools:
            functions = [tool["function"] for tool in tools or []]
            settings["functions"] = json.dumps(functions, ensure_ascii=False, indent=4)
            settings["datetime"] = now.strftime("%Y-%m-%d %H:%M:%S") if now else ""
        return settings

    def run(self, action: Callable[[], T]) -> T:
        """Run the foreign program within all limits.

        Raises:
            TemplateError: Whatever it raised, in words for the client.
        """
        self._environment.begin(sentinel="", limit_chars=MAX_WORK_CHARS)
        try:
            return run_limited(action, self._limit_s)
        except TemplateSyntaxError as error:
            msg = (
                f"The model's chat template is broken at line {error.lineno}: "
                f"{_shorten(error)}. Use another file of this model."
            )
        except TemplateRaisedError as error:
            msg = (
                f"The model's chat template refuses this conversation: "
                f"{_shorten(error)}. Change the messages to what it asks for."
            )
        except (RefusedError, TimeoutError) as error:
            msg = (
                f"The model's chat template was stopped: {_shorten(error)}. "
                "Send a shorter conversation or use another file of this model."
            )
        except Exception as error:  # noqa: BLE001 a foreign program raises anything
            msg = (
                f"The model's chat template failed: {type(error).__name__}: "
                f"{_shorten(error)}. Change the messages, or use another file of "
                "this model."
            )
        raise TemplateError(msg)


def _make_clock(now: datetime) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        return now.strftime(form[:MAX_REASON_CHARS])

    return strftime_now


def _shorten(error: BaseException) -> str:
    text = "".join(c for c in str(error) if c not in NONCHARACTERS).rstrip(".")
    return text if len(text) <= MAX_REASON_CHARS else text[:MAX_REASON_CHARS] + "…"
