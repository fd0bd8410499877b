import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import pc from 'picocolors'
import t from 'tap'
import type { EmbeddedCluster } from '../../src/embedded/cluster.js'
import { type DemoOptions, runDemo } from '../../src/embedded/demo.js'
import {
  type Frame,
  frameLines,
  liveView,
  type Screen,
  type Summary,
  summaryLines,
  type VolumeRow,
  worthSeeing,
} from '../../src/embedded/demo-view.js'
import { buildScenario, HISTORY_MS, type Scenario } from '../../src/embedded/scenario.js'

const demo = fileURLToPath(new URL('../../src/embedded/demo.js', import.meta.url))
const MINUTE_MS = 60_000
/** Anything a terminal would not print. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/
const colours = pc.createColors(false)

async function run(args: readonly string[]) {
  const child = spawn(process.execPath, [demo, ...args], {
    env: { PATH: process.env['PATH'], FORCE_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const closed = once(child, 'close').then(([code]) => ({ code, stdout, stderr }))
  return { child, closed }
}

type Options = Omit<DemoOptions, 'out' | 'fast'>

async function play(options: Options) {
  const out: Screen = new PassThrough()
  let text = ''
  out.on('data', (chunk) => {
    text += chunk
  })
  const result = await runDemo({ realLimitMs: 4 * MINUTE_MS, ...options, fast: true, out })
  return { ...result, text }
}

t.test('the whole demo', async (t) => {
  const { exitCode, summary, text } = await play({})
  if (exitCode !== 0) t.comment(text)
  t.equal(exitCode, 0)
  if (summary === undefined) throw new Error('there is a summary')
  t.notMatch(text, CONTROL, 'plain lines have no control characters')
  t.match(text, /0 rules broken/)

  const { tally, held, settled, shareBefore = 1, shareAfter = 0 } = summary
  t.ok(tally.promoted >= 8, `promoted ${tally.promoted}`)
  t.ok(tally.demoted >= 8, `demoted ${tally.demoted}`)
  t.equal(tally.failed, 0)
  t.ok(shareAfter > shareBefore + 0.4, `from ${shareBefore} to ${shareAfter}`)
  t.ok(summary.mostMoving >= 2 && summary.mostMoving <= summary.cap, `at once ${summary.mostMoving}`)
  t.ok(summary.replicasMoved >= tally.promoted + tally.demoted)
  t.ok(summary.mayastorWrites > 2 * summary.replicasMoved, 'each replica takes at least two writes')

  const atTheEnd = new Map(held.map(({ reason, now }) => [reason, now]))
  for (const [reason, volumes] of [
    ['Snapshots', 1],
    ['HeldByOwner', 1],
    ['NoFittingPool', 1],
    ['Unpublished', 2],
    ['NoSeries', 2],
  ] as const) {
    t.equal(atTheEnd.get(reason), volumes, `held at the end: ${reason}`)
  }
  const ever = new Map(held.map((row) => [row.reason, row.ever]))
  for (const reason of ['YoungerThanWindow', 'WaitingForSlot', 'Cooldown']) {
    t.ok((ever.get(reason) ?? 0) > 0, `held for a while: ${reason}`)
  }
  const all = [...held, ...settled].reduce((sum, { now }) => sum + now, 0)
  t.equal(all, summary.volumes, 'every volume has one reason')

  const lines = text.split('\n')
  const ends = lines.filter((line) => / {2}end {2}/.test(line))
  t.equal(ends.filter((line) => line.includes('Promote Completed')).length, tally.promoted)
  t.equal(ends.filter((line) => line.includes('Demote Completed')).length, tally.demoted)
  for (const phase of ['ScalingUp', 'WaitingSync', 'ScalingDown']) {
    t.ok(lines.filter((line) => line.includes(` ${phase}: replica `)).length >= tally.promoted + tally.demoted, phase)
  }
})

t.test('a broken world ends with exit code 1', async (t) => {
  const cases: Record<string, { options: Options; rule: RegExp }> = {
    'more at once than allowed': {
      options: { limits: { maxMoving: 1 } },
      rule: /the cap on concurrent migrations: \d volumes/,
    },
    'a replica taken away over REST': {
      options: { onCluster: takeReplica },
      rule: /never below the wanted count: volume .* from 2 to 1, wanted 2/,
    },
    'no time at all': {
      options: { realLimitMs: 0 },
      rule: /cut short after 0 s/,
    },
    'nothing moves': {
      options: { limitMs: 0 },
      rule: /no volume was moved at all/,
    },
  }
  for (const [name, { options, rule }] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      const { exitCode, text } = await play({ limitMs: 5 * MINUTE_MS, ...options })
      t.equal(exitCode, 1)
      t.match(text, rule)
    })
  }
})

/** What the operator would never do: lowers the count of a volume that nobody moves. */
function takeReplica({ mayastor, clock }: EmbeddedCluster, { volumes }: Scenario): void {
  const uuid = volumes.find(({ name }) => name === 'docs')?.uuid
  const start = mayastor.start.bind(mayastor)
  mayastor.start = async () => {
    const url = await start()
    clock.after(HISTORY_MS + MINUTE_MS, () => {
      void clock.task(() => fetch(`${url}/v0/volumes/${uuid}/replica_count/1`, { method: 'PUT' }))
    })
    return url
  }
}

