"""Model directories: references, headers, tensors. Opening one reads no weight and imports no torch."""

from mergery.checkpoint.adapter import Adapter, Update
from mergery.checkpoint.architecture import ROLES, Role, layer_name
from mergery.checkpoint.checkpoint import Checkpoint
from mergery.checkpoint.ref import ModelRef
from mergery.checkpoint.safetensors import TensorInfo

__all__ = ["ROLES", "Adapter", "Checkpoint", "ModelRef", "Role", "TensorInfo", "Update", "layer_name"]
