"""One model for each segment of the data (`data.partition_by`)."""

from lstm.pipeline_config import PipelineConfig


def partitions(config: PipelineConfig) -> tuple[PipelineConfig, ...]:
    """The configuration of each segment's model; of data that are not partitioned, the configuration itself."""
    return (config,)
