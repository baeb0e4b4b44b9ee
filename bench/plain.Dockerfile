# The plain way to a notebook image, for `bench/image_start.py` to compare ours with: the same base and packages, as pip
# leaves them. The context is images/notebook.
ARG BASE=python:3.12-slim
FROM ${BASE}
USER root
COPY requirements.lock /tmp/requirements.lock
RUN python3 -m pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock
RUN id jovyan >/dev/null 2>&1 || useradd --create-home --gid 100 jovyan
USER jovyan
WORKDIR /home/jovyan
EXPOSE 8888
ENTRYPOINT []
CMD ["jupyterhub-singleuser"]
