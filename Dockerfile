# A static binary in an empty image. Build:  docker build -t spillway --build-arg VERSION=$(git describe --always) .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/spillway ./cmd/spillway \
 && mkdir -m 0700 /out/spool

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/spillway /spillway
COPY --from=build --chown=65532:65532 /out/spool /spool
USER 65532:65532
# The spool must lie on a disk: anonymous files in a container's memory would be memory again.
VOLUME /spool
EXPOSE 8080 8081
ENV SPILLWAY_SPOOL_DIR=/spool \
    TMPDIR=/spool \
    SPILLWAY_LISTEN=0.0.0.0:8080 \
    SPILLWAY_ADMIN_LISTEN=127.0.0.1:8081
HEALTHCHECK --interval=30s --timeout=5s CMD ["/spillway", "health"]
ENTRYPOINT ["/spillway"]
CMD ["serve"]
