# One image for the reducer, the combiner and (with a framework) clients:
#
#     docker build -t fedn .                                                  # servers: no framework
#     docker build -t fedn-client --build-arg EXTRA=sklearn .                 # clients: sklearn, torch or keras
#     docker build --build-arg BASE=registry.example.org/python:3.11 …        # another base: any with python3 ≥ 3.11 and venv
#
# Whatever pip needs to find packages (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL) may be given as build arguments; they stay in
# the image's history, so put no password there. Nothing else of yours goes in: no key, no secret, no data.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv /opt/fedn
ENV PATH=/opt/fedn/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
# Dependencies in layers of their own: a changed line of fedn installs none of them again, and all images share the first.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir fedn && touch fedn/__init__.py && pip install .
ARG EXTRA=
# Name of a folder of test-projects/: its framework is installed where EXTRA says none.
ARG EXAMPLE=
COPY test-projects test-projects
RUN helper=$(sed -n 's/^helper: *//p' "test-projects/${EXAMPLE:-.}/client/fedn.yaml" 2>/dev/null || true) \
    && case "$helper" in pytorch) default=torch ;; sklearn | keras) default=$helper ;; *) default= ;; esac \
    && extra=${EXTRA:-$default} \
    && echo "framework: ${extra:-none}" \
    && if [ -n "$extra" ]; then pip install ".[$extra]"; fi \
    && rm -rf fedn build ./*.egg-info
COPY fedn fedn
RUN pip install --no-deps --force-reinstall . && rm -rf /opt/fedn/lib/python3*/site-packages/pip*

FROM ${BASE}
RUN groupadd --system --gid 10001 fedn \
    && useradd --system --uid 10001 --gid fedn --no-create-home --home-dir /var/lib/fedn --shell /usr/sbin/nologin fedn \
    && install -d -o fedn -g fedn -m 700 /var/lib/fedn \
    && install -d -o fedn -g fedn -m 755 /trust /pieces /cache
COPY --from=build /opt/fedn /opt/fedn
# TMPDIR: what does not fit into memory goes to the data, not into a container's layer or its memory.
ENV PATH=/opt/fedn/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/var/lib/fedn \
    FEDN_DATA_DIR=/var/lib/fedn
USER 10001:10001
WORKDIR /var/lib/fedn
ENTRYPOINT ["fedn"]
CMD ["--help"]
