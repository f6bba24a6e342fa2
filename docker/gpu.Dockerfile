# A Ray node for the papers' models, too. Build at the top of the checkout: docker build -f docker/gpu.Dockerfile -t curation:gpu .
# CUDA's libraries come with torch's wheel; of the host it needs the driver and NVIDIA's container toolkit.
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    CURATION_HOME=/store \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# libgl1 and libglib2.0-0 for the OpenCV of ultralytics and groundingdino; a C compiler for the kernels that Triton makes.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgl1 libglib2.0-0 npm \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --create-home curation && install --directory --owner=curation --group=curation /data /store

COPY pyproject.toml README.md LICENSE /src/
COPY requirements/paper-constraints.txt /src/requirements/
COPY curation /src/curation
COPY workflows /src/workflows
RUN pip install '/src[s3,paper,vllm]' --constraint /src/requirements/paper-constraints.txt

USER 1000:1000
WORKDIR /data
VOLUME ["/data", "/store"]
EXPOSE 6379 8265
HEALTHCHECK --start-period=60s --interval=15s --timeout=10s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:52365/api/healthz', timeout=5)"]
CMD ["ray", "start", "--head", "--block", "--port=6379", "--dashboard-host=0.0.0.0"]
