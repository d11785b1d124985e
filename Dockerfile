# The router as an image: the same locked install as scripts/run, without development tools, not as root.
#
#   docker build -t perp-router .
#   docker run -p 8080:8080 -v router-state:/var/lib/perp-router \
#     -v ./api-keys:/run/secrets/api-keys:ro -e ROUTER_API_KEYS_FILE=/run/secrets/api-keys perp-router
#
# It listens on every address of its own network, so it wants callers with API keys. Keys are files that are mounted,
# never build arguments or variables. SIGTERM drains; give it longer than ROUTER_DRAIN_SECONDS (--stop-timeout).

FROM python:3.12.11-slim-bookworm AS build

ENV UV_PROJECT_ENVIRONMENT=/app/.venv \
    UV_PYTHON=/usr/local/bin/python \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1

WORKDIR /app/source
RUN python -m venv /app/uv && /app/uv/bin/python -m pip install --no-cache-dir --quiet uv==0.13.8

# Dependencies first: they change seldom, and this layer is then kept.
COPY pyproject.toml uv.lock ./
RUN /app/uv/bin/uv sync --frozen --no-dev --no-cache --no-install-project

COPY README.md LICENSE ./
COPY router router
COPY providers providers
COPY idl idl
RUN /app/uv/bin/uv sync --frozen --no-dev --no-cache --no-editable


FROM python:3.12.11-slim-bookworm

LABEL org.opencontainers.image.title="perp-router" \
      org.opencontainers.image.description="A smart order router for perpetual futures" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# The ledger and, on localnet, the embedded cluster's state: default paths are relative to this folder.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/perp-router
WORKDIR /var/lib/perp-router
VOLUME ["/var/lib/perp-router"]

COPY --from=build /app/.venv /app/.venv

ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ROUTER_HOST=0.0.0.0 \
    ROUTER_PORT=8080

USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM

# Needs no shell and no curl. Liveness only: a router that is settling old orders must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['ROUTER_PORT'] + '/health/live', timeout=4)"]

ENTRYPOINT ["perp-router"]
CMD ["serve"]
