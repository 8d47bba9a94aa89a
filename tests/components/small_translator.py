"""An encoder-decoder of a few thousand random weights, as `save_pretrained` leaves one."""

from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?0123456789'" + "あいうえおかきくけこさしすせそ。、"


def write_translator(folder: Path, seed: int = 0) -> None:
    """A T5 that answers letters by letters, without sense."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    vocabulary = {piece: number for number, piece in enumerate(["<pad>", "</s>", "<unk>", *dict.fromkeys(LETTERS)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "relu"}
    config = T5Config(vocab_size=len(vocabulary), decoder_start_token_id=0, eos_token_id=1, pad_token_id=0, **shape)
    network = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    network.save_pretrained(folder)
