"""A Mistral of random weights that the real loading code loads."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
"""What Mistral's own template does, also that it refuses roles that do not alternate."""


def mistral(folder: Path, *, exact: bool = False) -> Path:
    """MistralForCausalLM, 2 layers of 128, with a byte-level tokeniser of 512 words, saved as the hub's are.

    `exact`: a logit is a single product of the last token's, which no rounding turns: what else is in the batch changes nothing.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "[INST]", "[/INST]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    words.train_from_iterator(["a person holding a cup", 'a dog runs {"subject":["dog"]}'] * 50, trainer)
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=TEMPLATE, **tokens)
    torch.manual_seed(1 if exact else 0)  # of the exact ones it names subjects, where 0 answers with empty lists
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=len(tokenizer) if exact else 128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=6144,
        sliding_window=None,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = MistralForCausalLM(config)
    if exact:
        torch.nn.init.eye_(model.model.embed_tokens.weight)
        for layer in model.model.layers:
            torch.nn.init.zeros_(layer.self_attn.o_proj.weight), torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
