"""The process behind one model of the reference protocol: `python reference_server.py FOLDER SOCKET_FD THREADS`."""

from __future__ import annotations

import socket
import sys

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar


class Prefix(BaseModel):
    """A text so far, in full."""

    input_ids: list[int]


def application(folder: str) -> FastAPI:
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    app = FastAPI()

    # On the event loop, as there is one client, and without FastAPI's own conversion of the answer: a thread and the
    # conversion would cost this rival time that its protocol does not need.
    @app.post("/logprobs")
    async def logprobs(prefix: Prefix) -> JSONResponse:
        """The next token's log-probs, over the whole vocabulary: token id to log-prob, the best first."""
        with torch.inference_mode():
            input_ids = torch.tensor([prefix.input_ids], device=model.device)  # [1, T]
            logits = model(input_ids=input_ids, use_cache=False, logits_to_keep=1).logits[0, -1]  # [V]
            logprobs, tokens = logits.float().log_softmax(-1).sort(descending=True)
            return JSONResponse(dict(zip(tokens.tolist(), logprobs.tolist(), strict=True)))

    return app


def main() -> None:
    folder, descriptor, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    server = uvicorn.Server(uvicorn.Config(application(folder), log_level="warning"))
    server.run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()
