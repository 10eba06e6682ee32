"""What a client needs to know of the tokenizer in order to work with /tokenize and /detokenize."""

from gateway.engine.core.engine import Engine
from gateway.protocol.responses import TokenizerInfo


async def tokenizer_info(engine: Engine) -> TokenizerInfo:
    """vLLM's own answer also has every setting of the tokenizer, and with them paths on this machine.

    Raises: EngineError if the engine can't answer.
    """
    await engine.awake()
    tokenizer = engine.running().get_tokenizer()
    template = engine.serving.serving_tokenization.chat_template or getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several templates by name
        template = template.get("default")
    return TokenizerInfo(
        tokenizer_class=type(tokenizer).__name__,
        bos_token=getattr(tokenizer, "bos_token", None),
        eos_token=getattr(tokenizer, "eos_token", None),
        pad_token=getattr(tokenizer, "pad_token", None),
        unk_token=getattr(tokenizer, "unk_token", None),
        chat_template=template,
    )
