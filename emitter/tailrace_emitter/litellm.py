"""``from tailrace_emitter.litellm import TailraceLogger``; then ``litellm.callbacks = [TailraceLogger()]``."""

from tailrace_emitter.adapters.litellm import TailraceLogger

__all__ = ["TailraceLogger"]
