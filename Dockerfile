# The image holds Node and the one file of the release, nothing else of the build. See docs/install.md.
FROM node:24-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json LICENSE ./
COPY scripts/build.ts scripts/
COPY src src/
RUN npm run build

FROM node:24-slim
COPY --from=build --chmod=0755 /build/dist/etcd-lifeboat.cjs /usr/local/bin/etcd-lifeboat
COPY --from=build /build/dist/LICENSES.txt /build/LICENSE /usr/share/doc/etcd-lifeboat/
RUN install -d -m 0700 -o 65532 -g 65532 /var/cache/etcd-lifeboat
USER 65532:65532
# Of `run`, on the listen address that is the default. A backup that fails does not make the daemon unhealthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9979/livez').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["etcd-lifeboat"]
CMD ["run"]
