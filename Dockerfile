# Ringmaster for KubeRay. Head, call workers and jobs run this one image, since all of a cluster need the same Ray and
# the same Python. No system libraries: LiveKit, soxr and libsndfile come inside their wheels.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /build
COPY requirements.lock .
# Everything that is pinned, each file held to its hash …
RUN pip download --no-cache-dir --no-deps --require-hashes --only-binary :all: --requirement requirements.lock --dest /wheels
COPY pyproject.toml README.md LICENSE serve_app.py ./
COPY actors actors
COPY cluster cluster
# … and of that only what runs: no test tools, no embedded stack.
RUN pip install --no-cache-dir --no-index --find-links /wheels --prefix /install .

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /install /usr/local
# The base image comes without a compiled standard library, and who may not write there would compile it at every start of
# every process: a Ray node then takes so long to start that Ray gives it up on a busy machine.
RUN python -m compileall -q -x site-packages "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 ringmaster
USER 1000
WORKDIR /home/ringmaster