t.test('interrupted', async (t) => {
  const { child, closed } = await run(['--plain'])
  child.stdout.once('data', () => child.kill('SIGINT'))
  const { code, stderr } = await closed
  t.equal(code, 130)
  t.equal(stderr, '')
})

t.test('options', async (t) => {
  const cases = [
    { args: ['--help'], code: 0, out: /--seed <number>/, err: /^$/ },
    { args: ['--seed', 'x'], code: 2, out: /^$/, err: /a whole number below 2\^32 is needed/ },
    { args: ['--slow'], code: 2, out: /^$/, err: /^error: unknown option '--slow'\n$/ },
    { args: ['now'], code: 2, out: /^$/, err: /^error: too many arguments/ },
  ]
  for (const { args, code, out, err } of cases) {
    await t.test(args.join(' '), async (t) => {
      const result = await (await run(args)).closed
      t.equal(result.code, code)
      t.match(result.stdout, out)
      t.match(result.stderr, err)
    })
  }
})

t.test('the scenario', async (t) => {
  const startMs = Date.UTC(2026, 0, 1)
  const pools = (seed: number) => buildScenario(seed, startMs).volumes.map((volume) => volume.pools)
  t.strictSame(pools(1), pools(1), 'the same seed, the same cluster')
  t.notSame(pools(1), pools(2), 'another seed, another one')
  for (const seed of [1, 2, 3, 4, 5]) {
    const { nodes, pools, volumes } = buildScenario(seed, startMs)
    t.equal(nodes.length, 12)
    const node = new Map(pools.map((pool) => [pool.name, pool.node]))
    for (const { name, pools, replicas = pools.length } of volumes.map((v) => ({ ...v, replicas: v.pools.length }))) {
      t.equal(new Set(pools.map((pool) => node.get(pool))).size, replicas, `${seed} ${name}: one replica a node`)
    }
    for (const { load } of volumes) t.strictSame(load(startMs + MINUTE_MS), load(startMs + MINUTE_MS))
  }
})

const row = (name: string, reason: string, iops?: number): VolumeRow => ({
  name,
  tiers: 'NS',
  iops,
  wants: 'NVMe',
  reason,
  message: 'a sentence that is longer than the narrowest of all the terminals anybody uses',
})

t.test('volumes worth seeing', async (t) => {
  const rows = [
    row('a', 'OnWantedTier', 9),
    row('b', 'OnWantedTier', 99),
    row('c', 'Snapshots', 1),
    row('d', 'Snapshots', 2),
    row('e', 'NoSeries'),
  ]
  const names = (room: number) => worthSeeing(rows, room).map(({ name }) => name)
  t.strictSame(names(9), ['e', 'd', 'c', 'b', 'a'], 'held before settled, busy before idle')
  t.strictSame(names(3), ['e', 'd', 'b'], 'one of each reason first')
  t.strictSame(names(4), ['e', 'd', 'c', 'b'])
  t.strictSame(names(0), [])
})

