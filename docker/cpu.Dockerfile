# A Ray node for the embedded profile. Build at the top of the checkout: docker build -f docker/cpu.Dockerfile -t curation:cpu .
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    CURATION_HOME=/store

# npm and pip fetch the models into the store, when a run first needs them.
RUN apt-get update && apt-get install --yes --no-install-recommends npm && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --create-home curation && install --directory --owner=curation --group=curation /data /store

# torch's CPU build, a tenth of the other; only torch and what it needs come from this index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --index-url "$TORCH_INDEX" torch==2.13.0

COPY pyproject.toml README.md LICENSE /src/
COPY curation /src/curation
COPY workflows /src/workflows
RUN pip install '/src[s3]'

USER 1000:1000
WORKDIR /data
VOLUME ["/data", "/store"]
EXPOSE 6379 8265
HEALTHCHECK --start-period=60s --interval=15s --timeout=10s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:52365/api/healthz', timeout=5)"]
CMD ["ray", "start", "--head", "--block", "--port=6379", "--dashboard-host=0.0.0.0"]
