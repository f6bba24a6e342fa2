"""Language models that name a caption's entities: what is asked, and vLLM in this process to answer it."""

from __future__ import annotations

import gc
import itertools
import json
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.models.instruction import Message, Subjects, messages
from curation.models.spans import answer, guide

CONTEXT = 8192
"""Tokens of prompt and answer together: the instruction takes about 900, a caption at its longest 2,000 characters."""
GPU_SEQUENCES, CPU_SEQUENCES = 256, 16
"""Captions that are answered side by side."""
CPU_CACHE = 1 << 30
"""Bytes of the key-value cache on a CPU."""


@dataclass(frozen=True)
class Question:
    """What a model is asked: a conversation, the JSON Schema of its answer (None: it writes what it likes) and its length."""

    messages: list[Message]
    schema: dict[str, Any] | None
    max_tokens: int


Ask = Callable[[Sequence[Question]], Sequence[str | Exception]]
"""Questions in, raw answers out, in order; an exception where a question has no answer."""


class Unanswerable(Exception):
    """What the model says of one question that it does not take: too long, say. Others are answered."""


class EngineError(ConnectionError):
    """The engine has ended, and why, in one line: nothing is said about the questions."""


class Asker:
    """Captions in, raw answers out, in order; equal captions are asked once.

    With `guided`, tags can only be spans of the caption; `max_tokens` bounds the other answers (a guided one ends by itself).
    `subjects` and `told`: see `instruction.messages`.
    """

    def __init__(self, ask: Ask, *, guided: bool = True, max_tokens: int = 512, subjects: Subjects = "living", told: str = ""):
        self.ask, self.guided, self.max_tokens, self.subjects, self.told = ask, guided, max_tokens, subjects, told

    def __call__(self, captions: Sequence[str]) -> list[str | Exception]:
        asked = {caption: question for caption in dict.fromkeys(captions) if (question := self.question(caption))}
        given = dict(zip(asked, self.ask(list(asked.values())), strict=True)) if asked else {}
        return [given[caption] if caption in asked else answer() for caption in captions]

    def question(self, caption: str) -> Question | None:
        """None when the guide leaves but one answer, the empty one."""
        if not self.guided:
            return Question(self._messages(caption), None, self.max_tokens)
        found = guide(caption)
        return None if found is None else Question(self._messages(caption), found.schema, found.longest)

    def _messages(self, caption: str) -> list[Message]:
        return messages(caption, self.subjects, self.told)