const frame: Frame = {
  elapsedMs: 3_723_000,
  limitMs: 9_000_000,
  speed: 90,
  policy: 'tiering',
  phase: 'Active',
  tiers: [
    { tier: 'NVMe', usedBytes: 9 * 1024 ** 3, capacityBytes: 10 * 1024 ** 3 },
    { tier: 'SATA', usedBytes: 0, capacityBytes: 2 * 1024 ** 4 },
  ],
  shareBefore: 0.2,
  shareNow: undefined,
  volumesByTier: { nvme: 1, sata: 2, mixed: 3, other: 4 },
  cap: 2,
  tally: { promoted: 1, demoted: 2, failed: 0, aborted: 0, declined: 0 },
  violations: 0,
  migrations: [
    {
      name: 'orders-db',
      direction: 'Promote',
      phase: 'WaitingSync',
      reason: 'Rebuilding',
      replica: 2,
      replicas: 3,
      from: 'sata-a1',
      to: 'nvme-b1',
      rebuildPercent: 60,
    },
  ],
  volumes: Array.from({ length: 40 }, (_, i) => row(`volume-with-a-long-name-${i}`, 'Snapshots', i)),
  events: [{ elapsedMs: 1_000, kind: 'note', text: 'something happened' }],
}

t.test('the screen fits every terminal', async (t) => {
  for (const [columns, rows] of [
    [80, 23],
    [120, 39],
    [200, 60],
    [40, 10],
    [10, 3],
    [1, 1],
  ] as const) {
    const lines = frameLines(frame, columns, rows, colours)
    t.ok(lines.length <= rows, `${columns}x${rows}: ${lines.length} lines`)
    t.ok(
      lines.every((line) => [...line].length <= columns),
      `${columns}x${rows}: no line is too long`,
    )
  }
  const text = frameLines(frame, 80, 23, colours).join('\n')
  t.match(text, /policy tiering: Active +\+1:02:03 of 2:30:00, 90x/)
  t.match(text, /NVMe █████████░ 90 % of 10 GiB {4}SATA ░{10} 0 % of 2\.0 TiB/)
  t.match(text, /▲ orders-db {7}2\/3 WaitingSync ██████░░░░ {2}60 % sata-a1 → nvme-b1 Rebuilding/)
  t.match(text, /I\/O from NVMe ░{10} -, was 20 %/)
  t.match(text, /and \d+ more/)
  t.match(text, /something happened/)
})

const summary: Summary = {
  elapsedMs: 1,
  realMs: 1,
  ended: 'the time was over',
  volumes: 1,
  tally: { promoted: 0, demoted: 0, failed: 1, aborted: 0, declined: 0 },
  replicasMoved: 0,
  mostMoving: 0,
  cap: 4,
  shareBefore: undefined,
  shareAfter: undefined,
  windowMinutes: 10,
  mayastorWrites: 0,
  hookCalls: 0,
  failedSyncs: 0,
  held: [],
  settled: [],
  violations: [{ at: 0, rule: 'a rule', what: 'x'.repeat(200) }],
  contract: ['what is wrong'],
  problems: ['another problem'],
}

t.test('what went wrong is shown in full', async (t) => {
  const text = summaryLines(summary, colours, 40).join('\n')
  t.match(text, /2 rules broken/)
  t.match(text, `a rule: ${'x'.repeat(200)}`)
  t.match(text, 'Metacontroller: what is wrong')
  t.match(text, 'another problem')
})

t.test('a terminal is given back as it was', async (t) => {
  const out = Object.assign(new PassThrough(), { isTTY: true, columns: 80, rows: 24 })
  let text = ''
  out.on('data', (chunk) => {
    text += chunk
  })
  const view = liveView(out)
  view.draw(() => frame)
  t.match(text, 'MIGRATIONS')
  t.equal(out.listenerCount('resize'), 1)
  out.columns = 60
  out.emit('resize')
  view.close()
  view.close()
  t.equal(out.listenerCount('resize'), 0)
  t.ok(text.startsWith('\u001b[?25l'), 'the cursor is hidden')
  t.ok(text.endsWith('\u001b[?25h'), 'and shown again')
})
