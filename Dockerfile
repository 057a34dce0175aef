# Masks for a folder of images by a trained model, without a network and without root: docs/how-to/container.md
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
COPY pyproject.toml README.md LICENSE /source/
COPY nnunet_diffusion_ensemble /source/nnunet_diffusion_ensemble
COPY trainers /source/trainers
COPY planners /source/planners
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:${PYTHON}-slim
# A folder of PyTorch's index: cpu, or a version of CUDA such as cu128; then DEVICE=cuda.
ARG TORCH=cpu
ARG DEVICE=cpu
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/${TORCH} torch torchvision
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl
COPY docker/predict.sh /usr/local/bin/predict.sh
# Nothing is written but into /output and /tmp, so that the container may be read-only.
ENV DEVICE=${DEVICE} HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1 \
    nnUNet_raw=/tmp/raw nnUNet_preprocessed=/tmp/preprocessed nnUNet_results=/tmp/results
USER 1000:1000
ENTRYPOINT ["predict.sh"]
