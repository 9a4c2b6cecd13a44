"""What answers a case: an endpoint that implements OpenAI's chat completions, or a command.

With retries, time limits and a rate limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.gate.answers import Answer, Answerer, Question, case_facts
from jobs.gate.settings import GateInputError
from jobs.gate.targets import Target

if TYPE_CHECKING:
    import openai

_LONGEST = 4 << 20
"""Bytes of a command's answer."""
_OPENAI = "https://api.openai.com/v1"


def answerer(target: Target, *, environment: Mapping[str, str], folder: Path) -> Answerer:
    """Return what answers for ``target``.

    Args:
        target: of a YAML file.
        environment: where the key is looked up by its name.
        folder: of that file; a command runs there.

    Raises:
        GateInputError: the key of OpenAI's own endpoint is not in the environment.
    """
    if target.command:
        return Command(target, folder)
    key = environment.get(target.api_key_env, "")
    if not key and not target.base_url:
        problem = f"environment variable {target.api_key_env} is not set"
        raise GateInputError(target.name, problem, "set it to the key, or name a base_url that needs none")
    import openai  # a second of imports that a command does not need

    client = openai.OpenAI(
        api_key=key or "none",
        base_url=target.base_url or _OPENAI,
        timeout=target.timeout_s,
        max_retries=target.retries,
    )
    return Chat(target, client)


class Chat:
    """Chat completions of an ``openai.OpenAI`` client, which retries 408, 409, 429, 5xx and lost connections."""

    def __init__(self, target: Target, client: openai.OpenAI) -> None:
        """Take what to ask, and the client."""
        self._target, self._client = target, client

    def __call__(self, question: Question) -> Answer:
        """Ask once; the latency is that of the attempt that was answered."""
        import openai

        try:
            return self._streamed(question) if self._target.stream else self._whole(question)
        except openai.APITimeoutError:
            return Answer(error=f"timed out after {self._target.timeout_s:g} s")
        except openai.APIConnectionError as error:
            return Answer(error=f"unreachable: {type(error.__cause__ or error).__name__}")
        except openai.APIStatusError as error:
            return Answer(error=f"refused with status {error.status_code}")
        except (openai.OpenAIError, ValueError) as error:
            return Answer(error=f"no answer: {type(error).__name__}")

    def _create(self, question: Question, **more: Any) -> Any:
        return self._client.chat.completions.with_raw_response.create(
            model=self._target.model,
            messages=list(question.messages),  # type: ignore[arg-type]
            extra_body=dict(self._target.parameters),
            **more,
        )

    def _whole(self, question: Question) -> Answer:
        raw = self._create(question)
        latency = raw.elapsed.total_seconds() * 1e3
        response = raw.parse()
        choices = getattr(response, "choices", None) or []
        if not choices:
            return Answer(error="no answer: the response has no choices")
        message = choices[0].message
        return Answer(
            text=message.content or "",
            model=response.model,
            finish_reason=choices[0].finish_reason,
            refused=bool(message.refusal) or None,
            latency_ms=latency,
            **_usage(response.usage),
        )

    def _streamed(self, question: Question) -> Answer:
        begun, first = time.perf_counter(), None
        texts: list[str] = []
        facts: dict[str, Any] = {}
        for chunk in self._create(question, stream=True, stream_options={"include_usage": True}).parse():
            facts |= _usage(chunk.usage) if chunk.usage else {}
            facts["model"] = chunk.model or facts.get("model")
            for choice in chunk.choices[:1]:
                facts["finish_reason"] = choice.finish_reason or facts.get("finish_reason")
                if choice.delta.content:
                    first = first or time.perf_counter()
                    texts.append(choice.delta.content)
        ttft = (first - begun) * 1e3 if first else None
        return Answer(text="".join(texts), latency_ms=(time.perf_counter() - begun) * 1e3, ttft_ms=ttft, **facts)


def _usage(usage: Any) -> dict[str, Any]:
    if usage is None:
        return {}
    read, written = getattr(usage, "prompt_tokens_details", None), getattr(usage, "completion_tokens_details", None)
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_read_tokens": getattr(read, "cached_tokens", None),
        "reasoning_tokens": getattr(written, "reasoning_tokens", None),
    }


class Command:
    """A program that reads a case as JSON on stdin and prints the answer; it is started without a shell."""

    def __init__(self, target: Target, folder: Path) -> None:
        """Take what to run, and where."""
        self._target, self._folder = target, folder

    def __call__(self, question: Question) -> Answer:
        """Run it once for ``question``."""
        begun = time.perf_counter()
        given = json.dumps(case_facts(question)).encode()
        try:
            process = subprocess.Popen(
                self._target.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._folder,
                start_new_session=True,  # also ends its child processes
            )
        except OSError as error:
            return Answer(error=f"unreachable: {error.strerror or error}")
        try:
            out, err = process.communicate(given, timeout=self._target.timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Answer(error=f"timed out after {self._target.timeout_s:g} s")
        if process.returncode:
            last = err.decode(errors="replace").strip().splitlines()[-1:] or [""]
            return Answer(error=f"exit code {process.returncode}: {last[0][:200]}")
        text = out[:_LONGEST].decode(errors="replace")
        return Answer(text=text.removesuffix("\n"), latency_ms=(time.perf_counter() - begun) * 1e3)


class Paced:
    """Spaces questions evenly, so that at most ``per_minute`` begin in any minute."""

    def __init__(
        self, inner: Answerer, per_minute: float, *, clock: Callable[[], float], wait: Callable[[float], None]
    ):
        """Take what answers, the pace (0: none), a monotonic clock in seconds and what waits."""
        self._inner, self._per_minute, self._clock, self._wait = inner, per_minute, clock, wait
        self._lock, self._next = threading.Lock(), 0.0

    def __call__(self, question: Question) -> Answer:
        """Wait for the next free moment, then ask."""
        if self._per_minute > 0:
            with self._lock:
                now = self._clock()
                begin = max(now, self._next)
                self._next = begin + 60 / self._per_minute
            if begin > now:
                self._wait(begin - now)
        return self._inner(question)
