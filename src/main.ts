#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import type { KubeConfig } from '@kubernetes/client-node'
import { pino } from 'pino'
import { announcer } from './announcer.js'
import { discoverDiskPools, diskPoolVersion, kubeDiscovery } from './clients/diskpool-version.js'
import { lazyKubeConfig } from './clients/kubernetes.js'
import type { LeaseStore } from './clients/leases.js'
import type { CallReport } from './clients/mayastor.js'
import type { QueryReport } from './clients/prometheus.js'
import { type Clock, systemClock } from './clock.js'
import { type Address, type Config, ConfigExit, formatAddress, parseConfig } from './config.js'
import { openCredentialFiles } from './credential-files.js'
import { createHealth, mayastorProblem, prometheusProblem, serveHealth, serveMetrics } from './health.js'
import { replaceTls } from './hook-access.js'
import { createMetrics } from './metrics.js'
import { workerPolicyHooks } from './policy-pool.js'
import { buildHookServer } from './server.js'

/*
 * Command line and composition root. /readyz has to answer soon after the process starts, so what is slow to load
 * (Kubernetes and HTTP clients, schemas) is imported by what needs it, once the servers listen.
 */

/** Loading the rest keeps the process busy for half a second; the first probe is answered before. */
const PROBE_MS = 250

async function main(): Promise<void> {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  const config = parseConfig(process.argv.slice(2), process.env, { version })
  const log = await createLog(config)
  const fail = (err: unknown) => {
    log.fatal({ err }, 'unexpected error; exiting')
    process.exit(1)
  }
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)

  const clock = systemClock
  const metrics = createMetrics({ version, runtime: true })
  const health = createHealth(clock)
  const { dryRun, preservationMode, maxConcurrentMigrations, migrationTimeoutMinutes } = config
  const options = { dryRun, preservationMode, maxConcurrentMigrations, migrationTimeoutMinutes }

  const credentials = await openCredentialFiles({ config, clock, log, metrics })
  warnOfOpenTokens(config, log)

  const onQuery = (report: QueryReport) => {
    const { signal, outcome, status, seconds, detail } = report
    metrics.prometheusSeconds.observe({ signal, outcome }, seconds)
    health.observe('prometheus', prometheusProblem(report))
    if (outcome !== 'ok') log.warn({ signal, outcome, status, detail }, 'query to Prometheus failed')
  }
  const { prometheusUrl, prometheusHeader } = config
  const policy = workerPolicyHooks({
    workerData: { prometheusUrl, ...(prometheusHeader === undefined ? {} : { prometheusHeader }), options },
    credentials: credentials.prometheus,
    onQuery,
    onError: (err) => log.error({ err }, 'policy worker died; starting another'),
  })

  const kubeConfig = lazyKubeConfig(config.kubeconfigs)
  const discovery = kubeDiscovery(kubeConfig)
  const diskPools = diskPoolVersion({
    fixed: config.diskpoolApiVersion,
    discover: () => discoverDiskPools(discovery),
    clock,
    onResult: (result, changed) => {
      health.observe('kubernetes', result === 'unreachable' ? 'no discovery of DiskPools' : undefined)
      if (changed) log.info({ result }, 'looked for the DiskPool resource')
    },
  })

  const onCall = (report: CallReport) => {
    const { method, outcome, seconds } = report
    metrics.mayastorSeconds.observe({ method, outcome }, seconds)
    health.observe('mayastor', mayastorProblem(report))
  }
  const connectLeases = async (kube: KubeConfig): Promise<LeaseStore> => {
    const { kubernetesLeases } = await import('./clients/leases.js')
    const leases = await kubernetesLeases({ config: kube, namespace: config.namespace, clock })
    return observedLeases(leases, clock, (operation, seconds, error) => {
      metrics.leaseSeconds.observe({ operation, outcome: error === undefined ? 'ok' : 'error' }, seconds)
      health.observe('kubernetes', error?.message)
    })
  }

  let topology: ReturnType<typeof loadTopology> | undefined
  const loadTopology = async () => {
    const [{ topologyHooks }, { mayastorClient }, { kubernetesEvents }, kube] = await Promise.all([
      import('./step/drive.js'),
      import('./clients/mayastor.js'),
      import('./clients/events.js'),
      kubeConfig().catch((err: unknown) => {
        log.warn({ err }, 'the kubeconfig cannot be used')
        return undefined
      }),
    ])
    const mayastor = mayastorClient({ url: config.mayastorUrl, credentials: credentials.mayastor, clock, onCall })
    const events = kube && announcer({ writer: await kubernetesEvents({ config: kube, clock }), log, metrics })
    // Without Leases no journal can be kept, so nothing is moved.
    const leases = kube && (await connectLeases(kube))
    const hooks = topologyHooks({ mayastor, leases, clock, log, metrics, options, ...(events && { events }) })
    return { ...hooks, told: async () => events?.idle() }
  }
  const loadedTopology = () => {
    topology ??= loadTopology()
    return topology
  }

  const hooks = buildHookServer({
    log,
    clock,
    metrics,
    access: credentials.hooks((tls) => replaceTls(hooks.server, tls)),
    maxCalls: config.hookMaxRequests,
    policy,
    customize: async (body) => {
      const { customizePolicy } = await import('./decide/hook.js')
      return customizePolicy(body, await diskPools.current())
    },
    topology: {
      sync: async (...call) => (await loadedTopology()).sync(...call),
      finalize: async (...call) => (await loadedTopology()).finalize(...call),
    },
  })

  const healthServer = await listening('health-addr', config.healthAddr, (at) => serveHealth(at, health))
  const metricsServer = await listening('metrics-addr', config.metricsAddr, (at) => serveMetrics(at, metrics.registry))
  await listening('hook-addr', config.hookAddr, (at) =>
    hooks.listen({ ...at, listenTextResolver: (at) => `hooks served at ${at}` }),
  )
  const stop = async (signal: string) => {
    if (health.phase() === 'stopping') process.exit(1)
    health.enter('stopping')
    log.info({ signal }, 'stopping: running calls finish first; a second signal does not wait for them')
    diskPools.stop()
    credentials.stop()
    await Promise.all([hooks.close(), topology?.then(({ loop }) => loop.stop())])
    await Promise.all([policy.close(), topology?.then(({ told }) => told())])
    await Promise.all([healthServer.close(), metricsServer.close()])
    log.info('stopped')
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(signal))

  health.enter('ready')
  log.info(
    {
      version,
      hooks: formatAddress({ host: config.hookAddr.host, port: (hooks.server.address() as AddressInfo).port }),
      metrics: formatAddress(metricsServer.address),
      health: formatAddress(healthServer.address),
      startSeconds: Math.round(performance.now()) / 1000,
    },
    'ready',
  )

  await policy.warmUp()
  await setTimeout(PROBE_MS)
  if (health.phase() !== 'ready') return
  diskPools.start()
  // The first customize call would load it otherwise, with Metacontroller's informers waiting.
  await import('./decide/hook.js')
  const { loop } = await loadedTopology()
  if (health.phase() === 'ready') loop.start()
}

