# Escarcelle's program. What it needs stands beside it (compose.yaml): PostgreSQL, Redis, a mail server.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/escarcelle
COPY requirements.lock ./
RUN /opt/escarcelle/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY requirements-node.lock ./
RUN python -m venv .node && .node/bin/pip install --no-cache-dir --require-hashes -r requirements-node.lock
COPY . .
RUN .node/bin/python web/build.py && \
    /opt/escarcelle/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent escarcelle
COPY --from=build /opt/escarcelle /opt/escarcelle
ENV PATH=/opt/escarcelle/bin:$PATH
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/livez', timeout=3)"]
# Without a shell in between: the signal to stop reaches the program.
ENTRYPOINT ["escarcelle"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--processes", "2"]
