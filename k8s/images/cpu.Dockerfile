# Guildhall for nodes without a GPU, and for the head. From the project's folder:
#   docker build --file k8s/images/cpu.Dockerfile --tag guildhall-cpu .
FROM python:3.11-slim-bookworm

# Compiles at run time: triton and torch ask for a C++ compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# Installed into the image's own Python: KubeRay starts Ray through bash with the plain PATH.
COPY requirements/cpu.lock /tmp/requirements/cpu.lock
# --no-deps: the lock is complete. The CPU build of torch comes from PyTorch's own index.
RUN pip install --no-cache-dir --no-deps "$(grep -i '^torch==' /tmp/requirements/cpu.lock | cut -d' ' -f1)" \
        --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir --no-deps --requirement /tmp/requirements/cpu.lock

# The user that k8s/pods.py runs as; the volume's folder is theirs.
RUN useradd --uid 1000 --create-home guildhall \
    && install --directory --owner guildhall --group guildhall /srv/guildhall /var/lib/guildhall
COPY --chown=guildhall:guildhall . /srv/guildhall
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable /srv/guildhall \
    && cd /srv/guildhall && python -m k8s.image requirements/cpu.lock

USER guildhall
WORKDIR /srv/guildhall
ENV RAY_USAGE_STATS_ENABLED=0
