# Guildhall for nodes with NVIDIA GPUs; the wheels bring CUDA 13, the node's driver must be 580 or later.
#   docker build --file k8s/images/cuda.Dockerfile --tag guildhall-cuda .
FROM python:3.11-slim-bookworm

# Compiles at run time: triton and flashinfer ask for a C++ compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# Installed into the image's own Python: KubeRay starts Ray through bash with the plain PATH.
COPY requirements/cuda.lock /tmp/requirements/cuda.lock
# --no-deps: the lock is complete.
RUN pip install --no-cache-dir --no-deps --requirement /tmp/requirements/cuda.lock

# The user that k8s/pods.py runs as; the volume's folder is theirs.
RUN useradd --uid 1000 --create-home guildhall \
    && install --directory --owner guildhall --group guildhall /srv/guildhall /var/lib/guildhall
COPY --chown=guildhall:guildhall . /srv/guildhall
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable /srv/guildhall \
    && cd /srv/guildhall && python -m k8s.image requirements/cuda.lock

USER guildhall
WORKDIR /srv/guildhall
ENV RAY_USAGE_STATS_ENABLED=0 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
