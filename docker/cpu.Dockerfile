# gpukit on CPUs. UNBUILT: written where there was no container engine; nobody has run it yet.
#
#   docker build -f docker/cpu.Dockerfile -t gpukit:cpu .
#   docker run --rm -v "$PWD/runs:/work/runs" gpukit:cpu train lenet5
FROM python:3.12-slim

COPY . /source
RUN pip install --no-cache-dir /source && rm -rf /source

# Compiled loops and downloaded data sets; mount volumes here to keep them.
ENV GPUKIT_CACHE=/cache GPUKIT_DATA=/data
RUN useradd --create-home gpukit && mkdir -p /cache /data /work/runs \
    && chown -R gpukit /cache /data /work
USER gpukit
WORKDIR /work

ENTRYPOINT ["gpukit"]
CMD ["--help"]
