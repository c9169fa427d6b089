"""Builds the model that local nodes serve: a two-layer Llama of random weights with a character tokenizer.

Small enough that vLLM on two CPU cores answers dozens of requests at once, and deterministic: the seed, the
vocabulary and the shape decide every weight, so each node gives the same answer to the same prompt.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from local_aws.engines.commands import CACHE_DIRECTORY, ENGINE_PYTHON, MODEL_DIRECTORY

SEED = 20261123
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    # Wide, untied weights: each token depends on the whole context, so a wrong continuation shows.
    "tie_word_embeddings": False,
    "initializer_range": 0.2,
}
SPECIAL_TOKENS = ("<pad>", "<s>")
BLANKS = ("\n", "\t")
CHARACTERS = [*BLANKS, *(chr(code) for code in range(32, 127))]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
_COMPLETE = "spot-failover.json"


def ensure_tiny_model(directory: Path = MODEL_DIRECTORY) -> Path:
    """Build the model into `directory` unless this very model is there already; return the directory.

    The build runs in the engine's own environment, which holds torch and transformers. Several processes may
    call it at once: each builds aside and one rename wins. Raises subprocess.CalledProcessError.
    """
    if _recipe_of(directory) == _recipe():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        environment["HF_HOME"] = str(CACHE_DIRECTORY / "huggingface")
        subprocess.run(
            [str(ENGINE_PYTHON), "-m", "local_aws.engines.tiny_model", "build", str(aside)],
            env=environment,
            check=True,
        )
        (aside / _COMPLETE).write_text(json.dumps(_recipe()), encoding="utf-8")
        _put_in_place(aside, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return directory


def _recipe() -> dict[str, Any]:
    tokens = {"special": list(SPECIAL_TOKENS), "characters": len(CHARACTERS)}
    return {"seed": SEED, "shape": SHAPE, "chat_template": CHAT_TEMPLATE, **tokens}


def _recipe_of(directory: Path) -> Any:
    try:
        return json.loads((directory / _COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _put_in_place(aside: Path, directory: Path) -> None:
    aside.chmod(0o755)
    try:
        aside.rename(directory)
    except OSError:
        # Another process was quicker, or an older recipe stands there.
        if _recipe_of(directory) != _recipe():
            shutil.rmtree(directory)
            aside.rename(directory)


def _build(directory: Path) -> None:
    # Only the engine's environment has these.
    import torch  # noqa: PLC0415
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415

    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<pad>"))  # noqa: S106 - no password
    # Each character is a token of its own, spaces included.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    pad, bos = SPECIAL_TOKENS
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        unk_token=pad,
        model_max_length=SHAPE["max_position_embeddings"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        pad_token_id=vocabulary[pad],
        bos_token_id=vocabulary[bos],
        # An answer has as many characters as tokens were asked for, however it is sampled.
        eos_token_id=None,
        dtype="float32",
        **SHAPE,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # Neither special tokens nor line breaks in what is decoded greedily.
        model.lm_head.weight[: len(SPECIAL_TOKENS) + len(BLANKS)] = 0
    model.save_pretrained(directory)


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        _build(Path(sys.argv[2]))
    else:
        print(ensure_tiny_model())
