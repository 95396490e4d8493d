"""transformers' `Trainer`, sharding on CPUs as well.

Place in the data's way: `sft` builds it -> accelerate splits the model by PyTorch's `fully_shard` -> each
process keeps its part of weights, gradients and optimizer state. Imported only by a trainer that runs.

accelerate 1.15 takes an FSDP plugin on GPUs and other accelerators alone; on CPUs it drops it without a word
and makes whole copies instead (accelerate/state.py, `AcceleratorState.__init__`, the list of types before
"ACCELERATE_USE_FSDP"). What it does with the plugin knows no device, so here it is told to use it.

Example:
    ShardedTrainer(model=model, args=TrainingArguments(..., fsdp=True), train_dataset=rows)
"""

from __future__ import annotations

from accelerate.utils import (  # type: ignore[import-untyped]
    DistributedType,
    FullyShardedDataParallelPlugin,
)
from transformers import Trainer


class ShardedTrainer(Trainer):
    """A trainer that shards wherever its arguments ask for it."""

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, and let it shard on CPUs."""
        super().create_accelerator_and_postprocess()  # type: ignore[no-untyped-call, unused-ignore]
        if self.args.fsdp_plugin_args is None or self.is_fsdp_enabled:
            return
        plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        state = self.accelerator.state
        if state.mixed_precision != "no":
            plugin.set_mixed_precision(state.mixed_precision)
        state.fsdp_plugin = plugin
        state.distributed_type = DistributedType.FSDP
        self.is_fsdp_enabled = True
