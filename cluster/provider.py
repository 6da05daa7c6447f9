"""Whose machines a cluster is made of."""

from typing import Literal

Cloud = Literal["aws", "gcp", "azure"]
Provider = Literal["aws", "gcp", "azure", "onprem"]

SSH_USER = "ubuntu"
"""Who logs in to the clouds' Ubuntu images."""
