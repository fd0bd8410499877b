#!/usr/bin/env node
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import Fastify from 'fastify'
import { type Logger, pino } from 'pino'
import pretty from 'pino-pretty'
import { Agent, request } from 'undici'
import { ZONE_LABEL } from '../api/names.js'
import { formatTime } from '../api/time.js'
import { parseArguments, portNumber, Usage } from '../arguments.js'
import { addressOf } from './address.js'
import { EmbeddedCluster, GIB, type Load, type VolumeOptions } from './cluster.js'
import { OUTAGES } from './prometheus/server.js'
import { stopOnSignals } from './signals.js'

/**
 * `npm run playground`: the operator's own hook server for curl, on a small cluster that is always the same. There is no
 * Metacontroller: whoever calls is. Time stands still between calls. Before a hook is called again for an unchanged
 * parent, time moves on by the resyncAfterSeconds of the answer before, as if Metacontroller had waited; a changed one is
 * called for at once. So the same calls in the same order get the same answers, to the byte.
 */

const MINUTE_MS = 60_000
const DEFAULT_PORT = 8082
/** When the first call comes. */
const NOW_MS = Date.UTC(2026, 0, 1)
/** Samples gathered before: a sampling window of an hour, and a little more. */
const HISTORY_MS = 65 * MINUTE_MS
/** Age of the volume that is too young to be judged. */
const YOUNG_MS = 20 * MINUTE_MS
/** A rebuild of half a volume is seen three times on its way. */
const REBUILD_BYTES_PER_SECOND = 128 * 1024 ** 2
/** Simulated time a call may take: above every deadline of the server. */
const CALL_MS = 120_000
const BODY_LIMIT = 256 * 1024 ** 2

const NODE_ZONES = ['zone-a', 'zone-b', 'zone-c', 'zone-a', 'zone-b'] as const
/** The last node has no NVMe. */
const NVME_NODES = 4

const steady =
  (iops: number): Load =>
  () => ({ read: 0.75 * iops, write: 0.25 * iops })

type Row = Pick<VolumeOptions, 'pools' | 'load'> & Partial<VolumeOptions>

/** Numbered from 1; hooks/README.md says what each is there to show. */
const VOLUMES: readonly Row[] = [
  { pools: ['sata-1', 'sata-2'], load: steady(8_000) },
  { pools: ['sata-3'], load: steady(7_000) },
  { pools: ['nvme-2', 'nvme-3'], load: steady(20) },
  { pools: ['nvme-1', 'nvme-2'], load: steady(6_000) },
  { pools: ['sata-4', 'sata-5'], load: steady(2_000) },
  { pools: ['nvme-3'], load: steady(0), published: false },
  { pools: ['sata-2', 'sata-3'], load: steady(9_000), snapshots: 2 },
  { pools: ['nvme-1', 'nvme-3'], load: steady(5), heldByOwner: true },
  { pools: ['sata-1', 'sata-5'], load: () => undefined },
]
const YOUNG: Row = { pools: ['sata-4', 'sata-2'], load: steady(12_000), ageMs: 0 }

export interface PlaygroundOptions {
  /** Default 8082; 0: any free port. */
  readonly port?: number
  /** Makes the log of the hook server, given the simulated time in ms. Default: silent. */
  readonly log?: (now: () => number) => Logger
}

export interface Playground {
  readonly url: string
  readonly mayastorUrl: string
  readonly prometheusUrl: string
  readonly cluster: EmbeddedCluster
  stop(): Promise<void>
}

