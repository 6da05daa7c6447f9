"""A LoRA adapter's folder, as a config names it."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from experts.adapt.config import FilePath


def _check_adapter(folder: Path) -> Path:
    if not (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder} has no adapter_config.json; name the folder of a LoRA adapter, such as the adapter/ of a run of "
            "`guildhall adapt sft`"
        )
    return folder


# Given relative to the config file; once read, absolute and a folder that holds an adapter.
AdapterFolder = Annotated[FilePath, AfterValidator(_check_adapter)]
