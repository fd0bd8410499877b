#!/usr/bin/env node
import { readFileSync, realpathSync } from 'node:fs'
import { type AddressInfo, createServer, connect as openConnection, type Server, type Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { parseAllDocuments } from 'yaml'
import type { KubernetesObject } from '../api/kubernetes.js'
import { DEFAULT_DISKPOOL_API_VERSION, GROUP, ZONE_LABEL } from '../api/names.js'
import { parseArguments, portNumber, Usage } from '../arguments.js'
import { lazyKubeConfig } from '../clients/kubernetes.js'
import { addressOf } from './address.js'
import { EmbeddedCluster, GIB } from './cluster.js'
import { stopOnSignals } from './signals.js'

/**
 * The simulated Mayastor and the Prometheus stand-in on real time and at fixed ports, for an operator and a Metacontroller
 * that are the real ones: what the overlay `simulated` runs, and the end-to-end test. Its world is a file of DiskPools and
 * persistent volumes, the same that is applied to the cluster. It keeps the status of the DiskPools up to date, as
 * Mayastor's own operator does.
 */

/** Simulated time follows the real one in steps of at most this. */
const TICK_MS = 50
/** Samples gathered before the start: a sampling window of an hour, and a little more. */
const HISTORY_MS = 65 * 60_000
const POOL_STATUS_MS = 5_000
/** Share of the operations that read. */
const READ_SHARE = 0.7
const CAPACITY = `simulated.${GROUP}/capacity`
const POOLS = `simulated.${GROUP}/pools`
const IOPS = `simulated.${GROUP}/iops`

export interface LiveOptions {
  /** Text of the manifests. */
  readonly world: string
  readonly host: string
  /** 0: any free port. */
  readonly mayastorPort: number
  readonly prometheusPort: number
  /** Keeps the DiskPools' status; undefined: nobody does. */
  readonly pools?: PoolStatusWriter | undefined
  readonly log?: (line: string) => void
}

export interface Live {
  readonly mayastorUrl: string
  readonly prometheusUrl: string
  /** Its simulated Mayastor is where people and failures act. */
  readonly cluster: EmbeddedCluster
  stop(): Promise<void>
}

/** Replaces `status` of a DiskPool. */
export type PoolStatusWriter = (name: string, status: object) => Promise<void>

export async function startLive(options: LiveOptions): Promise<Live> {
  const { host, mayastorPort, prometheusPort, pools, log = () => {} } = options
  const cluster = new EmbeddedCluster({ startMs: Date.now() - HISTORY_MS })
  const mayastorUrl = addressOf(cluster.mayastor)
  const prometheusUrl = addressOf(cluster.prometheus)
  populate(cluster, options.world)
  await cluster.start(HISTORY_MS)
  await cluster.stopServer()

  let stopped = false
  const tick = () => cluster.clock.after(TICK_MS, tick)
  tick()
  const keepPace = async (jumpMs: number) => {
    await setTimeout(Math.max(0, cluster.clock.now() + jumpMs - Date.now()))
  }
  const time = cluster.run(Number.POSITIVE_INFINITY, () => stopped, keepPace)
  const statuses = keepStatuses(cluster, pools, log, () => stopped)
  const fronts = [await front(host, mayastorPort, mayastorUrl()), await front(host, prometheusPort, prometheusUrl())]
  const [mayastor, prometheus] = fronts.map((server) => `http://${host}:${(server.address() as AddressInfo).port}`)
  return {
    mayastorUrl: mayastor as string,
    prometheusUrl: prometheus as string,
    cluster,
    stop: async () => {
      stopped = true
      for (const server of fronts) server.close()
      await Promise.all([time, statuses])
      await cluster.stop()
    },
  }
}

function populate(cluster: EmbeddedCluster, world: string): void {
  const objects = parseAllDocuments(world).map((document) => document.toJS() as KubernetesObject)
  const nodes = new Set<string>()
  for (const { kind, metadata, spec } of objects) {
    if (kind !== 'DiskPool') continue
    const { node, topology } = spec as unknown as { node: string; topology: { labelled: Record<string, string> } }
    const labels = topology.labelled
    const zone = labels[ZONE_LABEL]
    if (!nodes.has(node)) cluster.addNode(node, zone === undefined ? {} : { [ZONE_LABEL]: zone })
    nodes.add(node)
    const capacityBytes = gib(metadata?.annotations?.[CAPACITY], metadata?.name)
    cluster.addPool({ name: metadata?.name as string, node, capacityBytes, labels })
  }
  for (const { kind, metadata, spec } of objects) {
    if (kind !== 'PersistentVolume') continue
    const { csi, capacity, storageClassName } = spec as unknown as {
      csi: { volumeHandle: string }
      capacity: { storage: string }
      storageClassName: string
    }
    // Anything but a number: the exporter does not know the volume.
    const iops = Number(metadata?.annotations?.[IOPS])
    cluster.addVolume({
      uuid: csi.volumeHandle,
      sizeBytes: gib(capacity.storage, metadata?.name),
      pools: (metadata?.annotations?.[POOLS] ?? '').split(/\s+/),
      storageClass: storageClassName,
      load: () => (Number.isNaN(iops) ? undefined : { read: READ_SHARE * iops, write: (1 - READ_SHARE) * iops }),
    })
  }
}

function gib(text: string | undefined, of: string | undefined): number {
  const match = /^(\d+)Gi$/.exec(text ?? '')
  if (match === null) throw new Usage(2, `${of}: a size such as 20Gi is needed, not ${text}`)
  return Number(match[1]) * GIB
}

/** Passes connections on to a stand-in, which listens on a loopback port of its own choice. */
function front(host: string, port: number, url: string): Promise<Server> {
  const target = Number(new URL(url).port)
  const server = createServer((near: Socket) => {
    const far = openConnection(target, '127.0.0.1')
    near.pipe(far).pipe(near)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve(server))
  })
}

