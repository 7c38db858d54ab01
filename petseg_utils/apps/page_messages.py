"""Messages from the page's windows.  Any program can send such messages, so nonsense is not passed on."""

import json
from pathlib import Path
from typing import Any

import gradio as gr

DEEPEST = 32  # levels to which a message's objects and lists may be nested


def parsed(body: bytes) -> dict | None:
    """Parse a message, which is a JSON object; return None for anything else."""
    try:
        message = json.loads(body)
        json.dumps(message, ensure_ascii=False, allow_nan=False).encode()  # Python reads more than is Unicode or JSON
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and _is_flat(message, DEEPEST) else None


def asked(page: gr.Blocks, message: dict, queued: bool) -> dict[str, Any] | None:
    """Return what a message asks of the page, as its own windows ask it; None if they never would.

    Gradio itself would find the fault in the middle of its work, and print a traceback each time.
    """
    number, given, session = message.get("fn_index"), message.get("data"), message.get("session_hash")
    event = page.fns.get(number) if type(number) is int else None
    if event is None or event.fn is None or event.queue is not queued or not isinstance(session, str) or not session:
        return None
    if not isinstance(given, list) or len(given) != len(event.inputs) or not all(map(_suits, event.inputs, given)):
        return None
    told = None
    if event.collects_event_data:
        index = _place(message.get("event_data"))
        on_picture = any(isinstance(page.blocks.get(target), gr.Image) for target, _ in event.targets)
        if isinstance(index, list) is not on_picture or index is None:
            return None
        told = {"index": index, "value": None}
    values = [_bare(block, value) for block, value in zip(event.inputs, given, strict=True)]
    return {"data": values, "event_data": told, "fn_index": number, "session_hash": session}


def _suits(block: Any, value: Any) -> bool:
    """Return whether a value can come from this control."""
    match block:
        case gr.State():
            return True  # gradio keeps its own, and ignores what is sent
        case gr.Radio() | gr.Dropdown():
            return value in [choice for _, choice in block.choices] or (value is None and block.value is None)
        case gr.Slider():
            return type(value) in (int, float) and block.minimum <= value <= block.maximum
        case gr.Checkbox():
            return isinstance(value, bool)
        case gr.Textbox():
            return value is None or isinstance(value, str)
        case gr.File():
            return isinstance(value, dict) and isinstance(value.get("path"), str) and _is_file(value["path"])
    return False


def _bare(block: Any, value: Any) -> Any:
    """Return a value without anything that was sent along with it."""
    if isinstance(block, gr.File):
        return {"path": value["path"], "meta": {"_type": "gradio.FileData"}}
    return None if isinstance(block, gr.State) else value


def _place(told: Any) -> int | list | None:
    """Return what part of a control was clicked on: a whole number, or two numbers; None if that is not given."""
    index = told.get("index") if isinstance(told, dict) else None
    if type(index) is int:
        return index
    if not isinstance(index, list) or [type(number) in (int, float) for number in index] != [True, True]:
        return None
    return index if all(abs(number) < 1e6 for number in index) else None


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _is_flat(value: Any, deepest: int) -> bool:
    """Return whether objects and lists are not nested too deeply: beyond this, Python's own limit would be hit."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return deepest > 0 and all(_is_flat(part, deepest - 1) for part in parts)
