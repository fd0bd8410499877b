import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Agent, get, request } from 'node:http'
import { createServer } from 'node:net'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { median } from './numbers.js'
import { syncRequest, world } from './world.js'

/**
 * What a sync of many volumes costs: the real operator in a process of its own, called as Metacontroller calls it.
 * Prints a table with the limits beside it; exit code 1 when one is broken. `--quick`: not the 10,000 volumes.
 */

const RATIO_LIMIT = 2
/** Cost per volume at 10,000 against that at 1,000: it does not grow, give or take what a measurement scatters. */
const GROWTH_LIMIT = 1.25
const ANSWER_LIMIT_MS = 250
const READY_LIMIT_MS = 500
const STARTS = 5
const JSON_RUNS = 5
/** Syncs measured after a cold one and a warming one, at least. */
const WARM_RUNS = { 100: 21, 1000: 9, 10000: 7 } as const
const DEADLINE_MS = 60_000
/** The operator reads every volume of Mayastor this often; one such reading belongs to what other calls wait for. */
const LISTING_MS = 30_000

type Count = keyof typeof WARM_RUNS

interface Measured {
  readonly volumes: Count
  readonly requestBytes: number
  readonly responseBytes: number
  readonly coldMs: number
  readonly hookMs: number
  readonly jsonMs: number
  readonly peakMb: number
  readonly queries: readonly number[]
  readonly customizeMs: number
  readonly topologyMs: number
  readonly calls: number
  readonly failed: number
}

const folder = mkdtempSync(join(tmpdir(), 'bench-'))
const children = new Set<ChildProcess>()

function own<T extends ChildProcess>(child: T): T {
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

const helper = (file: string, ...args: readonly string[]) =>
  own(fork(fileURLToPath(new URL(file, import.meta.url)), args, { execArgv: [] }))

function said<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const gone = (code: number | null) => reject(new Error(`a helper of the benchmark exited with ${code}`))
    child.once('exit', gone)
    child.once('message', (message) => {
      child.removeListener('exit', gone)
      resolve(message as T)
    })
  })
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

interface Operator {
  readonly child: ChildProcess
  readonly hookUrl: string
  readonly readyMs: number
}

/** The operator as its image starts it, without a Kubernetes API; its log goes to a file. */
async function startOperator(urls: {
  readonly prometheusUrl: string
  readonly mayastorUrl: string
}): Promise<Operator> {
  const [hooks, health, metrics] = [await freePort(), await freePort(), await freePort()]
  const log = openSync(join(folder, 'operator.log'), 'w')
  const startMs = performance.now()
  const child = own(
    spawn(
      process.execPath,
      [
        '--enable-source-maps',
        fileURLToPath(new URL('../../src/main.js', import.meta.url)),
        '--log-json',
        `--hook-addr=127.0.0.1:${hooks}`,
        `--health-addr=127.0.0.1:${health}`,
        `--metrics-addr=127.0.0.1:${metrics}`,
        `--prometheus-url=${urls.prometheusUrl}`,
        `--mayastor-url=${urls.mayastorUrl}`,
        '--diskpool-api-version=openebs.io/v1beta3',
      ],
      { stdio: ['ignore', log, 'inherit'], env: { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent' } },
    ),
  )
  closeSync(log)
  while ((await statusOf(`http://127.0.0.1:${health}/readyz`)) !== 200) {
    if (performance.now() - startMs > DEADLINE_MS || child.exitCode !== null) throw new Error('no 200 on /readyz')
    await setTimeout(2)
  }
  return { child, hookUrl: `http://127.0.0.1:${hooks}`, readyMs: performance.now() - startMs }
}

function statusOf(url: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    get(url, { agent: false }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode))
    }).on('error', () => resolve(undefined))
  })
}

async function stopOperator({ child }: Operator): Promise<void> {
  child.kill('SIGTERM')
  await ended(child)
}

/** Peak of the resident set of a process; 0 where the system does not say. */
function peakMb({ pid }: ChildProcess): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
  } catch {
    return 0
  }
}

const agent = new Agent({ keepAlive: true })

