# syntax=docker/dockerfile:1
# Two images out of one file (docs/operate/deploy.md):
#   docker build --target slim -t tailrace:slim .     everything but drift, the embedded broker and the demo
#   docker build -t tailrace:full .                   everything
# Any user id may run them, with a read-only root file system: only /data (a volume) and /tmp are written to.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_CACHE_DIR=/opt/uv-cache \
    UV_LINK_MODE=copy \
    UV_NO_BUILD=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# uv is itself installed by hash
COPY requirements-uv.txt ./
RUN python -m venv /opt/uv && /opt/uv/bin/pip install --quiet --require-hashes -r requirements-uv.txt
ENV PATH=/opt/uv/bin:$PATH
COPY requirements.lock ./
COPY scripts/image_requirements.py scripts/

# our two wheels
FROM build AS wheels
RUN python scripts/image_requirements.py build > /tmp/lock.txt \
    && uv venv --quiet /opt/wheels \
    && uv pip install --quiet --python /opt/wheels --require-hashes -r /tmp/lock.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY emitter emitter
COPY schemas schemas
COPY warehouse warehouse
COPY pipelines pipelines
COPY jobs jobs
COPY tailrace tailrace
# hatchling's own command, without pip: nothing of the source is run but its pyproject.toml
RUN /opt/wheels/bin/hatchling build -t wheel -d /dist && cd emitter && /opt/wheels/bin/hatchling build -t wheel -d /dist

FROM build AS slim-packages
RUN --mount=type=cache,target=/opt/uv-cache \
    python scripts/image_requirements.py slim > /tmp/lock.txt \
    && uv venv --quiet /opt/tailrace \
    && uv pip install --quiet --python /opt/tailrace --no-deps --require-hashes -r /tmp/lock.txt
RUN --mount=type=bind,from=wheels,source=/dist,target=/dist \
    uv pip install --quiet --python /opt/tailrace --no-deps --offline /dist/*.whl

FROM build AS full-packages
# Address of a package index with torch's build for the CPU alone. Unset: torch is the lock's, with CUDA (5 GB more).
# torch's version is the lock's in both cases; from another index it is not checked by hash.
ARG TORCH_INDEX
RUN --mount=type=cache,target=/opt/uv-cache \
    uv venv --quiet /opt/tailrace \
    && if [ -n "${TORCH_INDEX}" ]; then \
         python scripts/image_requirements.py full-without-torch > /tmp/lock.txt \
         && uv pip install --quiet --python /opt/tailrace --no-deps --index-url "${TORCH_INDEX}" \
              "$(grep -oE '^torch==[0-9.]+' requirements.lock)" ; \
       else python scripts/image_requirements.py full > /tmp/lock.txt ; fi \
    && uv pip install --quiet --python /opt/tailrace --no-deps --require-hashes -r /tmp/lock.txt
RUN --mount=type=bind,from=wheels,source=/dist,target=/dist \
    uv pip install --quiet --python /opt/tailrace --no-deps --offline /dist/*.whl
# the embedded broker's jars, each checked against tailrace/broker.lock
ENV TAILRACE_CACHE=/opt/tailrace/cache
RUN /opt/tailrace/bin/python -m tailrace.broker --fetch && chmod -R a+rX /opt/tailrace/cache
# the model is inside: loading it here with no network allowed fails the build, not the first alert
RUN --network=none HF_HUB_OFFLINE=1 /opt/tailrace/bin/python -c \
    "from pipelines.drift.embed import EmbedConfig, ModelProcess; print(ModelProcess(EmbedConfig()).encode(['ready']).shape)"

FROM python:${PYTHON} AS runtime
# HOME of a user id without an entry in /etc/passwd; libraries that keep caches write below it
ENV PATH=/opt/tailrace/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    TAILRACE_CACHE=/opt/tailrace/cache \
    TAILRACE_HOME=/data \
    TAILRACE_WEB__PORT=9464
# 0777, because the user id is chosen at the start; a new named volume takes it over
RUN install -d -m 0777 /data
WORKDIR /data
VOLUME /data
EXPOSE 9464
USER 10001:10001
STOPSIGNAL SIGTERM
# /healthz of the supervisor needs no token
HEALTHCHECK --interval=10s --timeout=6s --start-period=90s --retries=6 CMD ["python", "-I", "-m", "tailrace.probe"]
# the supervisor reaps orphans as process 1, and works the same below an init; SIGTERM ends everything within 10 s
ENTRYPOINT ["tailrace"]
CMD ["up", "--echo"]

FROM runtime AS slim
COPY --from=slim-packages /opt/tailrace /opt/tailrace

FROM runtime AS full
COPY --from=full-packages /opt/tailrace /opt/tailrace
