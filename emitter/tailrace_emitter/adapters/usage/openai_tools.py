"""Hosted tools of the Responses API: their calls are items of the output, and are billed beside the tokens.

Source: "Web search" in OpenAI's guides: of the actions of a ``web_search_call`` only ``search`` "incurs a tool call
cost", ``open_page`` and ``find_in_page`` do not. "Pricing", built-in tools: file search by the call; the code
interpreter by the container, with any number of calls. "Image generation": an image costs the tokens of an image model,
which the usage of the response does not include.
"""

from typing import Any, Dict, List, Union

from tailrace_emitter.adapters.usage.counting import mapping

Entry = Dict[str, Union[str, int]]


def hosted_tools(output: Any) -> List[Entry]:
    """Return the ``units`` of the items of ``response.output``; a failed call is not billed."""
    searches = files = images = 0
    containers = set()
    for item in output if isinstance(output, (list, tuple)) else ():
        found = mapping(item)
        kind = found.get("type")
        if found.get("status") == "failed":
            continue
        if kind == "web_search_call":
            searches += mapping(found.get("action")).get("type", "search") == "search"
        elif kind == "file_search_call":
            files += 1
        elif kind == "image_generation_call":
            images += 1
        elif kind == "code_interpreter_call":
            containers.add(str(found.get("container_id")))
    counted = {
        "web_searches": searches,
        "storage_searches": files,
        "code_containers": len(containers),
        "image_generations": images,
    }
    return [{"unit": name, "quantity": number} for name, number in counted.items() if number]
