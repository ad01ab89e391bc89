"""The chat side of one model: its template, its format, the form of answers.

Template and format are found once, when the first chat comes; both take up to
a second. Runs on the worker's command thread.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, Literal

import msgspec

from server.core.errors import InvalidRequest
from server.core.requests import (
    ChatPrompt,
    Generate,
    Message,
    Reasoning,
    Text,
)
from server.text.adaptation import select_tools
from server.text.analysis import analyse
from server.text.format import ChatFormat
from server.text.grammar import write_grammar
from server.text.template import CHATML, ChatTemplate, Segment, TemplateError
from server.text.thinking import starts_inside_thought
from server.worker.constraint import Constrainer
from server.worker.course import PLAIN, Form
from server.worker.tokens import Tokens
from server.worker.vocabulary import Vocabulary

Thinking = Literal["none", "open", "optional"]

_MAX_WARNINGS: Final = 16
_OTHER_FORM: Final = (
    "The assistant's message that is to go on does not begin as the form of the "
    "answer does. Change the message, or leave the form out."
)
_ANY_DAY: Final = datetime(2001, 1, 1, tzinfo=UTC)


class Chat:
    """See the head of the file.

    Args:
        vocabulary: The model's tokenizer.
        template: The model's own chat template; None means ChatML.
        constrainer: Compiles grammars for this vocabulary.
    """

    def __init__(
        self, vocabulary: Vocabulary, template: str | None, constrainer: Constrainer
    ) -> None:
        self._vocabulary = vocabulary
        self._source = CHATML if template is None else template
        self._constrainer = constrainer

    @cached_property
    def template(self) -> ChatTemplate:
        """The template, compiled.

        Raises:
            TemplateError: It is broken.
        """
        vocabulary = self._vocabulary
        return ChatTemplate(
            self._source,
            bos=vocabulary.text(vocabulary.bos),
            eos=vocabulary.text(vocabulary.eos),
            control_texts=frozenset(vocabulary.control_tokens()),
        )

    @cached_property
    def format(self) -> ChatFormat:
        """How the model writes thoughts and calls.

        Raises:
            TemplateError: The template is broken.
        """
        return analyse(self.template)

    def render(self, prompt: ChatPrompt) -> tuple[Segment, ...]:
        """Write a conversation as the model expects it.

        Raises:
            InvalidRequest: The template is broken or refuses the conversation.
        """
        try:
            return self.template.render(prompt, now=datetime.now().astimezone())
        except TemplateError as error:
            raise InvalidRequest(error.message, param="messages") from error

    def make_form(self, request: Generate, text: str) -> tuple[Form, tuple[str, ...]]:
        """Find out what form the answers to a request have.

        Args:
            request: What was asked.
            text: Its prompt as rendered; unused where it is no chat.

        Returns:
            The form, and what could not be held to as it was asked.

        Raises:
            InvalidRequest: A schema or grammar cannot be used.
        """
        prompt = request.prompt
        if not isinstance(prompt, ChatPrompt):
            return self._constrain(PLAIN, request, "none")
        format_ = self.format
        reasoning = prompt.reasoning
        is_inside = starts_inside_thought(format_, text)
        budget = 0 if reasoning.enabled is False else reasoning.budget_tokens
        form = Form(
            format=format_,
            tools=select_tools(prompt),
            starts_inside_thought=is_inside,
            visible=self._visible,
            thought_end=self._thought_end,
            budget_tokens=budget,
            one_call=not prompt.tool_choice.parallel,
        )
        has_begun = prompt.continues and bool(prompt.messages[-1].content)
        thinking: Thinking = "none"
        if is_inside:
            thinking = "open"
        elif (
            not has_begun
            and budget != 0
            and (reasoning.enabled or self._thinks_by_default)
        ):
            thinking = "optional"
        return self._constrain(form, request, thinking)

    def _constrain(
        self, form: Form, request: Generate, thinking: Thinking
    ) -> tuple[Form, tuple[str, ...]]:
        constrainer = self._constrainer
        plan = write_grammar(
            request,
            form.format,
            thinking=thinking,
            control=self._vocabulary.control_tokens(),
            ends=self.ends,
            check=constrainer.check,
        )
        if plan is None:
            return form, ()
        # Compiled here and copied for each choice: the loop never compiles.
        beginning = constrainer.compile(plan.grammar, param=plan.param)
        written = () if plan.lazy else self._read_written(request)
        if written and not beginning.replay(written):
            raise InvalidRequest(_OTHER_FORM, param="messages")
        constrained = replace(
            form,
            make_constraint=beginning.copy,
            is_lazy=plan.lazy,
            tokenize=self._tokenize,
        )
        return constrained, plan.warnings[:_MAX_WARNINGS]

    def _read_written(self, request: Generate) -> Tokens | tuple[int, ...]:
        """Return what of the answer stands already, where a message goes on."""
        prompt = request.prompt
        if not isinstance(prompt, ChatPrompt) or not prompt.continues:
            return ()
        content = prompt.messages[-1].content or ()
        return self._vocabulary.tokenize("".join(part.text for part in content))

    @cached_property
    def _thinks_by_default(self) -> bool:
        """Whether the model may think where nobody said anything about it.

        A model that has to be told to think would, under a constraint, begin a
        thought just because its own first word is ruled out.
        """
        if self.format.reasoning is None:
            return False
        unasked, wanted, refused = (
            self._draw_prompt(Reasoning(enabled=enabled))
            for enabled in (None, True, False)
        )
        return unasked != refused or unasked == wanted

    def _draw_prompt(self, reasoning: Reasoning) -> tuple[Segment, ...]:
        message = Message("user", (Text("?"),))
        prompt = ChatPrompt((message,), reasoning=reasoning)
        return self.template.render(prompt, now=_ANY_DAY)

    @cached_property
    def _visible(self) -> Mapping[int, bytes]:
        """The control tokens that marks are made of, with their texts."""
        marks = "\0".join(walk_marks(self.format))
        return {
            token: text.encode()
            for text, token in self._vocabulary.control_tokens().items()
            if self.format.channels or text in marks
        }

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        vocabulary = self._vocabulary
        tokens = {*vocabulary.control_tokens().values(), vocabulary.eos}
        return frozenset(t for t in tokens if t is not None and vocabulary.is_end(t))

    @cached_property
    def _thought_end(self) -> Tokens:
        reasoning = self.format.reasoning
        return self._tokenize(reasoning.end if reasoning else "")

    def _tokenize(self, text: str) -> Tokens:
        return self._vocabulary.tokenize(text, parse_special=True)


def walk_marks(format_: ChatFormat) -> list[str]:
    """List every text of a format."""
    parts = (format_, format_.reasoning, format_.calls)
    return [
        value
        for part in parts
        if part is not None
        for value in msgspec.structs.asdict(part).values()
        if isinstance(value, str)
    ]
