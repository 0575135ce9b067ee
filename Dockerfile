# The clip-onnx command as a container image.
#
#     docker build --tag clip-onnx .
#     docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" clip-onnx export CHECKPOINT --out FOLDER
#
# Paths are those of the current folder, which the container sees as /work. The program needs no network:
# `--network none` may be added. ONNX Runtime is not in the image. To use it, mount its library and name it:
# `--volume /path/libonnxruntime.so:/ort.so --env ORT_DYLIB_PATH=/ort.so`.

# The page of --demo. The program embeds it, so it is built first.
FROM node:22-bookworm-slim AS page
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
RUN npm ci
COPY web/ ./
RUN npm run build

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY proto/ proto/
COPY models/ models/
COPY benches/ benches/
COPY examples/ examples/
COPY src/ src/
# Cargo refuses a manifest whose test is not there.
COPY tests/suite/ tests/suite/
COPY --from=page /src/web/dist/ web/dist/
RUN cargo build --profile dist --locked --bin clip-onnx

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="clip-onnx" \
      org.opencontainers.image.description="CLIP-family checkpoints, as published, into verified ONNX." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/target/dist/clip-onnx /usr/local/bin/clip-onnx
COPY --from=page /src/web/dist/demo/LICENSES.txt /usr/share/doc/clip-onnx/PAGE-LICENCES.txt
COPY LICENSE /usr/share/doc/clip-onnx/LICENSE
WORKDIR /work
USER 65532:65532
ENTRYPOINT ["clip-onnx"]
CMD ["--help"]
