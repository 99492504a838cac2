# Two stages: the first has a compiler and libclang, the second only the program.
FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends clang libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist --bin rowarden

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin rowarden \
 && install -d -o rowarden -g rowarden -m 0700 /var/lib/rowarden/audit
COPY --from=build /src/target/dist/rowarden /usr/local/bin/rowarden
USER rowarden
VOLUME /var/lib/rowarden/audit
EXPOSE 6432
ENTRYPOINT ["/usr/local/bin/rowarden"]
CMD ["serve", "--config", "/etc/rowarden/rowarden.toml"]