export async function startPlayground({ port = DEFAULT_PORT, log }: PlaygroundOptions = {}): Promise<Playground> {
  let now = () => NOW_MS
  const logger = log?.(() => now()) ?? pino({ level: 'silent' })
  const { level } = logger
  // Nothing yet: the cluster's start tells of an address behind this one.
  logger.level = 'silent'
  const cluster = new EmbeddedCluster({
    startMs: NOW_MS - HISTORY_MS,
    mayastor: { rebuildBytesPerSecond: REBUILD_BYTES_PER_SECOND },
    log: logger,
  })
  now = () => cluster.clock.now()
  const mayastorUrl = addressOf(cluster.mayastor)
  const prometheusUrl = addressOf(cluster.prometheus)
  populate(cluster)
  await cluster.start(HISTORY_MS - YOUNG_MS)
  addVolume(cluster, YOUNG, VOLUMES.length + 1)
  await cluster.run(YOUNG_MS)
  logger.level = level
  const front = frontOf(cluster)
  const stop = async () => {
    await front.close()
    await cluster.stop()
  }
  try {
    const url = await front.listen({ host: '127.0.0.1', port })
    return { url, mayastorUrl: mayastorUrl(), prometheusUrl: prometheusUrl(), cluster, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function populate(cluster: EmbeddedCluster): void {
  for (const [index, zone] of NODE_ZONES.entries()) {
    const number = index + 1
    const node = `node-${number}`
    cluster.addNode(node, { [ZONE_LABEL]: zone })
    const labels = (tier: string) => ({ tier, [ZONE_LABEL]: zone })
    cluster.addPool({ name: `sata-${number}`, node, capacityBytes: 400 * GIB, labels: labels('sata') })
    if (number > NVME_NODES) continue
    cluster.addPool({ name: `nvme-${number}`, node, capacityBytes: 100 * GIB, labels: labels('nvme') })
  }
  for (const [index, row] of VOLUMES.entries()) addVolume(cluster, row, index + 1)
}

function addVolume(cluster: EmbeddedCluster, row: Row, number: number): void {
  const uuid = `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
  cluster.addVolume({ uuid, sizeBytes: 10 * GIB, storageClass: 'mayastor', ...row })
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** What stands before the hook server: it moves time, passes on bytes as they are, and has the playground's own routes. */
function frontOf(cluster: EmbeddedCluster) {
  const { clock, mayastor, prometheus } = cluster
  const agent = new Agent()
  const last = new Map<string, { readonly edit: string; readonly due: number }>()
  let queue: Promise<unknown> = Promise.resolve()

  const forward = async (method: string, path: string, type: string | undefined, body: Buffer): Promise<Answer> => {
    const answer = await request(`${cluster.hookUrl}${path}`, {
      method,
      headers: type === undefined ? {} : { 'content-type': type },
      body: body.length === 0 ? null : body,
      dispatcher: agent,
    })
    return { status: answer.statusCode, headers: answer.headers, body: await answer.body.text() }
  }

  /** Time passes before the call, and in it only where something in the cluster takes time. */
  const call = async (method: string, path: string, type: string | undefined, body: Buffer): Promise<Answer> => {
    const { uid, edit } = path.startsWith('/hooks/') ? parentOf(body) : { edit: '' }
    const before = last.get(uid ?? '')
    if (before !== undefined && before.edit === edit && before.due > clock.now()) await clock.run(before.due)
    let answered = false
    const answer = clock.task(async () => {
      try {
        return await forward(method, path, type, body)
      } finally {
        answered = true
      }
    })
    await clock.run(clock.now() + CALL_MS, () => answered)
    // Turns of the server's loop that began meanwhile come to their end, so that the next call never meets them.
    await clock.run(clock.now())
    const given = await answer
    const seconds = given.status === 200 ? field(parse(given.body), 'resyncAfterSeconds') : undefined
    if (uid !== undefined && typeof seconds === 'number') last.set(uid, { edit, due: clock.now() + seconds * 1000 })
    return given
  }

  const app = Fastify({ bodyLimit: BODY_LIMIT, forceCloseConnections: true })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.addHook('onClose', () => agent.close())
  app.post('/playground/prometheus', async ({ body }, reply) => {
    const wanted = field(parse(String(body ?? '')), 'outage')
    const outage = OUTAGES.find((known) => known === wanted)
    if (outage === undefined && wanted !== 'none') {
      return reply.code(400).send({ error: `outage is one of none, ${OUTAGES.join(', ')}` })
    }
    prometheus.outage = outage
    return { outage: outage ?? 'none' }
  })
  app.get('/playground/writes', async () =>
    mayastor.writes.map(({ at, ...write }) => ({ at: formatTime(at), ...write })),
  )
  app.all('/*', async ({ method, url, headers, body }, reply) => {
    const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0)
    const turn = queue.then(() => call(method, url, headers['content-type'], bytes))
    queue = turn.catch(() => {})
    const answer = await turn
    for (const name of ['content-type', 'retry-after']) {
      const value = answer.headers[name]
      if (value !== undefined) reply.header(name, value)
    }
    return reply.code(answer.status).send(answer.body)
  })
  return app
}

interface Parent {
  readonly uid?: string
  /** Changes with what Metacontroller calls a hook for at once. */
  readonly edit: string
}

function parentOf(body: Buffer): Parent {
  const metadata = field(field(parse(body.toString()), 'parent'), 'metadata')
  const uid = field(metadata, 'uid')
  const edit = JSON.stringify([field(metadata, 'generation'), field(metadata, 'deletionTimestamp')])
  return { ...(typeof uid === 'string' ? { uid } : {}), edit }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
}

function readArguments(argv: readonly string[]): { port: number } {
  const program = new Command('npm run playground --')
    .description("The operator's hooks for curl, on a small simulated cluster; see hooks/README.md. ^C stops it.")
    .option('--port <number>', 'serve the hooks on this port; 0: any free one', portNumber, DEFAULT_PORT)
  return parseArguments(program, argv)
}

function screenLog(now: () => number): Logger {
  const colorize = process.stdout.isTTY === true
  return pino(
    { level: 'info', base: null, timestamp: () => `,"time":${now()}` },
    pretty({ sync: true, singleLine: true, translateTime: 'UTC:yyyy-mm-dd HH:MM:ss', colorize }),
  )
}

async function main(): Promise<void> {
  const { port } = readArguments(process.argv.slice(2))
  const { url, mayastorUrl, prometheusUrl, cluster, stop } = await startPlayground({ port, log: screenLog }).catch(
    (error: NodeJS.ErrnoException) => {
      throw error.code === 'EADDRINUSE' ? new Usage(1, `error: port ${port} is in use; try --port`) : error
    },
  )
  process.stdout.write(
    [
      `hooks       ${url}/hooks/{storage-policy,replica-topology}/...`,
      `Mayastor    ${mayastorUrl}/v0/volumes?max_entries=20, /v0/pools, /v0/nodes`,
      `Prometheus  ${prometheusUrl}/api/v1/query; POST ${url}/playground/prometheus {"outage": "503"} breaks it`,
      `time        ${formatTime(cluster.clock.now())}, standing still between calls`,
      'examples    hooks/*/examples, to be called as hooks/README.md says',
      '',
      '',
    ].join('\n'),
  )
  stopOnSignals(stop)
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await main()
  } catch (error) {
    const text = error instanceof Usage ? error.message : `the playground failed: ${(error as Error).stack}`
    const code = error instanceof Usage ? error.exitCode : 1
    process[code === 0 ? 'stdout' : 'stderr'].write(`${text}\n`)
    process.exitCode = code
  }
}
