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
* Without tools `tools` is None; where it fails on that, `tools` is an empty
  list, and `functions` and `datetime`, older names for such things, are strings.
* The arguments of a tool call are a mapping if their JSON text is an object.
  Where a template uses them as text, they are this JSON text.
* What a template wants of calls, results and thoughts is found when a
  conversation first has them (`server.text.analysis`); what it cannot show is
  written as text (`server.text.fallback`).
* If the template fails and there are system messages, these are put before
  the user message that follows, and it is tried once more; so it is with
  arguments of calls that are no object.
"""

from datetime import datetime
from functools import cached_property
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from server.core.requests import ChatPrompt, Message
from server.text.adaptation import (
    Adaptation,
    Form,
    adapt_turns,
    list_forms,
    make_thinking_variables,
    needs_study,
    select_tools,
)
from server.text.analysis import Study, study
from server.text.continuation import continue_turn
from server.text.controls import NONCHARACTERS, ControlTexts, find_noncharacters
from server.text.format import ChatFormat
from server.text.meter import RefusedError
from server.text.program import (
    MAX_OUTPUT_CHARS,
    MAX_RENDER_S,
    MAX_SOURCE_CHARS,
    TemplateError,
    TemplateProgram,
)
from server.text.turns import (
    complete_ids,
    make_tool,
    make_turn,
    map_strings,
    walk_strings,
)

__all__ = [
    "CHATML",
    "MAX_OUTPUT_CHARS",
    "MAX_RENDER_S",
    "MAX_SOURCE_CHARS",
    "ChatTemplate",
    "Segment",
    "TemplateError",
]

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


class Segment(Struct, frozen=True):
    """A part of a rendered prompt.

    Control tokens written in it are meant; none may span two segments.
    """

    text: str


class _Job(Struct, frozen=True):
    """One conversation on its way through the template.

    `study` is None where nothing in it needs one. `sentinel` is put into
    what clients wrote; with `is_taken` they use it themselves.
    """

    prompt: ChatPrompt
    now: datetime | None
    add_generation_prompt: bool
    study: Study | None
    sentinel: str
    is_taken: bool


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
        self._controls = ControlTexts(control_texts)
        self._reserved_characters = (
            find_noncharacters(source + bos + eos) | self._controls.noncharacters
        )
        self._program = TemplateProgram(
            source, bos=bos, eos=eos, controls=self._controls, limit_s=limit_s
        )

    @property
    def source(self) -> str:
        """The template's text."""
        return self._program.source

    @property
    def format(self) -> ChatFormat:
        """How the model writes calls, thoughts and answers."""
        return self.study.chat_format

    @cached_property
    def study(self) -> Study:
        """What is found by trying the template out, once."""
        return study(self._program)

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
            prompt: The conversation; `template_kwargs` become variables. Where
                it `continues`, the last message is left open at its end.
            add_generation_prompt: End with the opening of an assistant turn.
            now: What `strftime_now` tells. None leaves it undefined; templates
                that insist on a date then fail, others put a fixed one.

        Returns:
            The segments in order, none empty; joined they are the prompt.

        Raises:
            TemplateError: The template refuses this conversation, fails, or
                exceeds a limit; `template_kwargs` has a reserved name; or
                there is no assistant's text to continue.
        """
        reserved = sorted(RESERVED_KWARGS & prompt.template_kwargs.keys())
        if reserved:
            raise TemplateError(
                f"The chat template variable '{reserved[0]}' is set by the server. "
                "Remove it from the template's extra variables."
            )
        prompt = replace(
            prompt,
            messages=complete_ids(prompt.messages),
            tools=select_tools(prompt),
        )
        _check_continues(prompt)
        found = self.study if needs_study(prompt) else None
        return self._program.run(
            lambda: self._render(prompt, found, now, add_prompt=add_generation_prompt)
        )

    def _render(
        self,
        prompt: ChatPrompt,
        found: Study | None,
        now: datetime | None,
        *,
        add_prompt: bool,
    ) -> tuple[Segment, ...]:
        strings = list(walk_strings(_list_given(prompt)))
        sentinel, is_taken = self._choose_sentinel(strings)
        job = _Job(prompt, now, add_prompt, found, sentinel, is_taken)
        if prompt.continues and found is not None:
            text = self._continue(job, found)
        else:
            text = self._write_any_shape(job)
        return tuple(Segment(part) for part in text.split(sentinel) if part)

    def _continue(self, job: _Job, found: Study) -> str:
        def write(
            messages: tuple[Message, ...],
            *,
            add_generation_prompt: bool,
            thinks: bool | None,
        ) -> str:
            prompt = replace(job.prompt, messages=messages)
            if thinks is not None:
                wanted = replace(prompt.reasoning, enabled=thinks)
                prompt = replace(prompt, reasoning=wanted)
            return self._write_any_shape(
                replace(job, prompt=prompt, add_generation_prompt=add_generation_prompt)
            )

        return continue_turn(
            job.prompt.messages,
            write,
            lambda text: self._protect(text, job),
            found.chat_format,
        )

    def _write_any_shape(self, job: _Job) -> str:
        """Offer the conversation as it is, and then in what others ask for."""
        failures: list[Exception] = []
        forms = list_forms(job.prompt, job.study)
        for form in forms:
            try:
                return self._write(job, form)
            except RefusedError:
                raise
            except Exception as error:  # noqa: BLE001 a foreign program; try the next
                failures.append(error)
        # What it says of the client's own tools and messages helps most.
        n_own = sum(form.has_own_tools for form in forms)
        raise failures[n_own - 1]

    def _write(self, job: _Job, form: Form) -> str:
        prompt = replace(job.prompt, messages=form.messages, tools=form.tools)
        given = _list_given(prompt)
        kwargs, turns, tools = map_strings(given, lambda text: self._protect(text, job))
        shown = tools
        if job.study is not None:
            adapted = Adaptation(prompt, tools, job.study, form)
            turns = adapt_turns(turns, adapted)
            shown = tools if adapted.shows_tools else []
        settings = self._program.make_settings(
            job.now, shown, add_generation_prompt=job.add_generation_prompt
        )
        variables = {
            **make_thinking_variables(prompt.reasoning),
            **kwargs,
            **settings,
            "messages": turns,
        }
        return self._program.generate(variables, job.sentinel)

    def _choose_sentinel(self, strings: list[str]) -> tuple[str, bool]:
        """Return a noncharacter, and whether a client's string contains it."""
        used = {c for text in strings for c in find_noncharacters(text)}
        free = NONCHARACTERS - self._reserved_characters
        candidates = sorted(free - used) or sorted(free) or sorted(NONCHARACTERS)
        return candidates[0], candidates[0] in used

    def _protect(self, text: str, job: _Job) -> str:
        if job.is_taken:
            text = text.replace(job.sentinel, "")
        return self._controls.protect(text, job.sentinel)


def _list_given(prompt: ChatPrompt) -> list[Any]:
    """Return all that comes from the client, as a template may see it."""
    return [
        prompt.template_kwargs,
        [make_turn(message) for message in prompt.messages],
        [make_tool(tool) for tool in prompt.tools],
    ]


def _check_continues(prompt: ChatPrompt) -> None:
    """Refuse to continue what cannot go on.

    Raises:
        TemplateError: The last message is no assistant's, or it calls tools.
    """
    if not prompt.continues:
        return
    last = prompt.messages[-1] if prompt.messages else None
    if last is None or last.role != "assistant":
        raise TemplateError(
            "Only a message of the assistant can be continued, and the last message "
            "is none. Put it last, or do not ask to continue."
        )
    if last.tool_calls:
        raise TemplateError(
            "A message that calls tools cannot be continued. Send the results of "
            "its calls, or leave the calls out."
        )
