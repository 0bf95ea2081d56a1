# The images of Holdfast:  docker build --target api .   (or worker, operator, load)
#
# Needs BuildKit. After a change of the code, only the crates of the workspace are built again: their dependencies are in
# the stage `dependencies`, which changes only with Cargo.lock.
ARG RUST_IMAGE=rust:1-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS dependencies
ARG TARGETARCH
RUN case "${TARGETARCH:-amd64}" in amd64 | arm64) ;; *) echo "there are images for amd64 and arm64 only, not for ${TARGETARCH}" >&2; exit 1 ;; esac
WORKDIR /build
ENV CARGO_INCREMENTAL=0
COPY Cargo.toml Cargo.lock ./
COPY crates/admission/Cargo.toml crates/admission/
COPY crates/api/Cargo.toml crates/api/
COPY crates/cache/Cargo.toml crates/cache/
COPY crates/dev/bench/Cargo.toml crates/dev/bench/
COPY crates/dev/chaos/Cargo.toml crates/dev/chaos/
COPY crates/dev/docs/Cargo.toml crates/dev/docs/
COPY crates/dev/fuzz-seeds/Cargo.toml crates/dev/fuzz-seeds/
COPY crates/dev/observe/Cargo.toml crates/dev/observe/
COPY crates/dev/sandbox/Cargo.toml crates/dev/sandbox/
COPY crates/domain/Cargo.toml crates/domain/
COPY crates/operator/Cargo.toml crates/operator/
COPY crates/queue/Cargo.toml crates/queue/
COPY crates/redis/Cargo.toml crates/redis/
COPY crates/request-derive/Cargo.toml crates/request-derive/
COPY crates/store/Cargo.toml crates/store/
COPY crates/telemetry/Cargo.toml crates/telemetry/
COPY crates/throttle/Cargo.toml crates/throttle/
COPY crates/worker/Cargo.toml crates/worker/
# The crates are still empty, so only their dependencies are built.
RUN for crate in $(find crates -name Cargo.toml -printf '%h '); do mkdir -p "$crate/src" && echo 'fn main() {}' >"$crate/src/main.rs" && : >"$crate/src/lib.rs"; done
RUN --mount=type=cache,id=holdfast-registry,target=/usr/local/cargo/registry,sharing=locked \
    cargo build --locked --release --package holdfast-api --package holdfast-worker --package holdfast-operator --package holdfast-bench

FROM dependencies AS build
COPY crates crates
COPY migrations migrations
ARG COMMIT=unknown
# Cargo compares file times, and the copied files may be older than the empty crates. The symbol table is kept for
# backtraces.
RUN --mount=type=cache,id=holdfast-registry,target=/usr/local/cargo/registry,sharing=locked \
    find crates migrations -type f -exec touch {} + && \
    HOLDFAST_COMMIT="$COMMIT" cargo build --locked --release --package holdfast-api --package holdfast-worker --package holdfast-operator --package holdfast-bench --bins && \
    mkdir /binaries && for name in api worker operator bench; do \
      strip --strip-debug -o "/binaries/holdfast-$name" "target/release/holdfast-$name" || exit 1; \
    done

FROM ${BASE_IMAGE} AS base
ARG COMMIT=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.source="https://github.com/holdfast/holdfast" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="Holdfast"
USER 65532:65532
WORKDIR /
STOPSIGNAL SIGTERM

FROM base AS worker
LABEL org.opencontainers.image.title="holdfast-worker" org.opencontainers.image.description="Fulfils the orders of Holdfast"
COPY --from=build /binaries/holdfast-worker /holdfast-worker
EXPOSE 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["/holdfast-worker", "healthcheck"]
ENTRYPOINT ["/holdfast-worker"]
CMD ["run"]

FROM base AS operator
LABEL org.opencontainers.image.title="holdfast-operator" org.opencontainers.image.description="Tells Kubernetes how deep the queues of Holdfast are"
COPY --from=build /binaries/holdfast-operator /holdfast-operator
EXPOSE 6443 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["/holdfast-operator", "healthcheck"]
ENTRYPOINT ["/holdfast-operator"]
CMD ["run"]

# A load generator for trials; not part of a release.
FROM base AS load
LABEL org.opencontainers.image.title="holdfast-load" org.opencontainers.image.description="Offers orders to Holdfast"
COPY --from=build /binaries/holdfast-bench /holdfast-bench
ENTRYPOINT ["/holdfast-bench"]
CMD ["load"]

# `docker build .` builds the last stage.
FROM base AS api
LABEL org.opencontainers.image.title="holdfast-api" org.opencontainers.image.description="The REST API of Holdfast"
COPY --from=build /binaries/holdfast-api /holdfast-api
EXPOSE 8000 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["/holdfast-api", "healthcheck"]
ENTRYPOINT ["/holdfast-api"]
CMD ["serve"]