/** A token sent in the clear is one for everybody on the way. */
function warnOfOpenTokens(config: Config, log: pino.Logger): void {
  const { hookTokenFile, hookTlsCertFile, prometheusUrl, prometheusTokenFile, mayastorUrl, mayastorTokenFile } = config
  const open = {
    'hook-token': hookTokenFile !== undefined && hookTlsCertFile === undefined,
    'prometheus-token': prometheusTokenFile !== undefined && !prometheusUrl.startsWith('https:'),
    'mayastor-token': mayastorTokenFile !== undefined && !mayastorUrl.startsWith('https:'),
  }
  for (const [credential, sent] of Object.entries(open)) {
    if (sent) log.warn({ credential }, 'the token travels unencrypted: there is no TLS')
  }
}

type LeaseCall = (operation: keyof LeaseStore, seconds: number, error: Error | undefined) => void

function observedLeases(leases: LeaseStore, clock: Clock, onCall: LeaseCall): LeaseStore {
  const timed = async <T>(operation: keyof LeaseStore, work: Promise<T>): Promise<T> => {
    const startMs = clock.monotonic()
    const ended = (error?: Error) => onCall(operation, (clock.monotonic() - startMs) / 1000, error)
    work.then(() => ended(), ended)
    return work
  }
  return {
    get: (name) => timed('get', leases.get(name)),
    list: () => timed('list', leases.list()),
    create: (lease) => timed('create', leases.create(lease)),
    replace: (lease, version) => timed('replace', leases.replace(lease, version)),
    remove: (name, version) => timed('remove', leases.remove(name, version)),
  }
}

async function createLog({ logLevel: level, logJson }: Config): Promise<pino.Logger> {
  if (logJson) {
    const { isoTime: timestamp } = pino.stdTimeFunctions
    return pino({ level, base: null, timestamp, formatters: { level: (label) => ({ level: label }) } })
  }
  const { default: pretty } = await import('pino-pretty')
  const colorize = process.stdout.isTTY === true
  return pino(
    { level, base: null },
    pretty({ sync: true, singleLine: true, translateTime: 'UTC:yyyy-mm-dd HH:MM:ss.l', colorize }),
  )
}

class ListenError extends Error {
  readonly exitCode = 1
}

const LISTEN_PROBLEMS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is already in use',
  EADDRNOTAVAIL: 'the address is not one of this machine',
  EACCES: 'permission denied',
  ENOTFOUND: 'the host is unknown',
}

async function listening<T>(option: string, address: Address, listen: (at: Address) => Promise<T>): Promise<T> {
  try {
    return await listen(address)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const why = LISTEN_PROBLEMS[code ?? ''] ?? message
    throw new ListenError(`error: option --${option}: cannot listen on ${formatAddress(address)}: ${why}`)
  }
}

async function explain(): Promise<void> {
  const [{ runExplain }, { processIo }] = await Promise.all([
    import('./explain/command.js'),
    import('./explain/process-io.js'),
  ])
  process.exitCode = await runExplain('smart-storage-operator explain', process.argv.slice(3), processIo())
}

try {
  await (process.argv[2] === 'explain' ? explain() : main())
} catch (error) {
  const known = error instanceof ConfigExit || error instanceof ListenError
  const text = known ? error.message : ((error as Error).stack ?? error)
  const code = known ? error.exitCode : 1
  process[code === 0 ? 'stdout' : 'stderr'].write(`${text}\n`, () => process.exit(code))
}
