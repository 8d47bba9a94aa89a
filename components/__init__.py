"""What a stage does: one module per verb with one public function of its name, and beside them what verbs share."""

VERBS: dict[str, str] = {
    "ingest": "ingested",
    "validate": "validated",
    "fit": "fitted",
    "shard": "sharded",
    "pretrain": "pretrained",
    "align": "aligned",
    "evaluate": "evaluated",
    "package": "packaged",
    "register": "registered",
    "publish": "published",
}
"""Each verb and its participle, the folder under `artifacts/` that holds what it leaves. The order is the path."""

PURE_VERBS: tuple[str, ...] = tuple(VERBS)[:8]
"""The same inputs give the same output, so each is a DVC stage; the last two act on a server."""
