import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Signal } from '../../src/decide/iops.js'
import { SimulatedClock } from '../../src/embedded/clock.js'
import { SimulatedMayastor } from '../../src/embedded/mayastor/index.js'
import { type BenchVolume, prometheusAnswers, replicaId, type World, world } from './world.js'

/**
 * Mayastor with every volume of the benchmark and a Prometheus that answers from bytes made beforehand, in a process of
 * their own. Sends `{mayastorUrl, prometheusUrl}` once both listen and answers every message with `{queries}` since
 * the last one.
 */

const SIGNAL_OF: readonly [RegExp, string][] = [
  [/\(rate\(/, 'Rate'],
  [/count_over_time\(/, 'Samples'],
  [/timestamp\(/, 'Last'],
  [/ offset /, 'Coverage'],
]

function signalOf(query: string): Signal | undefined {
  const side = query.includes('volume_num_read_ops') ? 'read' : 'write'
  const form = SIGNAL_OF.find(([pattern]) => pattern.test(query))
  return form === undefined ? undefined : (`${side}${form[1]}` as Signal)
}

async function startPrometheus(cluster: World): Promise<{ url: string; takeQueries: () => number }> {
  const answers = prometheusAnswers(cluster, Date.now())
  let queries = 0
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text
    })
    request.on('end', () => {
      queries++
      const inUrl = new URL(request.url ?? '', 'http://prometheus').searchParams.get('query')
      const signal = signalOf(inUrl ?? new URLSearchParams(body).get('query') ?? '')
      if (signal === undefined) return response.writeHead(400).end()
      const bytes = answers[signal]
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': bytes.length }).end(bytes)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const takeQueries = () => {
    const taken = queries
    queries = 0
    return taken
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, takeQueries }
}

async function startMayastor({ nodes, pools, volumes }: World): Promise<string> {
  const clock = new SimulatedClock(Date.now())
  const mayastor = new SimulatedMayastor({ clock })
  for (const { name, zone } of nodes) mayastor.addNode({ id: name, labels: { 'topology.kubernetes.io/zone': zone } })
  for (const { name, node, tier, capacityBytes } of pools) {
    mayastor.addPool({ id: name, node, capacityBytes, labels: { tier } })
  }
  for (const volume of volumes) mayastor.createVolume(volumeOf(volume))
  // Mayastor tells what its nodes last reported.
  await clock.run(clock.now() + 60_000)
  return mayastor.start()
}

function volumeOf(volume: BenchVolume) {
  return {
    uuid: volume.id,
    sizeBytes: volume.sizeBytes,
    replicas: volume.pools.map(({ name: pool }, r) => ({ uuid: replicaId(volume, r), pool })),
    allocatedBytes: volume.sizeBytes / 2,
  }
}

const cluster = world(Number(process.argv[2]))
const { url: prometheusUrl, takeQueries } = await startPrometheus(cluster)
const mayastorUrl = await startMayastor(cluster)
process.on('message', () => process.send?.({ queries: takeQueries() }))
process.send?.({ prometheusUrl, mayastorUrl })
