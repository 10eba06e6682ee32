# The gateway on a CPU. Build it from the repository's root:
#   docker build -f docker/cpu.Dockerfile -t bread-gateway:cpu .
FROM python:3.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Versions are not pinned, because Debian keeps one version per release: a pinned one disappears after an update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /data --create-home bread \
    && install --directory --owner bread --group bread /models

# Install with the Makefile, as `make serve` does. Empty packages replace the code, which is copied afterwards
# because it changes more often.
WORKDIR /opt/bread
ENV PIP_NO_CACHE_DIR=1
COPY Makefile pyproject.toml README.md LICENSE chat_with_model.py ./
RUN for package in baker gateway; do \
        mkdir -p "$package" && touch "$package/__init__.py"; \
    done \
    && make .venv/.serve-cpu EXTRA=cpu
COPY baker baker
COPY gateway gateway

# /data has the database, adapters, the embedded model and caches; /models has downloads from Hugging Face.
ENV PATH=/opt/bread/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BREAD_HOME=/data \
    BREAD_HOST=0.0.0.0 \
    BREAD_PORT=8080 \
    HF_HOME=/models
VOLUME ["/data", "/models"]
EXPOSE 8080
USER 10001:10001
# The first start also writes clients' settings (.env) here.
WORKDIR /data

HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "gateway"]
