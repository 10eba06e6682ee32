# The gateway on a CPU. From the repository's root:
#   docker build -f docker/cpu.Dockerfile -t bread-gateway:cpu .
FROM python:3.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Debian keeps one version of a release at a time: a pinned one is gone after an update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /data --create-home bread \
    && install --directory --owner bread --group bread /models

# The steps of `make serve`, by the Makefile itself. The code comes after them, since it changes more
# often than they do; empty packages stand in for it.
WORKDIR /opt/bread
ENV PIP_NO_CACHE_DIR=1
COPY Makefile pyproject.toml README.md LICENSE ./
RUN for package in baker gateway gateway/engine gateway/protocol gateway/routes; do \
        mkdir -p "$package" && touch "$package/__init__.py"; \
    done \
    && make .venv/.serve-cpu EXTRA=cpu
COPY baker baker
COPY gateway gateway

# In /data: database, adapters, the embedded model, caches. In /models: what comes from Hugging Face.
ENV PATH=/opt/bread/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BREAD_HOME=/data \
    BREAD_HOST=0.0.0.0 \
    BREAD_PORT=8080 \
    HF_HOME=/models
VOLUME ["/data", "/models"]
EXPOSE 8080
USER 10001:10001
# Clients' settings (.env) are written here, too.
WORKDIR /data

HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "gateway"]
