# Two stages: what builds does not ship. The result runs as an ordinary user, needs no shell, writes to
# /data only, and takes its configuration from /etc/llm-gateway.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/gateway
COPY requirements.lock ./
RUN /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY gateway gateway
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/gateway/bin/python -m compileall -q /opt/gateway/lib

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home gateway \
    && install -d -o gateway /data /etc/llm-gateway \
    && rm -rf /var/cache/* /var/log/* /usr/local/bin/pip*
COPY --from=build /opt/gateway /opt/gateway
COPY config /etc/llm-gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["llm-gateway"]
CMD ["serve", "--config", "/etc/llm-gateway", "--host", "0.0.0.0"]
