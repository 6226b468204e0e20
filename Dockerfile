# One image for servers, worker and flow runs; compose.yaml holds their commands. Build: docker build -t lstm .
FROM python:3.11-slim

# git: for the commit in the tags of runs.
RUN apt-get update && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.lock .
# For a small image without CUDA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements.lock

COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && python -m compileall -qq -j 0 /usr/local/lib/python3.11/site-packages flows tasks lstm || true

RUN useradd --create-home lstm && mkdir /state && chown lstm /state /app
USER lstm
# Prepared data, forecasts, studies and files of the servers. Bytecode is compiled above.
ENV LSTM_HOME=/state PREFECT_HOME=/state/prefect PYTHONDONTWRITEBYTECODE=1 PWD=/app
VOLUME /state
CMD ["lstm", "--help"]
