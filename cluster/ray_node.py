"""What the Ray nodes of a fleet are started with, whoever starts them: `ray up`, Kubernetes or `guildhall up`."""

from experts.fleet import NodeType

HEAD = NodeType(cpus=2, memory_gib=8)
"""The head runs Ray's control processes, the Serve controller and a proxy, but no replica: it offers no CPU."""

# Serve's messages are kilobytes; Ray's own default takes 30 % of memory and complains about a small /dev/shm.
OBJECT_STORE_BYTES = 256 * 1024 * 1024

NODE_TYPE_LABEL = "guildhall/node-type"
"""The label, of a Ray node and of a pod, that names its node type in the fleet file."""
