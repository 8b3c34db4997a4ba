"""Qwen3's chat format, as segments that say which text the model must learn to write.

render() returns [(text, target)], target 0: no, 1: yes, 2: all but its first token; the texts joined are exactly what the
chat template renders for the same messages (test_tiny.py compares them), plus the target reply. SPLIT marks, inside a
target only, where tokens must not join: letters of a reversed word are learnt one token each, and the decoded text is the
same.
"""

import json

SPLIT = "\x01"
START, END = "<|im_start|>", "<|im_end|>"

_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call><|im_end|>\n"
)


def call_text(calls: list[dict]) -> str:
    """Tool calls as the assistant writes them. calls: [{"name", "arguments"}], arguments a dict or its JSON text."""

    def arguments(c):
        return c["arguments"] if isinstance(c["arguments"], str) else json.dumps(c["arguments"], ensure_ascii=False)

    return "\n".join('<tool_call>\n{"name": "' + c["name"] + '", "arguments": ' + arguments(c) + "}\n</tool_call>" for c in calls)


def _is_query(m: dict) -> bool:
    c = m["content"]
    return m["role"] == "user" and not (c.startswith("<tool_response>") and c.endswith("</tool_response>"))


def render(messages: list[dict], tools: list[dict] | None, thinking: bool, reply: tuple[str, str] | None = None):
    """Segments of the prompt with its generation prompt, and of the reply (reasoning, text) when given.

    In earlier assistant turns the text after its first token is a target too: it costs nothing and teaches the same
    answers; the first token is not, because a real reply starts after the think block.
    """
    segments: list[tuple[str, int]] = []
    plain: list[str] = []

    def flush():
        if plain:
            segments.append(("".join(plain), 0))
            plain.clear()

    if tools:
        plain.append(START + "system\n")
        if messages[0]["role"] == "system":
            plain.append(messages[0]["content"] + "\n\n")
        plain.append(_TOOLS_HEAD)
        for tool in tools:
            plain.append("\n" + json.dumps(tool, ensure_ascii=False))
        plain.append(_TOOLS_TAIL)
    elif messages[0]["role"] == "system":
        plain.append(START + "system\n" + messages[0]["content"] + END + "\n")

    last_query = max((i for i, m in enumerate(messages) if _is_query(m)), default=len(messages) - 1)
    for i, m in enumerate(messages):
        role, content = m["role"], m.get("content") or ""
        if role == "user" or (role == "system" and i > 0):
            plain.append(START + role + "\n" + content + END + "\n")
        elif role == "assistant":
            reasoning = (m.get("reasoning_content") or "") if i > last_query else ""
            plain.append(START + "assistant\n")
            if i > last_query and (i == len(messages) - 1 or reasoning):
                plain.append("<think>\n" + reasoning.strip("\n") + "\n</think>\n\n")
                content = content.lstrip("\n")
            calls = m.get("tool_calls")
            if calls:
                content += ("\n" if content else "") + call_text([c.get("function", c) for c in calls])
            if SPLIT in content:
                plain.append(content.replace(SPLIT, "") + END + "\n")
                continue
            flush()
            segments.append((content, 2))
            segments.append((END, 1))
            plain.append("\n")
        elif role == "tool":
            if i == 0 or messages[i - 1]["role"] != "tool":
                plain.append(START + "user")
            plain.append("\n<tool_response>\n" + content + "\n</tool_response>")
            if i == len(messages) - 1 or messages[i + 1]["role"] != "tool":
                plain.append(END + "\n")
    plain.append(START + "assistant\n")
    if not thinking:
        plain.append("<think>\n\n</think>\n\n")
    flush()
    if reply is not None:
        reasoning, text = reply
        if thinking:
            segments.append(("<think>\n" + reasoning + "\n</think>\n\n", 1))
        segments.append((text, 1))
        segments.append((END, 1))
    return segments


def text_of(segments) -> str:
    return "".join(s for s, _ in segments).replace(SPLIT, "")
