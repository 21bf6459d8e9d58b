# syntax=docker/dockerfile:1
# One static binary in an empty image:
#   docker build --tag ghcr.io/volcano-sh/kthena-router:v0.1.0 --build-arg VERSION=v0.1.0 .

FROM rust:1.95-slim-trixie AS build
WORKDIR /build
COPY . .
# The C library is linked in, as the final image has none, and random numbers come from the system call, as a static
# program does not find the library's function for it. The target is named, although it is the host, because procedural
# macros would be linked statically otherwise, which is impossible. The target directory is a cache that ends with this
# step, so the binary is copied out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
        cargo build --profile dist --locked --target "$host" --package kthena-router-actors --bin kthena-router --no-default-features \
    && cp "target/$host/dist/kthena-router" /kthena-router

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kthena-router" \
      org.opencontainers.image.description="Inference router and Gateway for Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /kthena-router /kthena-router
# Whom a BackendTLSPolicy with `wellKnownCACertificates: System` trusts.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# The allocator asks for no huge pages; on kernels that give them unasked, it refuses them.
ENV MIMALLOC_ALLOW_THP=0
# By number: there is no /etc/passwd, and runAsNonRoot cannot check a name.
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/kthena-router"]
