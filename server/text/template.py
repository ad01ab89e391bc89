"""From a conversation to the text that a model was trained on.

The Jinja program inside a GGUF decides how. It is run in a sandbox with
limits (`server.text.sandbox`, `server.text.deadline`), and what a client wrote
can never become one of the model's control tokens (`server.text.controls`):
the result is a sequence of segments, each to be tokenized for itself.

Templates differ in what they accept, so a conversation is offered in the
shapes that real ones ask for:

* `content` is a string; where the template does not show a string, it is a
  list of one `{"type": "text", "text": …}`. This and the next point are tried
  once, when the template is built.
* `tools` is None; where it fails on that, `tools` is an empty list, and
  `functions` and `datetime`, older names for such things, are strings.
* The arguments of a tool call are a mapping if their JSON text is an object.
  Where a template uses them as text, they are this JSON text.
* If the template fails and there are system messages, these are put before
  the user message that follows, and it is tried once more.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from jinja2 import TemplateSyntaxError
from msgspec import Struct

from server.core.requests import ChatPrompt, Message
from server.text.controls import NONCHARACTERS, ControlTexts, find_noncharacters
from server.text.deadline import run_limited
from server.text.meter import RefusedError
from server.text.sandbox import ChatEnvironment, TemplateRaisedError
from server.text.turns import (
    fold_system_messages,
    make_turn,
    map_strings,
    walk_strings,
)

MAX_SOURCE_CHARS: Final = 256 * 1024
MAX_OUTPUT_CHARS: Final = 32 * 1024 * 1024
MAX_WORK_CHARS: Final = 256 * 1024 * 1024
"""How much text one render may make on its way, thrown away or not."""
MAX_RENDER_S: Final = 10.0
MAX_REASON_CHARS: Final = 1000

CHATML: Final = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The format for models that bring no template."""

RESERVED_KWARGS: Final = frozenset(
    {"messages", "tools", "bos_token", "eos_token", "add_generation_prompt"}
)
_PROBE: Final = "Cloister 7261"

T = TypeVar("T")