class Vllm:
    """vLLM's engine in this process: no server, no child processes. Greedy; batches continuously whatever is in flight.

    One thread owns the engine; calls from several threads are answered side by side. When it has ended, every call ends in
    `EngineError`. `memory`: the share of the GPU's memory for weights and cache together, where `device` is "cuda". In half
    precision an answer may in rare cases depend on what else is in the batch (VLLM_BATCH_INVARIANT=1 rules that out on the GPUs
    that have it).
    """

    def __init__(self, folder: Path, device: str = "cpu", *, memory: float = 0.9):
        self.folder, self.device, self.memory = folder, device, memory
        self.inbox: queue.SimpleQueue[tuple[Question, Future[str]] | None] = queue.SimpleQueue()
        self.numbers, self.door, self.closed = itertools.count(), threading.Lock(), False
        started: Future[None] = Future()
        self.thread = threading.Thread(target=self._work, args=(started,), name="vllm", daemon=True)
        self.thread.start()
        started.result()

    def __call__(self, questions: Sequence[Question]) -> list[str | Exception]:
        waiting: list[Future[str]] = [Future() for _ in questions]
        with self.door:
            if self.closed:
                raise EngineError("the vLLM engine is closed")
            for pair in zip(questions, waiting, strict=True):
                self.inbox.put(pair)
        return [_outcome(future) for future in waiting]

    def close(self) -> None:
        """Free the engine and its memory. What is still in flight ends with an error."""
        self.inbox.put(None)
        self.thread.join()

    def _work(self, started: Future[None]) -> None:
        try:
            self.engine = _engine(self.folder, self.device, self.memory)
            self.tokenizer = self.engine.get_tokenizer()
        except BaseException as error:  # carried over to the caller
            started.set_exception(error)
            return
        started.set_result(None)
        flying: dict[str, Future[str]] = {}
        try:
            while self._receive(flying):
                for output in self.engine.step():
                    if output.finished:
                        flying.pop(output.request_id).set_result(output.outputs[0].text)
        except Exception as error:  # carried over to the callers
            self._refuse(flying, EngineError(f"the vLLM engine ended: {type(error).__name__}: {' '.join(str(error).split())}"))
        else:
            self._refuse(flying, EngineError("the vLLM engine was closed"))
        finally:
            self._free()

    def _receive(self, flying: dict[str, Future[str]]) -> bool:
        """Take in what waits, or wait when there is nothing to do; False at the end."""
        from vllm.exceptions import VLLMClientError

        while not flying or not self.inbox.empty():
            item = self.inbox.get()
            if item is None:
                return False
            question, future = item
            number = str(next(self.numbers))
            flying[number] = future
            try:
                self.engine.add_request(number, self._prompt(question), _sampling(question))
            except VLLMClientError as error:  # too long a prompt
                flying.pop(number).set_exception(Unanswerable(" ".join(str(error).split())))
            except Exception as error:  # a chat template that refuses it: the engine goes on
                flying.pop(number).set_exception(error)
        return True

    def _prompt(self, question: Question) -> dict[str, list[int]]:
        ids = self.tokenizer.apply_chat_template(question.messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        return {"prompt_token_ids": list(ids)}

    def _refuse(self, flying: dict[str, Future[str]], error: Exception) -> None:
        """End all that waits; nothing comes in any more."""
        waiting = list(flying.values())
        with self.door:
            self.closed = True
            while not self.inbox.empty():
                item = self.inbox.get()
                waiting += [item[1]] if item else []
        for future in waiting:
            future.set_exception(error)

    def _free(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        self.engine.engine_core.shutdown()
        del self.engine, self.tokenizer
        gc.collect()
        cleanup_dist_env_and_memory()


def _outcome(future: Future[str]) -> str | Exception:
    error = future.exception()
    return error if isinstance(error, Exception) else future.result()


def _engine(folder: Path, device: str, memory: float) -> Any:
    settings = {
        "ENABLE_V1_MULTIPROCESSING": "0",
        "NO_USAGE_STATS": "1",
        "LOGGING_LEVEL": "ERROR",
        "CPU_OMP_THREADS_BIND": "nobind",
    }
    for name, value in settings.items():
        os.environ.setdefault(f"VLLM_{name}", value)
    import torch
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    on_gpu = device == "cuda"
    room: dict[str, Any] = {"gpu_memory_utilization": memory} if on_gpu else {"kv_cache_memory_bytes": CPU_CACHE}
    if not on_gpu:
        torch.set_num_threads(1)
    arguments = EngineArgs(
        model=str(folder),
        tokenizer_mode="hf",
        config_format="hf",
        generation_config="vllm",  # greedy, whatever the model's own settings are
        dtype="bfloat16",
        max_model_len=min(CONTEXT, json.loads((folder / "config.json").read_text())["max_position_embeddings"]),
        max_num_seqs=GPU_SEQUENCES if on_gpu else CPU_SEQUENCES,
        enforce_eager=not on_gpu,
        distributed_executor_backend="uni",
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        disable_log_stats=True,
        use_tqdm_on_load=False,
        seed=0,
        **room,
    )
    threads = torch.set_num_threads
    try:
        return LLMEngine.from_engine_args(arguments)
    finally:
        torch.set_num_threads = threads  # vLLM makes it do nothing; later stages of this process count on it


def _sampling(question: Question) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    guide = None if question.schema is None else StructuredOutputsParams(json=question.schema)
    return SamplingParams(
        temperature=0.0,
        max_tokens=question.max_tokens,
        structured_outputs=guide,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
