# A clone with all that its commands need, `make` aside:
#   docker build -t flatopt . && docker run flatopt
#   docker build -t flatopt --build-arg "JAX=jax[cuda12]" . && docker run --gpus all flatopt
FROM python:3.13-slim
WORKDIR /flatopt
COPY . .
ARG JAX=jax
RUN pip install --no-cache-dir --upgrade pip \
    && pip install --no-cache-dir -c constraints.txt -e . "$JAX" --group experiments
CMD ["python", "-m", "flatopt"]
