# syntax=docker/dockerfile:1
#
# Both base images are arguments, so that a mirror can stand in for their registries, and a digest for their tags:
#
#   docker build \
#     --build-arg NODE_IMAGE=mirror.example/library/node:24.21.0-bookworm-slim@sha256:... \
#     --build-arg RUNTIME_IMAGE=mirror.example/distroless/cc-debian12:nonroot@sha256:... \
#     --build-arg NPM_REGISTRY=https://mirror.example/npm/ \
#     -t smart-storage-operator:0.1.0 .
#
# `docker buildx imagetools inspect IMAGE` prints a digest. distroless has no version tags: pin it by digest where builds
# have to be repeatable.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${NODE_IMAGE} AS dependencies
ARG NPM_REGISTRY=
ENV npm_config_registry=${NPM_REGISTRY} npm_config_update_notifier=false
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# What only developers read is left out: a third of the size.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
 && find node_modules -type f \( -name '*.map' -o -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -iname '*.md' \) ! -iname 'licen[cs]e*' -delete \
 && rm -rf node_modules/.package-lock.json

FROM dependencies AS build
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY src ./src
COPY hooks ./hooks
RUN npm run build

FROM ${NODE_IMAGE} AS node

# Neither shell nor package manager, and of Node.js the one file.
FROM ${RUNTIME_IMAGE}
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json ./
ENV NODE_ENV=production
# By number, so that Kubernetes can tell that it is not root: distroless's nonroot.
USER 65532:65532
# Metrics, health, hooks.
EXPOSE 8080 8081 8082
# For engines that ask; Kubernetes has its own probes. Asks where HEALTH_ADDR says.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/local/bin/node", "/app/dist/src/healthcheck.js"]
# The container's arguments are the operator's options.
ENTRYPOINT ["/usr/local/bin/node", "--enable-source-maps", "/app/dist/src/main.js"]