/** One sync from its first byte to the last of its answer. */
function sync(hookUrl: string, body: Buffer): Promise<{ ms: number; bytes: number; text: () => string }> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now()
    const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length }
    const sent = request(`${hookUrl}/hooks/storage-policy/sync`, { method: 'POST', agent, headers }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        const ms = performance.now() - startMs
        const text = () => Buffer.concat(chunks).toString('utf8')
        if (response.statusCode !== 200) return reject(new Error(`sync: HTTP ${response.statusCode}: ${text()}`))
        resolve({ ms, bytes: chunks.reduce((sum, chunk) => sum + chunk.length, 0), text })
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

/** A benchmark of answers that decide nothing would be worth nothing. */
function checkAnswer(text: string, count: number): void {
  const { children, status } = JSON.parse(text)
  const reasons = status.reasons.map(({ reason }: { reason: string }) => reason)
  if (children.length !== count) throw new Error(`${children.length} children for ${count} volumes`)
  for (const reason of [
    'BetweenWatermarks',
    'OnWantedTier',
    'HeldByOwner',
    'Cooldown',
    'Migrating',
    'WaitingForSlot',
  ]) {
    if (!reasons.includes(reason)) throw new Error(`no volume is ${reason}: ${reasons.join()}`)
  }
}

async function measure(volumes: Count): Promise<Measured> {
  const standIns = helper('stand-ins.js', String(volumes))
  const urls = await said<{ prometheusUrl: string; mayastorUrl: string }>(standIns)
  const body = Buffer.from(JSON.stringify(syncRequest(world(volumes), Date.now())))

  const file = join(folder, 'request.json')
  writeFileSync(file, body)
  const json = helper('json.js', file, String(JSON_RUNS))
  const { parseMs, stringifyMs } = await said<{ parseMs: number; stringifyMs: number }>(json)
  await ended(json)

  const operator = await startOperator(urls)
  const { hookUrl } = operator
  const callers = helper('callers.js', hookUrl, String(volumes))
  await said(callers)
  const queries: number[] = []
  const counted = async () => {
    const one = await sync(hookUrl, body)
    standIns.send('count')
    queries.push((await said<{ queries: number }>(standIns)).queries)
    return one
  }
  const cold = await counted()
  checkAnswer(cold.text(), volumes)
  await counted()
  const warm: number[] = []
  const againMs = performance.now() + LISTING_MS
  while (warm.length < WARM_RUNS[volumes] || (volumes === 10_000 && performance.now() < againMs)) {
    warm.push((await counted()).ms)
  }
  await logged()
  callers.send('stop')
  const others = await said<Pick<Measured, 'customizeMs' | 'topologyMs' | 'calls' | 'failed'>>(callers)
  const peak = peakMb(operator.child)
  await stopOperator(operator)
  standIns.kill()
  return {
    volumes,
    requestBytes: body.length,
    responseBytes: cold.bytes,
    coldMs: cold.ms,
    hookMs: median(warm),
    jsonMs: parseMs + stringifyMs,
    peakMb: peak,
    queries,
    ...others,
  }
}

/** Waits until the operator's log has stopped growing: the lines of the last sync belong to what others wait for. */
async function logged(): Promise<void> {
  const size = () => statSync(join(folder, 'operator.log')).size
  for (let before = -1; size() !== before; ) {
    before = size()
    await setTimeout(200)
  }
}

async function measureStarts(): Promise<number> {
  const times: number[] = []
  for (let start = 0; start < STARTS; start++) {
    const operator = await startOperator({ prometheusUrl: 'http://127.0.0.1:1', mayastorUrl: 'http://127.0.0.1:1' })
    times.push(operator.readyMs)
    operator.child.kill('SIGKILL')
    await ended(operator.child)
  }
  return median(times)
}

type Cell = string | { readonly text: string; readonly ok: boolean }
interface Row {
  readonly name: string
  readonly cells: readonly Cell[]
  readonly limit?: string
}

const ms = (value: number) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
const mb = (value: number) => `${value < 10 ? value.toFixed(1) : Math.round(value)} MB`

function rows(all: readonly Measured[], readyMs: number): Row[] {
  const thousand = all.find(({ volumes }) => volumes === 1_000)
  const perVolume = ({ hookMs, volumes }: Measured) => (hookMs * 1000) / volumes
  const growth = (one: Measured) => (thousand === undefined ? 1 : perVolume(one) / perVolume(thousand))
  const expected = all[0]?.queries[0]
  const each = (name: string, cell: (one: Measured) => Cell, limit?: string): Row => ({
    name,
    cells: all.map(cell),
    ...(limit === undefined ? {} : { limit }),
  })
  return [
    each('sync request', (one) => mb(one.requestBytes / 1e6)),
    each('answer', (one) => mb(one.responseBytes / 1e6)),
    each('hook, first call', (one) => ms(one.coldMs)),
    each('hook, median', (one) => ms(one.hookMs)),
    each('JSON.parse + JSON.stringify', (one) => ms(one.jsonMs)),
    each(
      'ratio of the two',
      (one) => {
        const ratio = one.hookMs / one.jsonMs
        return { text: ratio.toFixed(2), ok: one.volumes !== 10_000 || ratio <= RATIO_LIMIT }
      },
      `at most ${RATIO_LIMIT} at 10,000`,
    ),
    each(
      'hook per volume',
      (one) => ({
        text: `${Math.round(perVolume(one))} µs`,
        ok: one.volumes !== 10_000 || growth(one) <= GROWTH_LIMIT,
      }),
      `at 10,000 at most ${GROWTH_LIMIT} times 1,000's`,
    ),
    each('peak memory', (one) => mb(one.peakMb)),
    each(
      'Prometheus queries a sync',
      ({ queries }) => ({
        text: [...new Set(queries)].join(' or '),
        ok: queries.every((count) => count === expected && count > 0),
      }),
      'the same for all',
    ),
    each(
      'slowest customize beside it',
      (one) => ({ text: ms(one.customizeMs), ok: one.customizeMs < ANSWER_LIMIT_MS }),
      `under ${ANSWER_LIMIT_MS} ms`,
    ),
    each(
      'slowest replica-topology',
      (one) => ({ text: ms(one.topologyMs), ok: one.topologyMs < ANSWER_LIMIT_MS }),
      `under ${ANSWER_LIMIT_MS} ms`,
    ),
    each(
      'of calls, not answered 200',
      ({ calls, failed }) => ({ text: `${failed} of ${calls}`, ok: failed === 0 && calls > 0 }),
      'none',
    ),
    {
      name: 'start to 200 on /readyz',
      cells: [{ text: ms(readyMs), ok: readyMs <= READY_LIMIT_MS }],
      limit: `at most ${READY_LIMIT_MS} ms, median of ${STARTS}`,
    },
  ]
}

function printed(header: readonly string[], table: readonly Row[]): string {
  const text = (cell: Cell) => (typeof cell === 'string' ? cell : `${cell.text}${cell.ok ? '' : ' !'}`)
  const lines = [
    ['', ...header, 'limit'],
    ...table.map(({ name, cells, limit = '' }) => [name, ...header.map((_, i) => text(cells[i] ?? '')), limit]),
  ]
  const width = (column: number) => Math.max(...lines.map((line) => line[column]?.length ?? 0))
  return lines
    .map((line) => {
      const [name = '', ...others] = line.map((cell, i) => (i === 0 ? cell.padEnd(width(0)) : cell.padStart(width(i))))
      others[others.length - 1] = line.at(-1) ?? ''
      return [name, ...others].join('  ').trimEnd()
    })
    .join('\n')
}

const { quick } = parseArgs({ options: { quick: { type: 'boolean', default: false } } }).values
const counts: readonly Count[] = quick ? [100, 1_000] : [100, 1_000, 10_000]
try {
  const load = loadavg()[0]?.toFixed(1)
  const readyMs = await measureStarts()
  const all: Measured[] = []
  for (const count of counts) all.push(await measure(count))
  const table = rows(all, readyMs)
  const header = all.map(({ volumes }) => `${volumes.toLocaleString('en')} volumes`)
  process.stdout.write(`${printed(header, table)}\n\nload average at the start: ${load}\n`)
  const broken = table.filter(({ cells }) => cells.some((cell) => typeof cell !== 'string' && !cell.ok))
  for (const { name, limit } of broken) process.stdout.write(`over the limit: ${name}: ${limit}\n`)
  process.exitCode = broken.length === 0 ? 0 : 1
} finally {
  for (const child of children) child.kill('SIGKILL')
  agent.destroy()
  rmSync(folder, { recursive: true, force: true })
}
