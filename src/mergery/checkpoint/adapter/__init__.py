"""PEFT adapters as inputs: LoRA and DoRA, applied block by block while a model is read."""

from mergery.checkpoint.adapter.adapter import Adapter
from mergery.checkpoint.adapter.update import Added, LowRank, Replaced, ReplacedRows, Step, Update, Updater

__all__ = ["Adapter", "Added", "LowRank", "Replaced", "ReplacedRows", "Step", "Update", "Updater"]
