"""Steps of open_clip with a locked image tower: the step alone from tensors, or from a tar of JPEGs to the update.

    python open_clip_lit.py WORK_FILE OUTCOME

WORK_FILE is JSON: `text` (width, heads, layers, vocab_size, context_length), `batch_pairs`, `num_steps`, `tar` (a path
for the way from tar to update, or null), `seed`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.loss import ClipLoss

MODEL = "ViT-B-16"


def network(work: dict[str, Any]) -> Any:
    """ViT-B/16 with the text tower that is asked for, the image tower locked."""
    config = open_clip.get_model_config(MODEL)
    config["text_cfg"] = config["text_cfg"] | work["text"]
    model = open_clip.model.CLIP(
        embed_dim=config["embed_dim"],
        vision_cfg=open_clip.model.CLIPVisionCfg(**config["vision_cfg"]),
        text_cfg=open_clip.model.CLIPTextCfg(**config["text_cfg"]),
    )
    model.lock_image_tower()
    return model.train()


def tensors(work: dict[str, Any]) -> Any:
    """The same pictures and captions in every step."""
    pixels = torch.randn(work["batch_pairs"], 3, 224, 224)
    ids = torch.randint(1, work["text"]["vocab_size"] - 1, (work["batch_pairs"], work["text"]["context_length"]))
    while True:
        yield pixels, ids


def from_tar(work: dict[str, Any]) -> Any:
    """Pictures of a tar, decoded and prepared as open_clip does it for training, in this process."""
    import webdataset

    prepare = open_clip.image_transform(224, is_train=False)
    source = webdataset.WebDataset(work["tar"], shardshuffle=False).decode("pil").to_tuple("jpg", "json").repeat()
    source = source.map_tuple(prepare, lambda row: torch.tensor(row["ids"][: work["text"]["context_length"]]))
    yield from webdataset.WebLoader(source.batched(work["batch_pairs"]), batch_size=None, num_workers=0)


def main(work_file: Path, outcome: Path) -> None:
    """Take steps and write what they took."""
    torch.set_num_threads(1)
    work = json.loads(work_file.read_text(encoding="utf-8"))
    torch.manual_seed(work["seed"])
    model = network(work)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=True)
    loss_of = ClipLoss()
    batches, losses, began = from_tar(work) if work["tar"] else tensors(work), [], 0.0
    for number in range(work["num_steps"] + 1):
        if number == 1:
            began = time.process_time()
        pixels, ids = next(batches)
        image, text, scale = model(pixels, ids)
        loss = loss_of(image, text, scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    found = {
        "step_seconds": (time.process_time() - began) / work["num_steps"],
        "first_loss": losses[0],
        "trained_parameters": sum(each.numel() for each in trained),
        "locked_parameters": sum(each.numel() for each in model.parameters() if not each.requires_grad),
        "name": f"open_clip {open_clip.__version__}",
    }
    outcome.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