async function keepStatuses(
  cluster: EmbeddedCluster,
  write: PoolStatusWriter | undefined,
  log: (line: string) => void,
  stopped: () => boolean,
): Promise<void> {
  if (write === undefined) return
  for (let next = 0; !stopped(); await setTimeout(TICK_MS)) {
    if (Date.now() < next) continue
    next = Date.now() + POOL_STATUS_MS
    for (const { id } of cluster.mayastor.truth.pools.values()) {
      const ref = { apiVersion: DEFAULT_DISKPOOL_API_VERSION, kind: 'DiskPool', namespace: 'openebs', name: id }
      const status = cluster.store.get(ref)?.status ?? {}
      // Written whether or not it changed: the DiskPool may have been deleted and made again.
      await write(id, status).catch((error: Error) => log(`DiskPool ${id}: ${error.message.split('\n', 1)[0]}`))
    }
  }
}

/** Writes through the Kubernetes API, where access to one is configured. */
export async function diskPoolStatuses(kubeconfigs: readonly string[]): Promise<PoolStatusWriter | undefined> {
  const config = await lazyKubeConfig(kubeconfigs)()
  if (config === undefined) return undefined
  const { CustomObjectsApi, setHeaderOptions, PatchStrategy } = await import('@kubernetes/client-node')
  const api = config.makeApiClient(CustomObjectsApi)
  const [group = '', version = ''] = DEFAULT_DISKPOOL_API_VERSION.split('/')
  return async (name, status) => {
    await api.patchNamespacedCustomObjectStatus(
      { group, version, namespace: 'openebs', plural: 'diskpools', name, body: { status } },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    )
  }
}

interface Arguments {
  readonly world: string
  readonly host: string
  readonly mayastorPort: number
  readonly prometheusPort: number
}

function readArguments(argv: readonly string[]): Arguments {
  const program = new Command('node dist/src/embedded/live.js')
    .description('A simulated Mayastor and Prometheus on real time, for the overlay simulated. ^C stops it.')
    .requiredOption('--world <file>', 'manifests of its DiskPools and persistent volumes')
    .option('--host <address>', 'listen here', '127.0.0.1')
    .option('--mayastor-port <number>', "port of Mayastor's REST API; 0: any free one", portNumber, 8081)
    .option('--prometheus-port <number>', 'port of Prometheus; 0: any free one', portNumber, 9090)
  return parseArguments(program, argv)
}

async function main(): Promise<void> {
  const { world, ...addresses } = readArguments(process.argv.slice(2))
  const say = (line: string) => process.stdout.write(`${line}\n`)
  const { KUBECONFIG: kubeconfig } = process.env
  const pools = await diskPoolStatuses(kubeconfig === undefined ? [] : [kubeconfig])
  const live = await startLive({ world: readFileSync(world, 'utf8'), ...addresses, pools, log: say })
  say(`Mayastor at ${live.mayastorUrl}, Prometheus at ${live.prometheusUrl}`)
  if (pools === undefined) say('no Kubernetes API: nobody keeps the status of the DiskPools')
  stopOnSignals(live.stop)
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await main()
  } catch (error) {
    const known = error instanceof Usage
    const code = known ? error.exitCode : 1
    process[code === 0 ? 'stdout' : 'stderr'].write(`${known ? error.message : (error as Error).stack}\n`)
    process.exitCode = code
  }
}
