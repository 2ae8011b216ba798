# gpukit with CuPy for CUDA 13. UNBUILT: written where there was no container engine and no card;
# nobody has run it yet. The host needs an NVIDIA driver of the CUDA 13 generation (580 or later)
# and the NVIDIA container toolkit.
#
#   docker build -f docker/cuda.Dockerfile -t gpukit:cuda .
#   docker run --rm --gpus all gpukit:cuda info
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

# Ubuntu 24.04 has Python 3.12 and keeps its own packages out of pip's way: hence the environment.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.12 python3.12-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3.12 -m venv /opt/gpukit
ENV PATH=/opt/gpukit/bin:$PATH

COPY . /source
RUN pip install --no-cache-dir "/source[cuda13]" && rm -rf /source

# Compiled loops and downloaded data sets; mount volumes here to keep them.
ENV GPUKIT_CACHE=/cache GPUKIT_DATA=/data
RUN useradd --create-home gpukit && mkdir -p /cache /data /work/runs \
    && chown -R gpukit /cache /data /work
USER gpukit
WORKDIR /work

ENTRYPOINT ["gpukit"]
CMD ["--help"]
