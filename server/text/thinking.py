"""Whether a prompt leaves the model inside a thought."""

from server.text.format import ChatFormat


def starts_inside_thought(chat_format: ChatFormat, prompt_text: str) -> bool:
    """Tell whether what is generated begins as a thought.

    So it is where the prompt ends with the mark that opens one, and where a
    thought that a client began is to go on. What the client's own messages
    hold of such marks does not count: only the model's last turn is looked at.
    """
    reasoning = chat_format.reasoning
    if reasoning is None:
        return False
    begin, end = reasoning.begin.strip(), reasoning.end.strip()
    if prompt_text.rstrip().endswith(begin):
        return True
    turn = prompt_text
    for turn_begin in filter(None, map(str.strip, chat_format.turn_begins)):
        last = prompt_text.rpartition(turn_begin)
        if last[1] and len(last[2]) <= len(turn):
            turn = last[2]
    if turn is prompt_text:
        return False
    return turn.rfind(begin) > turn.rfind(end)
