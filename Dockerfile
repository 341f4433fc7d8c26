# Roadstead's image: its programs, the authorities that public S3 services are vouched for by, and nothing else.
#
#   docker build --tag roadstead .                                                  for this machine
#   docker buildx build --platform linux/amd64,linux/arm64 --tag roadstead .        for both architectures
#
# The test bed builds the same layout without an engine, from the last stage below (tests/cluster/src/image.rs).
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Static programs need no C library, so that the image has none to be kept up to date.
RUN target="$(uname -m)-unknown-linux-gnu" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" \
        --package roadstead-server --package roadstead-operator --package roadstead-node-mirror \
    && mkdir /out \
    && cp "target/$target/release/roadstead" "target/$target/release/roadstead-operator" \
        "target/$target/release/roadstead-node-mirror" /out/

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/roadstead /roadstead
COPY --from=build /out/roadstead-operator /roadstead-operator
COPY --from=build /out/roadstead-node-mirror /roadstead-node-mirror
USER 65532:65532
EXPOSE 5000
ENTRYPOINT ["/roadstead"]
