import { Agent, request } from 'node:http'
import { customizeRequest, topologyRequest, world } from './world.js'

/**
 * Metacontroller's other calls, from a process of their own: a customize and a replica-topology sync, each every 50 ms
 * whatever became of the ones before. Says so when it begins; told to stop, it sends `{customizeMs, topologyMs, calls,
 * failed}`: the slowest answer of each, from the moment it was due.
 */

const PERIOD_MS = 50
/** How late a call may be sent because of the timer. */
const TICK_MS = 5

const [hookUrl = '', count = ''] = process.argv.slice(2)
const now = Date.now()
const customize = Buffer.from(JSON.stringify(customizeRequest(now)))
/** Volumes at rest, each call another one: a second call for one that is still running would be refused. */
const topologies = world(Number(count))
  .volumes.filter((volume) => !volume.running)
  .slice(0, 500)
  .map((volume) => Buffer.from(JSON.stringify(topologyRequest(volume, now))))

const agent = new Agent({ keepAlive: true })

function call(path: string, body: Buffer): Promise<number | undefined> {
  return new Promise((resolve) => {
    const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length }
    const sent = request(`${hookUrl}${path}`, { method: 'POST', agent, headers }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode))
    })
    sent.on('error', () => resolve(undefined))
    sent.end(body)
  })
}

const slowest = { customizeMs: 0, topologyMs: 0 }
let calls = 0
let failed = 0
const running = new Set<Promise<void>>()

async function timed(kind: keyof typeof slowest, path: string, body: Buffer, dueMs: number): Promise<void> {
  const status = await call(path, body)
  calls++
  if (status !== 200) failed++
  slowest[kind] = Math.max(slowest[kind], performance.now() - dueMs)
}

function tick(): void {
  for (; due <= performance.now(); due += PERIOD_MS) {
    const body = topologies[Math.round(due / PERIOD_MS) % topologies.length] as Buffer
    for (const work of [
      timed('customizeMs', '/hooks/storage-policy/customize', customize, due),
      timed('topologyMs', '/hooks/replica-topology/sync', body, due),
    ]) {
      const settled: Promise<void> = work.finally(() => running.delete(settled))
      running.add(settled)
    }
  }
}

// What is loaded or read once, by the first call that needs it, is not what this measures.
await Promise.all([
  call('/hooks/storage-policy/customize', customize),
  call('/hooks/replica-topology/sync', topologies[0] as Buffer),
])
let due = performance.now()
const timer = setInterval(tick, TICK_MS)
process.on('message', async () => {
  clearInterval(timer)
  await Promise.all(running)
  process.send?.({ ...slowest, calls, failed })
  process.disconnect()
  agent.destroy()
})
process.send?.('calling')