class TemplateError(Exception):
    """The template cannot be used, or not for this conversation.

    `message` says what happened and what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Segment(Struct, frozen=True):
    """A part of a rendered prompt.

    Control tokens written in it are meant; none may span two segments.
    """

    text: str


class ChatTemplate:
    """The chat template of one model, compiled once.

    Args:
        source: Jinja text, at most `MAX_SOURCE_CHARS`.
        bos: Text of the token that begins a text, or "".
        eos: Text of the token that ends one, or "".
        control_texts: Texts of all control tokens of the vocabulary.
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
        control_texts: frozenset[str],
        limit_s: float = MAX_RENDER_S,
    ) -> None:
        self._limit_s = limit_s
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(
                f"The model's chat template has {len(source)} characters, more than "
                f"the {MAX_SOURCE_CHARS} allowed. Use another file of this model."
            )
        self._special = {"bos_token": bos, "eos_token": eos, "tools": None}
        self._controls = ControlTexts(control_texts)
        self._reserved_characters = (
            find_noncharacters(source + bos + eos) | self._controls.noncharacters
        )
        self._environment = ChatEnvironment(self._controls)
        self._template = self._run(lambda: self._environment.compile_bounded(source))
        self._wants_parts = self._wants_tools = False
        self._run(self._adapt)

    def render(
        self,
        prompt: ChatPrompt,
        *,
        add_generation_prompt: bool = True,
        now: datetime | None,
    ) -> tuple[Segment, ...]:
        """Write the conversation as the model expects it.

        It can be called from several threads at once.

        Args:
            prompt: The conversation; `template_kwargs` become variables.
            add_generation_prompt: End with the opening of an assistant turn.
            now: What `strftime_now` tells. None leaves it undefined; templates
                that insist on a date then fail, others put a fixed one.

        Returns:
            The segments in order, none empty; joined they are the prompt.

        Raises:
            TemplateError: The template refuses this conversation, fails, or
                exceeds a limit; or `template_kwargs` has a reserved name.
        """
        reserved = sorted(RESERVED_KWARGS & prompt.template_kwargs.keys())
        if reserved:
            raise TemplateError(
                f"The chat template variable '{reserved[0]}' is set by the server. "
                "Remove it from the template's extra variables."
            )
        settings = self._make_settings(now, add_generation_prompt=add_generation_prompt)
        return self._run(lambda: self._render_any_shape(prompt, settings))

    def _render_any_shape(
        self, prompt: ChatPrompt, settings: dict[str, Any]
    ) -> tuple[Segment, ...]:
        messages = prompt.messages
        try:
            return self._render_shape(messages, prompt.template_kwargs, settings)
        except RefusedError:
            raise
        except Exception:
            folded = fold_system_messages(messages)
            if folded == messages:
                raise
        return self._render_shape(folded, prompt.template_kwargs, settings)

    def _render_shape(
        self,
        messages: tuple[Message, ...],
        template_kwargs: dict[str, Any],
        settings: dict[str, Any],
    ) -> tuple[Segment, ...]:
        given = [template_kwargs, [make_turn(message) for message in messages]]
        strings = list(walk_strings(given))
        sentinel, is_taken = self._choose_sentinel(strings)
        kwargs, turns = map_strings(
            given, lambda text: self._protect(text, sentinel, is_taken=is_taken)
        )
        variables = {**kwargs, **settings, "messages": self._shape(turns)}
        text = self._generate(variables, sentinel)
        return tuple(Segment(part) for part in text.split(sentinel) if part)

    def _generate(self, variables: dict[str, Any], sentinel: str) -> str:
        self._environment.begin(sentinel=sentinel, limit_chars=MAX_WORK_CHARS)
        parts, n_chars = [], 0
        for part in self._template.generate(variables):
            n_chars += len(part)
            if n_chars > MAX_OUTPUT_CHARS:
                msg = f"its output has more than {MAX_OUTPUT_CHARS} characters"
                raise RefusedError(msg)
            parts.append(part)
        return "".join(parts)

    def _choose_sentinel(self, strings: list[str]) -> tuple[str, bool]:
        """Return a noncharacter, and whether a client's string contains it."""
        used = {c for text in strings for c in find_noncharacters(text)}
        free = NONCHARACTERS - self._reserved_characters
        candidates = sorted(free - used) or sorted(free) or sorted(NONCHARACTERS)
        return candidates[0], candidates[0] in used

    def _protect(self, text: str, sentinel: str, *, is_taken: bool) -> str:
        if is_taken:
            text = text.replace(sentinel, "")
        return self._controls.protect(text, sentinel)

    def _adapt(self) -> None:
        """Find a shape in which the template shows what a user says."""
        shapes = ((False, False), (False, True), (True, False), (True, True))
        for self._wants_tools, self._wants_parts in shapes:
            variables = {
                **self._make_settings(
                    datetime(2001, 1, 1, tzinfo=UTC), add_generation_prompt=True
                ),
                "messages": self._shape([{"role": "user", "content": _PROBE}]),
            }
            try:
                if _PROBE in self._generate(variables, "\ufdd0"):
                    return
            except Exception:  # noqa: BLE001, S112 a foreign program; try the next
                continue
        self._wants_tools = self._wants_parts = False

    def _shape(self, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self._wants_parts:
            return turns
        return [
            {**turn, "content": [{"type": "text", "text": turn["content"]}]}
            for turn in turns
        ]

    def _make_settings(
        self, now: datetime | None, *, add_generation_prompt: bool
    ) -> dict[str, Any]:
        settings: dict[str, Any] = {
            **self._special,
            "add_generation_prompt": add_generation_prompt,
        }
        if now is not None:
            settings["strftime_now"] = _make_clock(now)
        if self._wants_tools:
            settings["tools"] = []
            settings["functions"] = "[]"
            settings["datetime"] = now.strftime("%Y-%m-%d %H:%M:%S") if now else ""
        return settings

    def _run(self, action: Callable[[], T]) -> T:
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
