import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { Test } from 'tap'

/** A real Prometheus for tests: the binary found in PATH, on a loopback port, with its data in a temporary folder. */

const START_MS = 20_000

function findBinary(): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, 'prometheus')
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Not in this folder.
    }
  }
  return undefined
}

/**
 * True when there is a Prometheus to test with. Without one the test `t` is skipped, loudly; in CI it fails, since a
 * comparison that silently never runs is worth nothing.
 */
export function havePrometheus(t: Test): boolean {
  if (findBinary() !== undefined) return true
  const message = 'prometheus binary not found'
  if (process.env['CI']) {
    t.fail(message)
  } else {
    process.stderr.write(
      `\n*** ${message}: NOTHING here is compared with a real Prometheus. Install one to do so. ***\n\n`,
    )
    t.pass(message, { skip: message })
  }
  return false
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const ended = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once('exit', () => resolve()))

/** Starts Prometheus with `config` (YAML) and more `flags`, waits until it is ready, and stops it with the test. */
export async function startPrometheus(t: Test, config: string, flags: readonly string[] = []): Promise<string> {
  const binary = findBinary()
  if (binary === undefined) throw new Error('prometheus binary not found')
  const folder = mkdtempSync(join(tmpdir(), 'prometheus-'))
  const file = join(folder, 'prometheus.yml')
  writeFileSync(file, config)
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const args = [
    `--config.file=${file}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    '--storage.tsdb.retention.time=100y',
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
    ...flags,
  ]
  const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.on('data', (text: Buffer) => {
    log += text.toString()
  })
  t.teardown(async () => {
    child.kill()
    await ended(child)
    rmSync(folder, { recursive: true, force: true })
  })
  for (const deadline = Date.now() + START_MS; ; ) {
    const ready = await fetch(`${url}/-/ready`).then(
      (response) => response.ok,
      () => false,
    )
    if (ready) return url
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`Prometheus did not start: ${log}`)
    await pause(50)
  }
}

export interface WrittenSeries {
  /** With `__name__`. */
  readonly labels: Readonly<Record<string, string>>
  /** Time in ms and value, ascending; undefined is a staleness marker. */
  readonly samples: readonly (readonly [number, number | undefined])[]
}

/** The NaN that marks the end of a series (prometheus/model/value, StaleNaN). */
const STALE_NAN = 0x7ff0000000000002n

function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest >= 128) {
    bytes.push((rest % 128) + 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return bytes
}

/** A protobuf field of length-delimited content. */
const field = (number: number, content: Uint8Array): Buffer<ArrayBuffer> =>
  Buffer.concat([Buffer.from([number * 8 + 2, ...varint(content.length)]), content])

function sample([timeMs, value]: readonly [number, number | undefined]): Buffer<ArrayBuffer> {
  const bits = Buffer.alloc(8)
  if (value === undefined) bits.writeBigUInt64LE(STALE_NAN)
  else bits.writeDoubleLE(value)
  return Buffer.concat([Buffer.from([9]), bits, Buffer.from([16, ...varint(timeMs)])])
}

function timeSeries({ labels, samples }: WrittenSeries): Buffer<ArrayBuffer> {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
  return Buffer.concat([
    ...pairs.map(([name, value]) =>
      field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, Buffer.from(value))])),
    ),
    ...samples.map((one) => field(2, sample(one))),
  ])
}

/** Snappy's block format without compressing: the length, then literals of up to 64 KiB. */
function snappy(content: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> {
  const parts: Buffer<ArrayBuffer>[] = [Buffer.from(varint(content.length))]
  for (let at = 0; at < content.length; at += 65_536) {
    const literal = content.subarray(at, at + 65_536)
    parts.push(Buffer.from([61 * 4, (literal.length - 1) % 256, Math.floor((literal.length - 1) / 256)]), literal)
  }
  return Buffer.concat(parts)
}

/**
 * Writes samples, staleness markers included, with their own timestamps (Prometheus remote write 1.0). The server
 * needs --web.enable-remote-write-receiver, and calls have to go forward in time by less than an hour each.
 */
export async function remoteWrite(url: string, series: readonly WrittenSeries[]): Promise<void> {
  const body = snappy(Buffer.concat(series.map((one) => field(1, timeSeries(one)))))
  const response = await fetch(`${url}/api/v1/write`, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-protobuf',
      'content-encoding': 'snappy',
      'x-prometheus-remote-write-version': '0.1.0',
    },
    body,
  })
  if (!response.ok) throw new Error(`remote write: HTTP ${response.status}: ${await response.text()}`)
}
